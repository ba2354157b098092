"""WAT files: what a crawler saved of its pages' links, as JSON in WARC records of type metadata.

A page's links are in the order of the page, each with the path of its element and attribute (IMG@/src) and those other
attributes that the crawler saved. They are read by the page reader's own rules: addresses, lazy loading, candidates of
a srcset, texts, base and robots are those that the WARC source would give for the same page, as far as a WAT holds
them: it has no figures and no <noscript>. The language of the root element stands among the metas, as HTML@/lang.
Images are in no WAT: they are downloaded, or come from another source.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson

from curation.sources.html.page import LAZY, SETS, TEXT_ATTRIBUTES, PageReading
from curation.sources.source import Part
from curation.sources.warc.digests import digest_matches
from curation.sources.warc.record_source import Mentions, RecordSource
from curation.sources.warc.records import Record
from curation.table.urls import resolve
from pipeline import storage
from pipeline.errors import DataError

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_IMAGES = frozenset(("img", "image", "amp-img"))
_SETS, _TEXTS = frozenset(SETS), frozenset(TEXT_ATTRIBUTES)
_ADDRESSES = _SETS | {"src", *LAZY}
_LANGUAGES = ("html@/lang", "html@/xml:lang")
_ADDRESS = ("url", "href")
_PATH = itemgetter("path")
_OTHER = ("", "")


class WatSource(RecordSource):
    """Reads WAT files, plain, gzip or zstd: metadata records of pages that were answered with 200."""

    kind: Literal["wat"] = "wat"

    version: ClassVar[int] = 2
    suffixes: ClassVar[tuple[str, ...]] = (".wat", ".wat.gz", ".wat.zst")
    fetches: ClassVar[bool] = True

    def reading(self, sink: "PoolSink") -> "_Reading":
        """Counts: records, pages, mentions, other_records (of requests, and of answers that are no page), and by reason
        bad_records, bad_mentions, bad_texts; bytes_skipped by damage; robots_cut."""
        return _Reading(self, sink)

    def check_whole(self, part: Part, counts: Mapping[str, int]) -> None:
        super().check_whole(part, counts)
        if counts.get("answers", 0) and not counts.get("envelopes", 0):
            found, hint = "a WARC with the answers themselves, no link metadata", "read it by `kind: warc`"
            raise DataError(storage.shown(part.path), found, "a WAT file", hint)

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        if not any(one.get("envelopes", 0) for one in counts):
            found = "no record with the metadata of a page"
            hint = "check `paths` of this source; crawls with the pages themselves are read by `kind: warc`"
            raise DataError(", ".join(self.paths), found, "WAT files", hint)


class _Reading:
    """One pass over the records of one file."""

    def __init__(self, settings: WatSource, sink: "PoolSink") -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter({"records": 0, "envelopes": 0, "pages": 0})
        self.mentions = Mentions(sink, self.counts)

    def record(self, record: Record) -> None:
        kind = record.headers.get("warc-type", "").lower()
        if kind != "metadata":
            self.counts["other_records"] += 1
            self.counts.update({"answers": 1} if kind in ("response", "resource") else {})
            return
        if record.block is None:
            self.counts["bad_records:too_big"] += 1
            return
        if digest_matches(record.headers.get("warc-block-digest", ""), [record.block]) is False:
            self.counts["bad_records:damaged_record"] += 1
            return
        envelope = _dict(_dict(_parsed(record.block)).get("Envelope"))
        if not envelope:
            self.counts["bad_records:bad_json"] += 1
            return
        self.counts["envelopes"] += 1
        answer = _dict(_dict(envelope.get("Payload-Metadata")).get("HTTP-Response-Metadata"))
        html = _dict(answer.get("HTML-Metadata"))
        status = str(_dict(answer.get("Response-Message")).get("Status", "")).strip()
        if not html or status != "200":
            self.counts["other_records"] += 1
            return
        said = _dict(envelope.get("WARC-Header-Metadata")).get("WARC-Target-URI")
        uri = said if isinstance(said, str) else record.headers.get("warc-target-uri", "")
        url, reason = resolve("", uri.strip("<> "))
        if not url:
            self.counts[f"bad_records:{reason}"] += 1
            return
        tags = self.mentions.robots(list(_headers(answer.get("Headers"), "x-robots-tag")))
        self.page(url, html, tags, len(record.block))

    def page(self, url: str, html: dict[str, Any], tags: str, chars: int) -> None:
        settings, head = self.settings, _dict(html.get("Head"))
        page = PageReading(url, settings.max_images_per_page, settings.max_text_chars)
        base = head.get("Base")
        if isinstance(base, str):
            page.set_base({"href": base})
        for meta in _dicts(head.get("Metas")):
            found = {name.lower(): value for name, value in meta.items() if isinstance(value, str)}
            if found.get("name", "").lower() not in _LANGUAGES:
                page.meta(found)
            elif not page.page.language:
                page.set_language(found.get("content", ""))
        for element, found in _elements(html.get("Links")):
            if element == "img":
                page.image(found)
            else:
                page.source(found if element else None)
        page.finish()
        self.mentions.page(url, page.page, tags, chars)


def _elements(written: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """(img, source or "" for any other, attributes) of the elements among the links `written`, one after the other.

    Each address of an element is a link of its own. Writers begin with `src` and put the texts beside it, so a link
    goes on with the element before it when it has another attribute than that has, and no other text.
    """
    held: dict[str, str] = {}
    last, is_behind_source = -1, False
    links, kinds = _kinds(written)
    for at in [at for at, kind in enumerate(kinds) if kind is not _OTHER]:
        (element, attribute), link = kinds[at], links[at]
        is_next, last = at == last + 1, at
        if held and (element == "source" or not is_next):
            yield "img", held
            held = {}
        if is_behind_source and not is_next:
            yield "", {}
            is_behind_source = False
        if element == "source":
            yield element, {attribute: _address(link)}
            is_behind_source = True
        elif attribute:  # else longdesc, usemap
            found = {name: text for name, text in link.items() if name in _TEXTS and isinstance(text, str)}
            if held and (attribute == "src" or attribute in held or _differs(held, found)):
                yield "img", held
                held = {}
            held.update(found)
            held[attribute] = _address(link)
            is_behind_source = False
    if held:
        yield "img", held


def _kinds(links: Any) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The links that are some, and what each is (`_kind_of`). Most are of no picture, and that is all that is done for
    them: a page has ten of those for every image."""
    try:
        return links, list(map(_kind_of, map(_PATH, links)))
    except (TypeError, KeyError, AttributeError):  # not as writers make them
        links = _dicts(links)
        paths = (link.get("path") for link in links)
        return links, [_kind_of(path) if isinstance(path, str) else _OTHER for path in paths]


def _differs(held: dict[str, str], found: dict[str, str]) -> bool:
    return any(held.get(name, text) != text for name, text in found.items())


@lru_cache(maxsize=1024)
def _kind_of(path: str) -> tuple[str, str]:
    """(img, source or "", attribute); of an image's the attribute is "" when it is no address of a picture."""
    element, _, attribute = path.lower().partition("@/")
    if element in _IMAGES:
        return "img", attribute if attribute in _ADDRESSES else ""
    return ("source", attribute) if element == "source" and attribute in _SETS else _OTHER


def _address(link: dict[str, Any]) -> str:
    for name in _ADDRESS:
        if isinstance(address := link.get(name), str):
            return address
    return ""


def _parsed(block: bytes) -> Any:
    """None where it is no JSON. The second reader takes what the first does not: halves of surrogates, bytes that are
    no UTF-8, numbers of any size (as texts)."""
    try:
        return orjson.loads(block)
    except ValueError:
        pass
    try:
        return json.loads(block.decode("utf-8", "replace"), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):  # one element, as some writers have it
        return [value]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _headers(fields: Any, name: str) -> Iterator[str]:
    for key, value in _dict(fields).items():
        if key.lower() == name:
            yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))
