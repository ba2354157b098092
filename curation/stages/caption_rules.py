"""Drops captions that cannot teach what an image shows: too short, too long, boilerplate, no letters, denied."""

import re
import unicodedata
from typing import ClassVar, Literal, get_args

import pyarrow as pa
from pydantic import Field, field_validator

from curation.methods.boilerplate import Boilerplate, boilerplate, compiled
from curation.methods.reasons import sift
from curation.stage import Context, Rule, Verdicts
from curation.table.captions import explode


class CaptionRules(Rule):
    """Judges each caption by its text alone; a pair goes when its last caption goes. Bounds are inclusive.

    boilerplate  kinds of caption refused, from curation/methods/boilerplate.py
    deny         regular expressions; a caption is refused where one is found anywhere in it
    min_letters  least share of letters among the characters that are not spaces

    Reasons: short, long, few_words, many_words, few_letters, denied, and the kinds of boilerplate; detail: the caption.
    """

    kind: Literal["caption_rules"] = "caption_rules"
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)

    min_chars: int = Field(2, ge=0)
    max_chars: int = Field(1_000, ge=1)
    min_words: int = Field(1, ge=0)
    max_words: int = Field(256, ge=1)
    min_letters: float = Field(0.4, ge=0, le=1)
    boilerplate: tuple[Boilerplate, ...] = get_args(Boilerplate)
    deny: tuple[str, ...] = ()

    @field_validator("deny")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return compiled(patterns)

    def cuts(self) -> dict[str, float]:
        return {"caption_words": self.min_words} if self.min_words > 1 else {}

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        flat = explode(pairs)
        encoded = flat.column("text").combine_chunks().dictionary_encode()
        texts = encoded.dictionary
        found = pa.array([self.fault(text) for text in texts.to_pylist()], pa.string())
        return sift(flat, found.take(encoded.indices), pairs.num_rows, texts.take(encoded.indices))

    def fault(self, text: str) -> str | None:
        """Why the caption is refused, or None."""
        if len(text) < self.min_chars:
            return "short"
        if len(text) > self.max_chars:  # before any pattern runs, so that no pattern meets a megabyte
            return "long"
        if name := boilerplate(text, self.boilerplate):
            return name
        words = len(text.split())
        if words < self.min_words:
            return "few_words"
        if words > self.max_words:
            return "many_words"
        if letter_share(text) < self.min_letters:
            return "few_letters"
        return "denied" if any(re.search(pattern, text) for pattern in self.deny) else None


def letter_share(text: str) -> float:
    """Letters and combining marks among the characters that are not spaces; 0 for an empty text."""
    seen = [unicodedata.category(c)[0] for c in text if not c.isspace()]
    return sum(kind in "LM" for kind in seen) / len(seen) if seen else 0.0
