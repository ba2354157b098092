"""Drops what its owner asked to keep out: X-Robots-Tag of the image, and robots tokens of the pages it stood on."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.reasons import no_reasons, sift
from curation.stage import Context, Rule, Verdicts
from curation.table.captions import explode
from curation.table.robots import words as robots_words

Token = Literal["noai", "noimageai", "none", "noindex", "noimageindex"]


class OptOut(Rule):
    """A token counts wherever it stands: in any of several headers, in any case, behind a user agent's name
    (`otherbot: noai`) or another directive (`unavailable_after: ..., noai`). When in doubt the owner is obeyed.

    The token `none` means noindex and nofollow, so it also counts when `noindex` is asked for.
    An image header drops the pair (reason: the token). A page drops the captions it gave (`page_<token>`), and the pair
    when none is left.
    """

    kind: Literal["opt_out"] = "opt_out"
    reads: ClassVar[tuple[str, ...]] = ("x_robots_tag", "captions.page_robots")
    hides_images: ClassVar[bool] = True

    tokens: tuple[Token, ...] = ("noai", "noimageai")
    pages: bool = True

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        header = self._hits(pairs.column("x_robots_tag"))
        if not self.pages:
            return Verdicts(reason=header)
        flat = explode(pairs)
        page = self._hits(flat.column("page_robots"), "page_")
        # Captions of a pair that is dropped for its own header are not counted as dropped for their page's.
        lost = header.is_valid().to_numpy(zero_copy_only=False)[flat.column("row").to_numpy()]
        page = pa.array(np.where(lost, None, page.to_numpy(zero_copy_only=False)), pa.string())
        found = sift(flat, page, pairs.num_rows)
        reason = pc.coalesce(header, found.reason)
        return Verdicts(reason=reason, captions=found.captions, caption_drops=found.caption_drops)

    def _hits(self, column: pa.ChunkedArray, prefix: str = "") -> pa.Array:
        """The first token asked for of each text, null where there is none."""
        if not len(column):
            return no_reasons(0)
        encoded = column.combine_chunks().dictionary_encode()
        hits = [self.hit(text) for text in encoded.dictionary.to_pylist()]
        return pa.array([prefix + hit if hit else None for hit in hits], pa.string()).take(encoded.indices)

    def hit(self, robots: str) -> str | None:
        """The token by which a joined robots text opts out, or None."""
        if not robots:
            return None
        words = robots_words(robots)
        for token in self.tokens:
            if token in words or token == "noindex" and "none" in words:
                return token
        return None
