"""What sources of WARC records share: how their files are read, whole or in ranges, and how damage is counted."""

from collections import Counter
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from pydantic import Field

from curation.sources.html.page import Page
from curation.sources.source import Part, Place, Source
from curation.sources.warc import records
from curation.sources.warc.records import Gap, Record, State
from curation.table import robots

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

T = TypeVar("T")

MIB = 1 << 20
_HEAD_ROOM = 128 << 10  # bytes of HTTP head and chunk lines allowed on top of a body
# Characters of all rows that one page makes. A row holds its page's address and robots beside its own address and
# text: honest pages make fewer than 12 times their own length, and a page of 3 KB can be written that makes 34 MB.
_ROOM_CHARS, _ROOM_FACTOR, _PAGE_CHARS = 64 << 10, 32, 4 << 20


class Reading(Protocol):
    """One pass over the records of one file."""

    counts: Counter[str]

    def record(self, record: Record) -> None: ...


class RecordSource(Source):
    """Subclasses say what becomes of a record (`reading`), and which blocks are too large (`most_bytes`)."""

    max_page_bytes: int = Field(default=10 * MIB, ge=1, description="larger pages are not read")
    max_images_per_page: int = Field(default=2000, ge=1, description="mentions taken from one page, from the top")
    max_text_chars: int = Field(default=8192, ge=1, description="a longer text is no caption")
    range_bytes: int | None = Field(
        default=None,
        ge=records.STEP_BYTES,
        description="larger files are read in ranges of about so many bytes, which changes no result; default: 4 MiB "
        "to 256 MiB, by the size of all inputs",
    )

    unnamed: ClassVar[frozenset[str]] = Source.unnamed | {"range_bytes"}

    def reading(self, sink: "PoolSink") -> Reading:
        raise NotImplementedError

    def most_bytes(self) -> int:
        """Of what a record holds, without its head."""
        return self.max_page_bytes

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        counts, _ = self._read(records.read_range(part.path, self.most_bytes() + _HEAD_ROOM, State(), None), sink)
        self.check_whole(part, counts)
        return counts

    def cuts(self, part: Part, about: int) -> list[int]:
        step = -(-(self.range_bytes or about) // records.STEP_BYTES) * records.STEP_BYTES
        return [at * step for at in range(1, round(part.bytes / step))]

    def place_from(self, part: Part, start: int, stop: int) -> Place | None:
        return records.guessed_state(part.path, start, stop)

    def ingest_range(self, part: Part, place: Place, stop: int, sink: "PoolSink") -> tuple[dict[str, int], Place]:
        return self._read(records.read_range(part.path, self.most_bytes() + _HEAD_ROOM, State(*place), stop), sink)

    def check_whole(self, part: Part, counts: Mapping[str, int]) -> None:
        records.check_whole(part.path, counts["records"], any(name.startswith("bad_records:") for name in counts))

    def _read(self, items: Generator[Record | Gap, None, T], sink: "PoolSink") -> tuple[dict[str, int], T]:
        """Counts, and what the generator returns."""
        reading = self.reading(sink)
        while True:
            try:
                item = next(items)
            except StopIteration as end:
                return dict(sorted(reading.counts.items())), end.value
            if isinstance(item, Gap):
                reading.counts[f"bad_records:{item.reason}"] += item.records
                reading.counts["bytes_skipped"] += item.skipped
            else:
                reading.counts["records"] += 1
                reading.record(item)


class Mentions:
    """Passes on what pages mention, within bounds."""

    def __init__(self, sink: "PoolSink", counts: Counter[str]) -> None:
        self._sink, self._counts = sink, counts

    def page(self, url: str, page: Page, tags: str, chars: int) -> None:
        """`chars`: of the page as it was read; its rows hold so many times that at most."""
        self._counts["pages"] += 1
        self._counts.update(page.counts)
        said = self.robots([*([tags] if tags else []), *page.robots])
        room = min(_PAGE_CHARS, _ROOM_CHARS + _ROOM_FACTOR * chars)
        for mention in page.mentions:
            for source, caption in mention.texts or (("alt", ""),):  # an image without words is still in the universe
                room -= len(mention.url) + len(caption) + len(url) + len(said) + len(page.language)
                if room < 0:
                    self._counts["bad_mentions:page_cap"] += 1
                    continue
                self._sink.occurrence(
                    url=mention.url, text=caption, source=source, page_url=url, page_robots=said, language=page.language
                )

    def robots(self, values: list[str]) -> str:
        text, cut = robots.joined(values)
        if cut:
            self._counts["robots_cut"] += cut
        return text
