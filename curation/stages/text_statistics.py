"""Numbers of each caption, of any language: for thresholds, quotas and the best by a column."""

import unicodedata
import zlib
from typing import ClassVar, Literal

import pyarrow as pa

from curation.stage import Context, Function, Measure


class TextStatistics(Measure):
    """Adds to each caption, of its text as it stands there:

    words        runs of what is no space, int32; characters  code points, int32
    letters      share of letters and marks (of any script) among the characters that are no space, float32
    digits       share of decimal digits among them, float32; both are null where there is none
    repetition   share of the words (case-folded) that stood there before, float32: 0 where none comes twice; null
                 without words
    compression  length behind zlib by length before, of the UTF-8, float32: over 1 for what is short, the
                 smaller the more repeats, in scripts without spaces, too; null for an empty text

    It drops nothing: `threshold` does, by captions.words and so on.
    """

    kind: Literal["text_statistics"] = "text_statistics"
    unit: ClassVar = "text"
    store: ClassVar = "inline"
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)
    caption_fields: ClassVar[bool] = True
    adds: ClassVar[tuple[pa.Field, ...]] = (
        pa.field("words", pa.int32()),
        pa.field("characters", pa.int32()),
        pa.field("letters", pa.float32()),
        pa.field("digits", pa.float32()),
        pa.field("repetition", pa.float32()),
        pa.field("compression", pa.float32()),
    )

    def open(self, ctx: Context) -> Function:
        schema = pa.schema(self.adds)
        return lambda texts: pa.Table.from_pylist(
            [_of(text) for text in texts.column("text").to_pylist()], schema=schema
        )


def _of(text: str) -> dict[str, int | float | None]:
    words = text.split()
    seen = "".join(words)
    data = text.encode("utf-8", "surrogatepass")
    return {
        "words": len(words),
        "characters": len(text),
        "letters": sum(map(_is_letter, seen)) / len(seen) if seen else None,
        "digits": sum(map(str.isdecimal, seen)) / len(seen) if seen else None,
        "repetition": 1 - len({word.casefold() for word in words}) / len(words) if words else None,
        "compression": len(zlib.compress(data, 6)) / len(data) if data else None,
    }


def _is_letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character)[0] == "M"
