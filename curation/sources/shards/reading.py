"""Samples of a tar turned into rows of the pool: what a member is for, whose words are captions, which fields go on."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from curation.sources.captions import CAPTION_FIELDS, listed
from curation.sources.html.page import visible
from curation.sources.shards.sidecar import sidecar_rows
from curation.sources.shards.unpacked import sidecar_of
from curation.table import uids
from curation.table.schemas import BAD
from curation.table.urls import resolve
from pipeline import storage
from pipeline.contract.pairs import MAX_META, parse_meta
from pipeline.contract.samples import IMAGE_SUFFIXES, Sample, SampleTar
from pipeline.contract.tar import Member
from pipeline.images.formats import image_format
from pipeline.storage.window import READ_AHEAD, Window

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_UID = re.compile(r"[0-9a-f]{32}")
_IMAGES = (*IMAGE_SUFFIXES, "gif", "bmp", "tif", "tiff", "avif", "jxl", "heic", "jfif", "img")
# Members with a caption: x.txt, x.caption, and of several x.0.txt, x.txt1, x.caption_2.txt. (x.cls holds no words.)
_TEXT = re.compile(r"(?:[0-9]{1,4}\.)?(?:txt|text|caption)(?:[._-]?[0-9]{1,4})?(?:\.txt)?")


class Roles(dict[str, str]):
    """What a member is for, by its suffix; each member with a caption has a role of its own, its suffix."""

    def get(self, suffix: str, default: str = "") -> str:  # type: ignore[override]
        return super().get(suffix) or (suffix if _TEXT.fullmatch(suffix) else default)

    def __contains__(self, suffix: object) -> bool:
        return isinstance(suffix, str) and bool(self.get(suffix))


ROLES = Roles({**dict.fromkeys(_IMAGES, "image"), "txt": "txt", "json": "json"})

_URL_FIELDS = ("url", "URL")
# Facts of the tar or of the bytes, found out anew; and `exif`, which may say where a person lives.
_LEFT_OUT = frozenset("key __key__ status error_message width height exif uid page_url language".split())


class Reading:
    """Turns samples into rows of the pool. A member's size is asked before it is read."""

    def __init__(self, sink: "PoolSink", path: str, window: Window, max_image_bytes: int, max_text_chars: int) -> None:
        self.sink, self.path, self.window = sink, path, window
        self.max_image_bytes, self.max_text_chars = max_image_bytes, max_text_chars
        self.counts: Counter[str] = Counter({"records": 0, "images": 0})
        self.pictures = 0  # image members, whatever is in them
        self._rows: dict[str, tuple[dict[str, Any], str]] | None = None
        self._looked = False
        self._content = window.exactly  # of a member that lies beside its image

    def sample(self, sample: Sample) -> None:
        self.counts["records"] += 1
        self._content = self.window.glance if sample.is_joined else self.window.exactly
        place = sample.members.get("image")
        self.pictures += place is not None and not place.odd
        meta, problem = ({}, sample.problem) if sample.problem else self.meta(sample)
        problem = problem or ("" if place and place.size else "image_missing")
        if problem or place is None:
            self.counts[f"{BAD}{problem}"] += 1
            self.sink.bad(problem, f"key {sample.key[:300]!r} at byte {sample.start}")
            return
        url, uid = self.identity(meta)
        image = self.window.exactly(place.start, place.size) if place.size <= self.max_image_bytes else None
        problem = "too_big" if image is None else "" if image_format(image) else "not_image"
        self.counts[f"bad_bodies:{problem}" if problem else "images"] += 1
        sha256 = _text(meta, "sha256")
        own = self.sha256(place, image) if sha256 or not (url or uid) else ""
        extra = json.dumps(_extra(meta, own), sort_keys=True, ensure_ascii=False)
        uid = uid if url or uid else uids.uid_of_image(own)
        uid = self.sink.image(url=url, uid=uid, body=image, extra="" if extra == "{}" else extra, problem=problem)
        page_url, language = (_text(meta, name) for name in ("page_url", "language"))
        texts = list(self.captions(sample, meta))
        for source, text in dict.fromkeys(texts or [("caption", "")]):
            self.sink.occurrence(url=url, uid=uid, text=text, source=source, page_url=page_url, language=language)

    def sha256(self, place: Member, image: bytes | None) -> str:
        """Hex, of an image read or too big to be."""
        digest = hashlib.sha256(image or b"")
        if image is None:
            for start in range(place.start, place.start + place.size, READ_AHEAD):
                digest.update(self.window.exactly(start, min(READ_AHEAD, place.start + place.size - start)))
        return digest.hexdigest()

    def identity(self, meta: dict[str, Any]) -> tuple[str, str]:
        written = next(filter(None, (_text(meta, name) for name in _URL_FIELDS)), "")
        url, reason = resolve("", written) if written else ("", "")
        if reason:
            self.counts[f"bad_mentions:{reason}"] += 1
        uid = meta.get("uid")
        return url, uid if isinstance(uid, str) and _UID.fullmatch(uid) else ""

    def meta(self, sample: Sample) -> tuple[dict[str, Any], str]:
        """(fields, "") or ({}, reason). Without a .json they come from the parquet beside the tar."""
        place = sample.members.get("json")
        if place is not None:
            return _fields(self._content(place.start, place.size)) if place.size <= MAX_META else ({}, "bad_meta")
        if not self._looked:
            self._rows, self._looked = self._beside(), True
        if self._rows is None:
            return {}, ""
        if sample.key not in self._rows:
            self.counts["no_row_in_table"] += 1
        return self._rows.get(sample.key, ({}, ""))

    def _beside(self) -> dict[str, tuple[dict[str, Any], str]] | None:
        """Fields of the samples without a .json, from the table beside the tar, None where there is none: their keys
        are gathered first."""
        path = sidecar_of(self.path, ".parquet")
        if not storage.exists(path):
            return None
        tar = SampleTar(self.window, ROLES, tolerant=True)
        return sidecar_rows(path, {sample.key for sample in tar if "json" not in sample.members})

    def captions(self, sample: Sample, meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """(source, text) of every caption that is fit to be one; clipmill's own sources are kept as they are."""
        own = listed(meta.get("captions"), "caption")
        if not own:
            own = [("caption", text) for role in sorted(sample.members) for text in self.words(sample.members, role)]
        for name, source in CAPTION_FIELDS.items():
            if name != "captions":
                own += listed(meta.get(name), source)
        for source, text in own:
            text, reason = visible(text, self.max_text_chars)
            if reason:
                self.counts[f"bad_texts:{reason}"] += 1
            elif text.strip():
                yield source, text

    def words(self, members: dict[str, Member], role: str) -> Iterator[str]:
        """The caption in one member, if it is one of those."""
        place = members[role]
        if role in ("image", "json") or not place.size:
            return
        if place.size > MAX_META:
            self.counts["bad_texts:text_too_long"] += 1
        else:
            yield self._content(place.start, place.size).decode("utf-8-sig", "replace")  # U+FFFD is refused later


def _fields(data: bytes) -> tuple[dict[str, Any], str]:
    """(fields, "") of a .json member, or ({}, reason). One that is a list is that of the captions."""
    if data.lstrip().startswith(b"["):
        fields, problem = parse_meta(b'{"captions": %b}' % data)
        return (fields, problem) if listed(fields.get("captions"), "") else ({}, problem or "bad_meta")
    return parse_meta(data)


def _text(meta: dict[str, Any], name: str) -> str:
    value = meta.get(name)
    return value if isinstance(value, str) else ""


def _extra(meta: dict[str, Any], own: str) -> dict[str, Any]:
    """The fields clipmill does not know. own: sha256 of the image where `meta` names one: img2dataset's is of the bytes
    before it resized them, and is renamed then."""
    known = {*_LEFT_OUT, *CAPTION_FIELDS, *_URL_FIELDS, "sha256"}
    extra = {name: value for name, value in meta.items() if name not in known and value is not None}
    sha256 = _text(meta, "sha256")
    if sha256 and sha256 != own:
        extra["original_sha256"] = sha256
    return extra
