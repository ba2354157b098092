"""Rows of a table turned into mentions of images, and images."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from curation.sources.captions import listed
from curation.sources.html.page import visible
from curation.sources.table.images import Image
from curation.sources.table.layout import Layout
from curation.sources.table.lines import MAX_ROW
from curation.sources.table.parquet import plain
from curation.table import uids
from curation.table.schemas import BAD
from curation.table.urls import resolve
from pipeline.errors import DataError
from pipeline.images.formats import image_format
from pipeline.log import get_logger

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

DAMAGED = "damaged_rows"
_UID = re.compile(r"[0-9a-f]{32}")
_ABOUT = ("page_url", "language")
# What img2dataset adds to a table that it downloads: facts of its own run; `exif` may say where a person lives.
_OF_A_RUN = ("status", {"key", "status", "error_message", "exif"})
# What clipmill's index of a shard says of places in the tar.
_OF_AN_INDEX = (
    "checksum",
    set("key row offset length ext image_offset image_length text_offset text_length json_offset json_length checksum "
        "num_captions".split()),
)  # fmt: skip
_OF_AN_IMAGE = {"width", "height"}  # found out anew where the bytes are there
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+([eE][-+]?[0-9]{1,3})?|[eE][-+]?[0-9]{1,3})")
_INFINITY = float("inf")
_NUMBER_CHARS = 25  # of a float64 that is written out
_TRUTH = {"true": True, "True": True, "false": False, "False": False}


def further(columns: Collection[str], layout: Layout) -> list[str]:
    """The columns that are passed through."""
    left = set(layout.known) | set(_ABOUT)
    for mark, names in (_OF_A_RUN, _OF_AN_INDEX):
        if mark in columns and "key" in columns:
            left |= names
    left |= _OF_AN_IMAGE if layout.image else set()
    return [name for name in columns if name not in left]


def typed(text: str) -> Any:
    """What a field of a text table says: a whole number that int64 holds, a number, truth, else text; None if empty."""
    if not text or text[0] not in "-0123456789tTfF":
        return text or None
    if _INTEGER.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63 and text != "-0":
        return int(text)
    if _NUMBER.fullmatch(text) and len(text) <= _NUMBER_CHARS and abs(float(text)) < _INFINITY:
        return float(text)
    return _TRUTH.get(text, text)


class Reading:
    """One pass over rows of one file."""

    def __init__(self, sink: "PoolSink", max_text_chars: int, untyped: bool) -> None:
        self.sink, self.max_text_chars, self.untyped = sink, max_text_chars, untyped
        self.counts: Counter[str] = Counter({"records": 0, "mentions": 0})

    def bad(self, reason: str, place: str) -> None:
        self.counts["records"] += 1
        self.counts[f"bad_records:{reason}"] += 1
        self.sink.bad(reason, place)

    def lost(self, error: DataError, place: str, count: int = 1) -> None:
        """`count` rows, or what is as one to us, that damage has taken; the first of a file is told with its place."""
        if not self.counts[f"{BAD}{DAMAGED}"]:
            get_logger(__name__).warning("%s: %s; what is before it is read", error.where, error.found)
        self.counts["records"] += count
        self.counts[f"{BAD}{DAMAGED}"] += count
        self.sink.bad(DAMAGED, place)

    def row(self, row: Mapping[str, Any], layout: Layout, names: list[str], place: str) -> None:
        """names: of the columns that are passed through; place: of the row, in words."""
        image: Image | None = row[layout.image] if layout.image else None
        url, reason = self.url(row, layout, image)
        uid, wrong = _uid(row.get(layout.uid) if layout.uid else None)
        extra, long = ("", "") if reason or wrong else self.extra(row, names, image)
        if reason or wrong or long:
            self.bad(reason or wrong or long, place)
            return
        self.counts["records"] += 1
        uid = self.image(image, url, uid) if image else uid
        page_url, language = (_text(row.get(name)) for name in _ABOUT)
        texts = dict.fromkeys(self.texts(row, layout)) or [("caption", "")]
        for source, text in texts:
            self.counts["mentions"] += 1
            self.sink.occurrence(
                url=url, uid=uid, text=text, source=source, page_url=page_url, language=language, extra=extra
            )

    def url(self, row: Mapping[str, Any], layout: Layout, image: Image | None) -> tuple[str, str]:
        """(url, "") or ("", reason). A row with an image needs none."""
        url, reason = _url(row.get(layout.url) if layout.url else None)
        if image is None:
            return url, reason if layout.url else "image_missing"
        self.counts.update({f"bad_mentions:{reason}": 1} if reason not in ("", "no_url") else {})
        return url, ""

    def image(self, image: Image, url: str, uid: str) -> str:
        """Stores it; returns the uid of the pair, by its bytes where nothing else names it."""
        problem = "too_big" if image.body is None else "" if image_format(image.body) else "not_image"
        self.counts[f"bad_bodies:{problem}" if problem else "images"] += 1
        uid = uid if url or uid else uids.uid_of_image(image.digest())
        return self.sink.image(url=url, uid=uid, body=image.body, problem=problem)

    def texts(self, row: Mapping[str, Any], layout: Layout) -> list[tuple[str, str]]:
        found = []
        for name, source in layout.captions:
            value = plain(row.get(name))
            items = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
            own = listed(items, source)
            if len(own) < len(items):
                self.counts["bad_texts:not_text"] += len(items) - len(own)
            for each, text in own:
                text, reason = visible(text, self.max_text_chars)
                if reason:
                    self.counts[f"bad_texts:{reason}"] += 1
                elif text.strip():
                    found.append((each, text))
        return found

    def extra(self, row: Mapping[str, Any], names: list[str], image: Image | None) -> tuple[str, str]:
        """(a JSON object of the fields that say something, or "", ""), or ("", reason). `sha256` of img2dataset is of
        the bytes before it resized them, and is renamed then."""
        values = {name: typed(row[name]) if self.untyped else plain(row[name]) for name in names if name in row}
        values = {name: value for name, value in values.items() if value is not None}
        if image is not None and isinstance(values.get("sha256"), str):
            told = values.pop("sha256")
            values |= {"original_sha256": told} if told != image.digest() else {}
        text = json.dumps(values, sort_keys=True, ensure_ascii=False) if values else ""
        return (text, "") if len(text) <= MAX_ROW else ("", "row_too_long")


def _url(value: Any) -> tuple[str, str]:
    value = plain(value)
    if value is None or value == "":
        return "", "no_url"
    return resolve("", value) if isinstance(value, str) else ("", "bad_url")


def _uid(value: Any) -> tuple[str, str]:
    value = plain(value)
    if value is None or value == "":
        return "", ""
    return (value, "") if isinstance(value, str) and _UID.fullmatch(value) else ("", "bad_uid")


def _text(value: Any) -> str:
    value = plain(value)
    return value if isinstance(value, str) else ""
