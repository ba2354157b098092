"""Drops pairs that stand on lists: of urls, domains, image hashes (sha256) or perceptual hashes."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.lists import index
from curation.methods.lists.entries import entry_batches
from curation.methods.lists.forms import Of, domains_of, forms_of, urls_of
from curation.methods.lists.sets import KeySet, NearSet
from curation.methods.reasons import no_reasons, sift
from curation.stage import Context, Rule, Stage, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline import storage
from pipeline.errors import RecipeError
from pipeline.log import get_logger
from pipeline.settings import PathText, Settings

log = get_logger("curation")
_FORMS = {
    "url": "an address, such as https://x.org/a.jpg",
    "domain": "a host or domain, such as x.org",
    "sha256": "64 hex digits",
    "phash": "16 hex digits",
}
Find = Callable[[pa.Array], pa.Array]
"""Values of a column -> the entry that each hits, or null."""
_checked: set[str] = set()


class BlockedBy(Settings):
    """One list (methods/lists/ says how files and entries are written), or the index of one that `clipmill index-list`
    made: for lists of millions.

    of      what is listed. url and domain are looked for in the image's address and in those of its pages
    name    in the reasons: `domain_adult`; without one `domain`
    column  of a parquet file, or of the objects in JSON
    radius  of perceptual hashes: bits that may differ
    """

    of: Of
    path: PathText
    name: str = Field("", pattern=r"^([a-z][a-z0-9_]*)?$")
    column: str | None = None
    radius: int = Field(4, ge=0, le=16)

    @property
    def reason(self) -> str:
        return f"{self.of}_{self.name}" if self.name else self.of


class BlockList(Rule):
    """The reason is what is listed and the list's name, the detail the entry; of several the first in the recipe.

    pages         what a listed page (or its domain) takes: `pair`, `caption` the captions that stood on it and the pair
                  with the last of them, `ignore` nothing. A caption that several pages carry is known by one of them
    min_contrast  flatter images are not held against perceptual hashes: theirs is noise
    malformed     an entry that cannot be what its list holds: an `error` naming file and line before any work, or
                  `skip`: left out with a warning
    """

    kind: Literal["block_list"] = "block_list"
    hides_images: ClassVar[bool] = True

    lists: tuple[BlockedBy, ...] = Field(min_length=1)
    pages: Literal["pair", "caption", "ignore"] = "pair"
    min_contrast: float = Field(4.0, ge=0)
    malformed: Literal["error", "skip"] = "error"

    @model_validator(mode="after")
    def _names_differ(self) -> "BlockList":
        reasons = [each.reason for each in self.lists]
        twice = sorted({each for each in reasons if reasons.count(each) > 1})
        if twice:
            raise ValueError(f"two lists give the reason {twice[0]}: give each another `name`")
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        of = {each.of for each in self.lists}
        places = ("url", "captions.page_url") if of & {"url", "domain"} else ()
        return (*places, *(("image_sha256",) * ("sha256" in of)), *(("phash", "contrast") if "phash" in of else ()))

    def files(self) -> dict[str, str]:
        return {f"lists.{at}.path": each.path for at, each in enumerate(self.lists)}

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        """Reads every list to its end, once a process and content; of an index (methods/lists/index.py) its head."""
        super().check(where, before)
        for at, ((_, digest), each) in enumerate(zip(self.file_digests().values(), self.lists, strict=True)):
            key = f"{digest} {each.of} {each.column} {self.malformed}"
            if each.path.endswith(index.SUFFIX):
                index.opened(each.path, each.of, f"{where}.lists.{at}")
            elif key not in _checked:
                if not sum(1 for _ in self._forms(each, f"{where}.lists.{at}", aloud=True)):
                    log.warning("%s.lists.%d: %s has no entry", where, at, storage.shown(each.path))
                _checked.add(key)

    def _forms(self, of: BlockedBy, where: str, aloud: bool = False) -> Iterator[str]:
        skipped, first = 0, 0
        batches = entry_batches(of.path, of.column, where)
        lines = (
            (begun + i, *pair)
            for begun, some in batches
            for i, pair in enumerate(zip(some, forms_of(of.of, some), strict=True))
        )
        for at, entry, form in lines:
            if form:
                yield form
            elif form == "":
                continue
            elif self.malformed == "error":
                shown = repr(entry)[:80] if entry is not None else "no text"
                hint = f"correct the line, or leave such out: {where.rpartition('.lists.')[0]}.malformed=skip"
                line = f"{storage.shown(of.path)}, line {at}: {shown}"
                raise RecipeError(where, line, f"expected {_FORMS[of.of]}", hint)
            else:
                skipped, first = skipped + 1, first or at
        if skipped and aloud:
            log.warning(
                "%s: %s: %d entries left out that are no %s, the first in line %d",
                where, storage.shown(of.path), skipped, of.of, first,
            )  # fmt: skip

    def open(self, ctx: Context) -> Callable[[pa.Table], Verdicts]:
        finders = [self._finder(each, f"{self.kind}.lists.{at}") for at, each in enumerate(self.lists)]
        return lambda pairs: self._judged(pairs, finders)

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        return self.open(ctx)(pairs)

    def _finder(self, of: BlockedBy, where: str) -> Find:
        forms = self._forms(of, where)
        if of.of == "phash":
            near = NearSet((int(form, 16) for form in forms), of.radius)
            return lambda hashes: _nearest(near, hashes)
        listed = index.opened(of.path, of.of, where) if of.path.endswith(index.SUFFIX) else KeySet(forms)
        names = {"url": urls_of, "domain": domains_of, "sha256": lambda sha: [sha] if sha else []}[of.of]
        return lambda texts: _first_listed(listed, texts, names)

    def _judged(self, pairs: pa.Table, finders: Sequence[Find]) -> Verdicts:
        by_page = self.pages != "ignore" and any(each.of in ("url", "domain") for each in self.lists)
        num, flat = pairs.num_rows, explode(pairs) if by_page else None
        reason, detail = no_reasons(num), no_reasons(num)
        page_reason = page_detail = no_reasons(flat.num_rows if flat is not None else 0)
        for each, find in zip(self.lists, finders, strict=True):
            found = self._of_image(each, find, pairs)
            if flat is not None and each.of in ("url", "domain"):
                of_page = find(whole(flat.column("page_url")))
                page_reason, page_detail = _with(page_reason, page_detail, of_page, each.reason)
                if self.pages == "pair":
                    found = pc.coalesce(found, _first_of_pair(of_page, flat, num))
            reason, detail = _with(reason, detail, found, each.reason)
        if self.pages != "caption" or flat is None:
            return Verdicts(reason=reason, detail=detail)
        # Captions of a pair that is dropped for its own address are not counted as dropped for their page's.
        lost = reason.is_valid().take(flat.column(ROW).combine_chunks())
        page_reason = pc.if_else(lost, pa.scalar(None, pa.string()), page_reason)
        sifted = sift(flat, page_reason, num, page_detail)
        return Verdicts(
            reason=pc.coalesce(reason, sifted.reason),
            detail=pc.coalesce(detail, sifted.detail),
            captions=sifted.captions,
            caption_drops=sifted.caption_drops,
        )

    def _of_image(self, of: BlockedBy, find: Find, pairs: pa.Table) -> pa.Array:
        if of.of == "sha256":
            return find(whole(pairs.column("image_sha256")))
        if of.of != "phash":
            return find(whole(pairs.column("url")))
        sharp = pc.greater_equal(whole(pairs.column("contrast")), self.min_contrast)
        return find(pc.if_else(sharp, whole(pairs.column("phash")), pa.scalar(None, pa.uint64())))


def _with(reason: pa.Array, detail: pa.Array, found: pa.Array, name: str) -> tuple[pa.Array, pa.Array]:
    """Both with what was found, where nothing was before."""
    new = pc.and_(found.is_valid(), reason.is_null())
    return pc.if_else(new, name, reason), pc.if_else(new, found, detail)


def _first_of_pair(found: pa.Array, flat: pa.Table, num: int) -> pa.Array:
    """Of each pair what its first caption with a hit has hit."""
    at = pc.indices_nonzero(found.is_valid())
    rows = whole(flat.column(ROW)).take(at)
    return found.take(at.take(pc.index_in(pa.array(np.arange(num)), rows)))


def _first_listed(listed: KeySet, texts: pa.Array, names: Callable[[str], list[str]]) -> pa.Array:
    encoded = texts.dictionary_encode()
    forms = [names(text) if text else [] for text in encoded.dictionary.to_pylist()]
    has = iter(listed.has([form for some in forms for form in some]).tolist())
    found = []
    for some in forms:
        hits = [form for form in some if next(has)]
        found.append(hits[0] if hits else None)
    return pa.array(found, pa.string()).take(encoded.indices)


def _nearest(near: NearSet, hashes: pa.Array) -> pa.Array:
    """The nearest entry, of several as near the smallest."""
    there = pc.indices_nonzero(hashes.is_valid()).to_numpy()
    who, found = near.near(hashes.drop_null().to_numpy())
    first = np.unique(who, return_index=True)[1]
    entries = np.full(len(hashes), None, object)
    entries[there[who[first]]] = [f"{each:016x}" for each in found[first].tolist()]
    return pa.array(entries, pa.string())
