"""WebDataset tars as input: clipmill's own, img2dataset's, and others with an image, a caption and perhaps a .json.

One part is one tar, perhaps packed by gzip or zstd (with its NNNNN.parquet beside it, where the fields stand for
samples without .json). Images come with their bytes; captions are all that the fields hold, or the text members; fields
clipmill does not know go through in `extra`.

A member that is odd (a link, a device, a sparse file, a name that is no UTF-8 or leads out of the tar, a second image
of a key, ...) costs its sample, by reason, and reading goes on with the next member. Members of a key that do not lie
side by side are joined, by reading the tar once more. Behind damage it goes on at the next whole header; a sample
beside damage is kept only when it has image, text and .json, and the damage and its bytes are counted and logged. But
where a manifest or NNNNN_stats.json says that the tar holds more, it is an error naming it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from curation.sources.captions import CAPTION_FIELDS, listed
from curation.sources.html.page import visible
from curation.sources.shards.sidecar import sidecar_rows
from curation.sources.shards.unpacked import SUFFIXES, unpacked, without_suffix
from curation.sources.source import Part, Source
from curation.table import uids
from curation.table.schemas import BAD
from curation.table.urls import resolve
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.pairs import MAX_MEMBER, MAX_META, parse_meta
from pipeline.contract.samples import FOLDERS, IMAGE_SUFFIXES, Sample, SampleTar
from pipeline.contract.tar import Member
from pipeline.errors import DataError
from pipeline.images.formats import image_format
from pipeline.log import get_logger
from pipeline.storage import Listed
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
_STATS_BYTES = 16 << 20

_URL_FIELDS = ("url", "URL")
# Facts of the tar or of the bytes, found out anew; and `exif`, which may say where a person lives.
_LEFT_OUT = frozenset("key __key__ status error_message width height exif uid page_url language".split())


class ShardsSource(Source):
    """Reads WebDataset tars."""

    kind: Literal["shards"] = "shards"
    max_image_bytes: int = Field(default=20 << 20, ge=1, le=MAX_MEMBER, description="larger images are not stored")
    max_text_chars: int = Field(default=8192, ge=1, description="a longer text is no caption")

    version: ClassVar[int] = 7
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def beside(self, files: Sequence[Listed]) -> dict[str, tuple[Listed, ...]]:
        """The table beside each tar. In a store one listing a folder tells of all."""
        tables = {file.url: _sidecar(file.url, ".parquet") for file in files}
        asked = [table for table in tables.values() if storage.local_path(table) or not storage.can_list(table)]
        found = {table: storage.listed(table) for table in asked if storage.exists(table)}
        for folder in {_folder(table) for table in tables.values()} - {_folder(table) for table in asked}:
            found |= {file.url: file for file in storage.list_folder(folder).files}
        return {tar: (found[table],) for tar, table in tables.items() if table in found}

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Counts: records (samples), images, and by reason bad_records, bad_members, bad_bodies, bad_texts; members and
        folders ignored; joined_samples, whose members lie apart; bytes_skipped by damage.

        Raises DataError naming the file when it is no tar, or does not hold what its manifest or counts say.
        """
        promised = _promised(part.path)
        with unpacked(part.path) as (window, fault):
            return self._ingest(part, window, fault, promised, sink)

    def _ingest(
        self, part: Part, window: Window, fault: DataError | None, promised: "_Promise", sink: "PoolSink"
    ) -> dict[str, int]:
        tar, reading = self._samples(part, window, sink, frozenset())
        if tar.scattered:
            words = "%s: the members of %d keys do not lie side by side; it is read again, and they are joined"
            get_logger(__name__).warning(words, window.where, len(tar.scattered))
            sink.begin_anew()
            tar, reading = self._samples(part, window, sink, frozenset(tar.scattered))
        counts, damage = reading.counts, fault or (tar.gaps[0].error if tar.gaps else None)
        if damage is not None:
            if not tar.is_tar:
                raise damage
            counts["bad_records:damaged_shard"] += len(tar.gaps) or 1  # or the packing is damaged
            counts["bytes_skipped"] += tar.lost
            words = "%s: %s (damage in %d places, %d bytes lost; %d samples are read)"
            told = get_logger(__name__)
            told.warning(words, damage.where, damage.found, len(tar.gaps) or 1, tar.lost, counts["records"])
        if reading.pictures < promised.pairs:
            found = f"{reading.pictures} images" + (f", then damage: {damage.found}" if damage else "")
            raise DataError(
                storage.shown(part.path), found, f"{promised.pairs} as {promised.by} says",
                "copy or make this shard again, or take it out of `paths`",
            )  # fmt: skip
        counts.update({f"bad_members:{reason}": count for reason, count in tar.odd.items()})
        folders = tar.ignored.pop(FOLDERS, 0)
        passed_by = {"ignored_members": tar.ignored.total(), "ignored_folders": folders}
        counts.update({name: count for name, count in passed_by.items() if count})
        return dict(sorted(counts.items()))

    def _samples(
        self, part: Part, window: Window, sink: "PoolSink", joined: frozenset[str]
    ) -> tuple[SampleTar, "_Reading"]:
        """All samples read into the sink; `joined`: keys whose members lie apart."""
        tar = SampleTar(window, ROLES, tolerant=True, joined=joined)
        reading = _Reading(self, sink, part.path, window)
        for sample in tar:
            reading.sample(sample)
            reading.counts.update({"joined_samples": 1} if sample.is_joined else {})
        return tar, reading

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        counts = list(counts)
        if not any(one.get("records", 0) for one in counts):
            passed_by = sum(one.get("ignored_members", 0) for one in counts)
            found = "no sample in any tar" + (f", {passed_by} members of other names" if passed_by else "")
            expected = (
                "KEY.jpg (png, webp, ...) with KEY.txt or KEY.json, where the key ends at the first dot of a name"
            )
            raise DataError(", ".join(self.paths), found, expected, "check `paths` of this source, or pack them anew")
        records, reasons = sum(one.get("records", 0) for one in counts), Counter[str]()
        for one in counts:
            reasons.update({name.removeprefix(BAD): n for name, n in one.items() if name.startswith(BAD)})
        if reasons.total() >= records and not any(one.get("images", 0) for one in counts):
            words = ", ".join(f"{name} {count}" for name, count in reasons.most_common(4))
            found = f"none of {records} samples is one to use: {words}"
            expected = "KEY.jpg (png, webp, ...), one a key, where the key ends at the first dot of a name"
            raise DataError(", ".join(self.paths), found, expected, "see the log for the first of each, and pack anew")


