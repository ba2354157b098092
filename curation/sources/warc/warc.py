"""WARC crawls: pages give mentions of images, image answers give bytes; the two meet by url in the join.

Everything comes from the crawl itself, nothing is fetched. One part is one .warc, .warc.gz or .warc.zst
file; a large one is read in ranges of it, which are together what reading it from the front gives (records.py).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from curation.sources.html.charset import decode_page
from curation.sources.html.page import read_page
from curation.sources.source import Part
from curation.sources.warc import digests
from curation.sources.warc.digests import digest_matches
from curation.sources.warc.http_message import Response, Unusable, bodies, parse_response
from curation.sources.warc.record_source import MIB, Mentions, RecordSource
from curation.sources.warc.records import Record
from curation.table.schemas import REVISIT
from curation.table.urls import resolve
from pipeline import storage
from pipeline.errors import DataError
from pipeline.images.formats import image_format

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_REDIRECTS = (301, 302, 303, 307, 308)  # that a client follows (WHATWG Fetch); 300, 304 and 305 it does not
_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_WAT_BYTES = 64
_WAT_START = re.compile(rb"\s*\{\s*\"(?:Container|Envelope)\"")
_PAGE_START = re.compile(rb"\s*(?:<!--.{0,1000}?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)


class WarcSource(RecordSource):
    """Reads WARC files, plain, gzip or zstd: response, resource and revisit records."""

    kind: Literal["warc"] = "warc"
    max_image_bytes: int = Field(default=20 * MIB, ge=1, description="larger bodies are not stored")

    version: ClassVar[int] = 6
    suffixes: ClassVar[tuple[str, ...]] = (".warc", ".warc.gz", ".warc.zst")

    def reading(self, sink: "PoolSink") -> "_Reading":
        """Counts: records, responses, revisits, pages, images, mentions, and by reason bad_records, bad_bodies,
        bad_mentions, bad_texts; bytes_skipped by damage; robots_cut, directives that had no room."""
        return _Reading(self, sink)

    def most_bytes(self) -> int:
        return max(self.max_image_bytes, self.max_page_bytes)

    def check_whole(self, part: Part, counts: Mapping[str, int]) -> None:
        super().check_whole(part, counts)
        if counts.get("wat_records", 0) and not counts["responses"]:
            found, hint = "link metadata (WAT), no answers of web servers", "read it by `kind: wat`"
            raise DataError(storage.shown(part.path), found, "a WARC file with answers", hint)

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        if not any(one.get("responses", 0) or one.get("revisits", 0) for one in counts):
            found = "empty crawl: no response record"
            hint = "check `paths` of this source; files of link metadata (.wat) are read by `kind: wat`"
            raise DataError(", ".join(self.paths), found, "answers of web servers", hint)


class _Reading:
    """One pass over the records of one file."""

    def __init__(self, settings: WarcSource, sink: "PoolSink") -> None:
        self.settings, self.sink = settings, sink
        self.counts: Counter[str] = Counter({"records": 0, "responses": 0, "pages": 0, "images": 0})
        self.mentions = Mentions(sink, self.counts)

    def record(self, record: Record) -> None:
        headers, kind = record.headers, record.headers.get("warc-type", "").lower()
        segment = headers.get("warc-segment-number", "1")
        if kind == "continuation" or segment != "1":
            self.counts["bad_records:segmented"] += 1
            return
        uri = headers.get("warc-target-uri", "").strip("<>")
        if kind not in ("response", "resource", "revisit") or not uri.lower().startswith(("http:", "https:")):
            self.counts["other_records"] += 1  # requests, metadata, DNS answers
            if kind == "metadata" and _WAT_START.match((record.block or b"")[:_WAT_BYTES]):
                self.counts["wat_records"] += 1
            return
        url, reason = resolve("", uri)
        if record.block is None:
            reason = reason or "too_big"
        elif digest_matches(headers.get("warc-block-digest", ""), [record.block]) is False:
            reason = "damaged_record"
        if kind == "revisit" and not reason:
            self.revisit(url, record)
            return
        response = None if reason else self.response(record, kind)
        if response is None:
            reason = reason or "bad_http"
            self.counts[f"bad_records:{reason}"] += 1
            if url:
                self.sink.image(url=url, body=None, status=0, fetched_at=_date(record), problem=reason)
            return
        self.answer(url, response, record)

    def response(self, record: Record, kind: str) -> Response | None:
        assert record.block is not None
        if kind == "response":
            return parse_response(record.block)
        return Response(200, [("content-type", record.headers.get("content-type", ""))], record.block)

    def revisit(self, url: str, record: Record) -> None:
        """Says of which capture this one is: its bytes are found by the join. What its own head says counts as ever;
        an answer that is no image's has no other bytes than that."""
        response = parse_response(record.block or b"") or Response(200, [], b"")
        if not 200 <= response.status < 300 and response.status != 304:
            self.answer(url, response, record)
            return
        referred = record.headers.get("warc-refers-to-target-uri", "").strip("<>")
        origin, reason = resolve("", referred) if referred else (url, "")
        if reason:
            self.counts[f"bad_records:{reason}"] += 1  # and the mention ends as image_missing
            return
        self.counts["revisits"] += 1
        self.sink.image(
            url=url, body=None, status=0, problem=REVISIT, location=origin, fetched_at=_date(record),
            payload=digests.named(record.headers.get("warc-payload-digest", ""), b""),
            content_type=response.first("content-type")[:200],
            x_robots_tag=self.mentions.robots(response.all("x-robots-tag")),
        )  # fmt: skip

    def answer(self, url: str, response: Response, record: Record) -> None:
        """Passes on what one url answered."""
        forms, problem = [response.raw], ""
        try:
            forms = bodies(response, max(self.settings.max_image_bytes, self.settings.max_page_bytes))
        except Unusable as error:
            problem = error.reason
        # What the digest was taken over differs between crawlers: the body as sent, without chunks, or decoded.
        payload = record.headers.get("warc-payload-digest", "")
        stated = "" if record.headers["warc-type"].lower() == "revisit" else payload  # its body is not there
        tags = self.mentions.robots(response.all("x-robots-tag"))
        if not problem and digest_matches(stated, forms) is False:
            self.counts["bad_records:damaged_record"] += 1
            known = {"x_robots_tag": tags, "fetched_at": _date(record)}
            self.sink.image(url=url, body=None, status=0, problem="damaged_record", **known)
            return
        self.counts["responses"] += 1
        body, content_type = forms[-1], response.first("content-type")
        ext = "" if problem else image_format(body)
        is_page = not ext and not problem and response.status == 200 and _is_page(body, content_type)
        cut = record.headers.get("warc-truncated", "")
        if not 200 <= response.status < 300:
            problem = f"status_{response.status // 100}xx"
        elif not problem:
            problem = self.limits(len(body), ext, is_page, bool(cut), response.status)
        if problem:
            self.counts[f"bad_bodies:{problem}"] += 1
        is_chunked = "chunked" in response.first("transfer-encoding").lower()
        sent = forms[1] if is_chunked and len(forms) > 1 else response.raw
        location = resolve(url, response.first("location"))[0] if response.status in _REDIRECTS else ""
        self.sink.image(
            url=url,
            body=body if ext and not problem else None,
            problem="not_image" if is_page else "" if problem.startswith("status_") else problem,
            status=response.status,
            content_type=content_type[:200],
            x_robots_tag=tags,
            fetched_at=_date(record),
            location=location,
            payload=digests.named(payload, sent) if ext and not problem else "",
        )
        self.counts["images"] += bool(ext and not problem)
        if is_page and problem in ("", "truncated"):  # of a page cut short what is there is as good as ever
            self.page(url, decode_page(body, content_type), tags)

    def limits(self, size: int, ext: str, is_page: bool, cut: bool, status: int) -> str:
        if status == 206:
            return "partial"
        if cut and (ext or is_page or not size):
            return "truncated"
        if ext and size > self.settings.max_image_bytes or is_page and size > self.settings.max_page_bytes:
            return "too_big"
        return "" if ext or is_page else "not_image" if size else "empty"

    def page(self, url: str, text: str, tags: str) -> None:
        settings = self.settings
        page = read_page(text, url, max_images=settings.max_images_per_page, max_text_chars=settings.max_text_chars)
        self.mentions.page(url, page, tags, len(text))


def _date(record: Record) -> str:
    """When it was fetched, where that is as the standard wants it (so that dates compare as texts)."""
    date = record.headers.get("warc-date", "")
    return date if _DATE.fullmatch(date) else ""


def _is_page(body: bytes, content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _PAGE_TYPES or (kind in ("", "application/octet-stream") and _PAGE_START.match(body, 0) is not None)
