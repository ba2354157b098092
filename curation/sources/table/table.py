"""Tables of urls and texts as parquet, csv, tsv or JSON lines: LAION, DataComp, COYO, CC3M, CC12M, img2dataset, others.

One part is one file; a large one is read in ranges, which are together what reading it from the front gives: parquet by
row groups, a plain text table by rows. A row mentions an image, and its bytes are those of another
source, or fetched. But parquet may have a column of images. Columns clipmill does not know go through in `extra`, with
their types.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from curation.sources.source import Input, Part, Place, Source
from curation.sources.table import parquet, streams
from curation.sources.table.layout import Names, Unknown
from curation.sources.table.opened import DelimitedTable, ObjectsTable, Opened, ParquetTable
from curation.sources.table.reading import Reading
from curation.table.schemas import BAD
from pipeline import storage
from pipeline.contract.pairs import MAX_MEMBER
from pipeline.errors import DataError, RecipeError

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

Format = Literal["parquet", "csv", "tsv", "jsonl"]
_TEXT = ("csv", "tsv", "jsonl")
_DELIMITERS = {"csv": ",", "tsv": "\t"}


class TableSource(Source):
    """Reads tables of urls and texts. Columns are known by their names; settings name them where they are not."""

    kind: Literal["table"] = "table"
    url: str | None = Field(default=None, min_length=1, description="column of image urls; default: known by its name")
    captions: str | list[str] | dict[str, str] | None = Field(
        default=None,
        description="column of captions, or several, or column -> source that its texts are given; [] for urls alone; "
        "default: all that are known by their names",
    )
    uid: str | None = Field(
        default=None, description="column of 32 hex digits that name a pair; '' for none; default: `uid`, if there"
    )
    image: str | None = Field(
        default=None, description="column of image bytes, of parquet; '' for none; default: known by its name and type"
    )
    header: bool | list[str] | None = Field(
        default=None,
        description="whether the first row of csv and tsv names the columns, or their names; default: seen. Columns "
        "without a name are called by their number from 0",
    )
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, pattern=r'[^"\r\n]', description="of csv and tsv"
    )
    format: Format | None = Field(default=None, description="default: as the file's name ends")
    max_image_bytes: int = Field(default=20 << 20, ge=1, le=MAX_MEMBER, description="larger images are not stored")
    max_text_chars: int = Field(default=8192, ge=1, description="a longer text is no caption")
    range_bytes: int | None = Field(
        default=None, ge=1, description="larger files are read in ranges of about so many bytes: changes no result"
    )

    version: ClassVar[int] = 6
    suffixes: ClassVar[tuple[str, ...]] = (
        ".parquet",
        *(f".{kind}{packed}" for kind in _TEXT for packed in ("", *streams.PACKED)),
    )
    unnamed: ClassVar[frozenset[str]] = Source.unnamed | {"range_bytes"}
    fetches: ClassVar[bool] = True

    @field_validator("captions")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if any(not name for name in ([value] if isinstance(value, str) else value or [])):
            raise ValueError("expected the name of a column")
        if isinstance(value, dict) and not all(value.values()):
            raise ValueError("expected the name of a source")
        return value

    def inputs(self, where: str = "curate.sources") -> list[Input]:
        found = super().inputs(where)
        for each in found:
            if self.format is None and not _plain_name(each.path).endswith(self.suffixes):
                hint = f"set {where}.format"
                raise RecipeError(each.where, f"{storage.shown(each.path)}", f"a {', '.join(self.suffixes)} file", hint)
        return found

    def parts(self, inputs: Sequence[Input], digests: Sequence[str]) -> list[Part]:
        """How a file is read is told by its name, so that is part of what it is."""
        told = ("".join(self._format(each.path)) for each in inputs)
        return super().parts(inputs, [f"{how} {digest}" for how, digest in zip(told, digests, strict=True)])

    def look(self, each: Input, where: str) -> None:
        try:
            self._open(each.path)
        except parquet.NoFooter:
            return  # is counted when it is read
        except Unknown as error:
            hint = f"set {where}.{error.setting}, or correct {each.where}"
            raise RecipeError(where, f"{storage.shown(each.path)}: {error.found}", error.expected, hint) from None

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Counts: records (rows), mentions, images, and by reason bad_records, bad_bodies, bad_mentions and bad_texts;
        blank_lines; odd_values; stray_quotes, rows whose quotes are none. A cut of a packed text costs the rows behind
        it, damage of parquet those of its row group: damaged_rows. DataError when the columns do not tell, or for other
        damage of a packed text, whose rows nothing vouches for. Parquet without a sound footer is one damaged row."""
        return self.ingest_range(part, (0,), part.bytes, sink)[0]

    def cuts(self, part: Part, about: int) -> list[int]:
        step = self.range_bytes or about
        return [] if self._format(part.path)[1] else [at * step for at in range(1, round(part.bytes / step))]

    def place_from(self, part: Part, start: int, stop: int) -> Place | None:
        if not start:
            return (0,)
        if self._format(part.path)[0] == "parquet":
            return self._group_from(part, start, stop)
        at = start - 1
        for block in streams.blocks(part.path, start=at):
            end = block.find(b"\n") + 1
            at += end or len(block)
            if end or at >= stop:
                return (at,) if end and at < stop else None
        return None

    def _group_from(self, part: Part, start: int, stop: int) -> Place | None:
        try:
            places = parquet.Table(part.path).places
        except parquet.NoFooter:
            return None
        at = next((at for at in places if at >= start), stop)
        return (at,) if at < stop else None

    def ingest_range(self, part: Part, place: Place, stop: int, sink: "PoolSink") -> tuple[dict[str, int], Place]:
        kind, packed = self._format(part.path)
        reading = Reading(sink, self.max_text_chars, untyped=kind in _DELIMITERS)
        try:
            table = self._open(part.path)
        except Unknown as error:
            raise error.error(storage.shown(part.path)) from None
        except parquet.NoFooter as error:
            if not place[0]:
                reading.lost(error, "the footer")
            return dict(sorted(reading.counts.items())), (part.bytes,)
        left = table.read(place[0], None if packed else stop, reading)
        return dict(sorted(reading.counts.items())), (part.bytes if left is None else left,)

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        counts = list(counts)
        records = sum(one.get("records", 0) for one in counts)
        if not records:
            raise DataError(", ".join(self.paths), "no row in any table", "urls", "check `paths` of this source")
        if not any(one.get("mentions", 0) for one in counts):
            reasons: Counter[str] = Counter()
            for one in counts:
                reasons.update({name: count for name, count in one.items() if name.startswith(BAD)})
            words = ", ".join(f"{name.removeprefix(BAD)} {count}" for name, count in reasons.most_common(4))
            hint = "check `url` of this source: which column holds the urls, as text"
            raise DataError(", ".join(self.paths), f"none of {records} rows has an url to use ({words})", "urls", hint)

    def _open(self, path: str) -> Opened:
        """Raises Unknown when the columns do not tell, DataError when it is no such table."""
        kind, packed = self._format(path)
        names = Names(self.url, self._captions(), self.uid, self.image)
        if kind == "parquet":
            return ParquetTable(path, names, self.max_image_bytes)
        if kind == "jsonl":
            return ObjectsTable(path, packed, names)
        return DelimitedTable(path, packed, names, self.delimiter or _DELIMITERS[kind], self.header)

    def _format(self, path: str) -> tuple[str, str]:
        """(format, how it is packed or "")."""
        name = _plain_name(path)
        packed = next((end for end in streams.PACKED if name.endswith(end)), "")
        kind = self.format or name.removesuffix(packed).rpartition(".")[2]
        return kind, "" if kind == "parquet" else streams.PACKED.get(packed, "")

    def _captions(self) -> dict[str, str] | None:
        if self.captions is None or isinstance(self.captions, dict):
            return self.captions
        return dict.fromkeys([self.captions] if isinstance(self.captions, str) else self.captions, "caption")


def _plain_name(path: str) -> str:
    """Without what is asked of a web server behind the name."""
    return path.partition("?")[0] if path.startswith(("http://", "https://")) else path