@dataclass(frozen=True, slots=True)
class _Promise:
    pairs: int
    by: str


def _sidecar(path: str, suffix: str) -> str:
    return without_suffix(path) + suffix


def _folder(path: str) -> str:
    return path[: -len(storage.basename(path))] or "./"


def _promised(path: str) -> _Promise:
    """How many pairs the tar must hold, as far as anything beside it says. DataError when its bytes are other ones."""
    name, folder = storage.basename(path), _folder(path)
    if storage.exists(storage.join(folder, MANIFEST)):
        entry = next((one for one in Manifest.load(folder).shards if one.name == name), None)
        if entry is not None:
            found = storage.sha256_of(path)
            if found != entry.sha256:
                hint = "copy this shard again"
                raise DataError(storage.shown(path), f"sha256 {found[:16]}", f"{entry.sha256[:16]} in {MANIFEST}", hint)
            return _Promise(entry.pairs, MANIFEST)
    stats = _sidecar(path, "_stats.json")
    if storage.exists(stats):
        content = storage.json_object(storage.read_bytes(stats, most=_STATS_BYTES))
        if content is None:
            where, hint = storage.shown(stats), "make the shard again"
            raise DataError(where, "not a JSON object", "the counts of img2dataset", hint)
        successes = content.get("successes")
        if type(successes) is int:
            return _Promise(successes, storage.basename(stats))
    return _Promise(0, "nothing")


class _Reading:
    """Turns samples into rows of the pool. A member's size is asked before it is read."""

    def __init__(self, settings: ShardsSource, sink: "PoolSink", path: str, window: Window) -> None:
        self.settings, self.sink, self.path, self.window = settings, sink, path, window
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
        image = self.window.exactly(place.start, place.size) if place.size <= self.settings.max_image_bytes else None
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
        path = _sidecar(self.path, ".parquet")
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
            text, reason = visible(text, self.settings.max_text_chars)
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
