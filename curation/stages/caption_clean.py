"""Repairs captions: entities, mojibake, invisible characters, markup, spacing. Drops what ends up empty or twice."""

import html
import re
import unicodedata
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import field_validator

from curation.methods.boilerplate import compiled
from curation.methods.reasons import sift
from curation.stage import Context, Rule, Verdicts
from curation.table.captions import ROW, explode

# Direction marks and other signs without width; the joiners U+200C and U+200D stay, many scripts spell with them.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
# Joiners between Latin letters and their marks, or at an edge, join nothing.
_IDLE_JOINER = re.compile("(?<![^\\s!-\u036f])[\u200c\u200d]+(?![^\\s!-\u036f])")
# Signs nobody sees, in which text can be hidden: tags (but those of the flags of England, Scotland, Wales), and
# variation selectors behind one another.
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f)|[\U000e0000-\U000e007f]")
_VARIANTS = re.compile("([\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
# Marks over letters of any script that stand on each other: of more than three the first three.
_MARKS = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACK = re.compile(f"({_MARKS}{{3}}){_MARKS}+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<!--[^<>]*-->")
_SPACE = re.compile(r"\s+")
_UNDERSCORE = re.compile(r"_+")
_ENTITY_DEPTH = 4


class CaptionClean(Rule):
    """Rewrites the text of every caption; two captions of a pair that become the same text become one (the first).

    fix         undo mojibake and HTML entities, also doubly escaped ones (ftfy)
    form        Unicode normal form afterwards; NFKC also folds full-width letters and ligatures
    tags        take out HTML tags
    underscores turn `red_flower` into `red flower`
    remove      regular expressions whose matches are cut out

    Caption reasons: empty, repeated.
    """

    kind: Literal["caption_clean"] = "caption_clean"
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)
    version: ClassVar[int] = 3  # 3: widths and ligatures stay but for NFKC

    fix: bool = True
    form: Literal["NFC", "NFKC"] | None = "NFC"
    tags: bool = True
    underscores: bool = True
    remove: tuple[str, ...] = (r"(?i)\b(?:hash|array|code|scalar)\(0x[0-9a-f]+\)",)  # what scripts print by mistake

    @field_validator("remove")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return compiled(patterns)

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        flat = explode(pairs)
        encoded = flat.column("text").combine_chunks().dictionary_encode()
        cleaned = pa.array([self.clean(text) for text in encoded.dictionary.to_pylist()], pa.string())
        texts = cleaned.take(encoded.indices)
        flat = flat.set_column(flat.schema.get_field_index("text"), flat.schema.field("text"), texts)
        reasons = np.full(flat.num_rows, None, dtype=object)
        seen: set[tuple[int, str]] = set()
        for at, key in enumerate(zip(flat.column(ROW).to_pylist(), texts.to_pylist(), strict=True)):
            if not key[1]:
                reasons[at] = "empty"
            elif key in seen:
                reasons[at] = "repeated"
            seen.add(key)
        return sift(flat, pa.array(reasons, pa.string()), pairs.num_rows)

    def clean(self, text: str) -> str:
        """The text as it is kept; "" when nothing of it is left. Idempotent for well-formed texts."""
        if self.fix:
            text = _fixed(text)
        text = _CONTROL.sub("", _INVISIBLE.sub("", text))
        if not text.isascii():
            text = _VARIANTS.sub(r"\1", _TAGS.sub(r"\1", text))
            text = _STACK.sub(r"\1", _IDLE_JOINER.sub("", text))
        if self.form and not text.isascii():
            text = unicodedata.normalize(self.form, text)
        if self.tags and "<" in text:
            text = _MARKUP.sub(" ", text)
        if self.underscores:
            text = _UNDERSCORE.sub(" ", text)
        for pattern in self.remove:
            text = re.sub(pattern, " ", text)
        return _SPACE.sub(" ", text).strip()


def _fixed(text: str) -> str:
    for _ in range(_ENTITY_DEPTH):
        if "&" not in text or (plain := html.unescape(text)) == text:
            break
        text = plain
    # ftfy is a hundred times slower than all the rest, and has nothing to mend in plain ASCII.
    if text.isascii():
        return text
    import ftfy  # slow to import, too

    # Widths and ligatures are no damage: NFKC is asked for where they are to be folded.
    return ftfy.fix_text(
        text, uncurl_quotes=False, normalization=None, fix_character_width=False, fix_latin_ligatures=False
    )
