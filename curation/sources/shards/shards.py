"""WebDataset tars as input: clipmill's own, img2dataset's, and others with an image, a caption and perhaps a .json.

One part is one tar (with its NNNNN.parquet beside it, where the fields stand for samples without .json). Images come
with their bytes; captions are all that the fields hold; fields clipmill does not know go through in `extra`.

A tar cut short or damaged keeps the pairs that are complete before the damage, counted and logged; but where a
manifest or NNNNN_stats.json says that it holds more, it is an error naming it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from curation.sources.html.page import visible
from curation.sources.shards.samples import Sample, SampleTar, parse_fields, sidecar_rows
from curation.sources.source import Part, Source
from curation.sources.urls import resolve
from curation.table import uids
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.errors import DataError
from pipeline.images.formats import image_format
from pipeline.log import get_logger

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_UID = re.compile(r"[0-9a-f]{32}")

_URL_FIELDS = ("url", "URL")
# A caption field -> the source its texts are given; a list in it may hold texts or {text, source} objects.
_CAPTION_FIELDS = {
    "captions": "caption", "caption": "caption", "text": "caption", "TEXT": "caption", "alt": "alt", "alt_text": "alt",
    "title": "title", "all_captions": "all_captions", "top_caption": "top_caption", "texts": "caption",
}  # fmt: skip
# Facts of the tar or of the bytes, found out anew; and `exif`, which may say where a person lives.
_LEFT_OUT = frozenset("key __key__ status error_message width height exif uid page_url language".split())


class ShardsSource(Source):
    """Reads WebDataset tars."""

    kind: Literal["shards"] = "shards"
    max_image_bytes: int = Field(default=20 << 20, ge=1, description="larger images are not stored")
    max_text_chars: int = Field(default=8192, ge=1, description="a longer text is no caption")

    suffixes: ClassVar[tuple[str, ...]] = (".tar",)

    def content_digest(self, path: str) -> str:
        beside = _sidecar(path, ".parquet")
        return storage.blake2b_of(path) + (storage.blake2b_of(beside) if storage.exists(beside) else "")

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Counts: records (samples), images, and by reason bad_records, bad_bodies, bad_texts; bytes_skipped by damage.

        Raises DataError naming the tar when it holds no sample at all, does not hold what its manifest says, or holds
        members that no dataset should: a second sample of one key, a name leading out of the tar, code.
        """
        promised = _promised(part.path)
        reading = _Reading(self, sink, part.path)
        tar = SampleTar(part.path)
        for sample in tar.samples():
            reading.sample(sample)
        counts = reading.counts
        if tar.damage is not None:
            if not counts["records"]:
                raise tar.damage
            counts["bad_records:damaged_shard"] += 1
            counts["bytes_skipped"] += tar.skipped
            damage = f"{tar.damage.where}: {tar.damage.found}"
            get_logger(__name__).warning("%s; the %d samples before it are kept", damage, counts["records"])
        if tar.images < promised.pairs:
            found = f"{tar.images} images" + (f", then damage: {tar.damage.found}" if tar.damage else "")
            raise DataError(
                storage.shown(part.path), found, f"{promised.pairs} as {promised.by} says",
                "copy or make this shard again, or take it out of `paths`",
            )  # fmt: skip
        counts.update(tar.ignored)
        return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class _Promise:
    pairs: int
    by: str


def _sidecar(path: str, suffix: str) -> str:
    return path.removesuffix(".tar") + suffix


def _promised(path: str) -> _Promise:
    """How many pairs the tar must hold, as far as anything beside it says. DataError when its bytes are other ones."""
    name, folder = storage.basename(path), path[: -len(storage.basename(path))] or "./"
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
        try:
            successes = json.loads(storage.read_bytes(stats)).get("successes")
        except (ValueError, AttributeError) as error:
            where, hint = storage.shown(stats), "make the shard again"
            raise DataError(where, "not a JSON object", "the counts of img2dataset", hint) from error
        if isinstance(successes, int):
            return _Promise(successes, storage.basename(stats))
    return _Promise(0, "nothing")


class _Reading:
    """Turns samples into rows of the pool."""

    def __init__(self, settings: ShardsSource, sink: "PoolSink", path: str) -> None:
        self.settings, self.sink, self.path = settings, sink, path
        self.counts: Counter[str] = Counter({"records": 0, "images": 0})
        self._rows: dict[str, dict[str, Any]] | None = None

    def sample(self, sample: Sample) -> None:
        self.counts["records"] += 1
        meta, problem = self.meta(sample)
        image = sample.members.get("image", b"")
        problem = problem or ("" if image else "image_missing")
        if problem:
            self.counts[f"bad_records:{problem}"] += 1
            return
        url, uid = self.identity(meta)
        if len(image) > self.settings.max_image_bytes:
            self.counts["bad_bodies:too_big"] += 1
        elif not image_format(image):
            self.counts["bad_bodies:not_image"] += 1
        else:
            self.counts["images"] += 1
        extra = json.dumps(_extra(meta, image), sort_keys=True, ensure_ascii=False)
        fits = len(image) <= self.settings.max_image_bytes
        if not (url or uid or fits):
            uid = uids.uid_of_image(hashlib.sha256(image).hexdigest())
        uid = self.sink.image(url=url, uid=uid, body=image if fits else None, extra="" if extra == "{}" else extra)
        page_url, language = (_text(meta, name) for name in ("page_url", "language"))
        texts = list(self.captions(sample, meta))
        for source, text in dict.fromkeys(texts or [("caption", "")]):
            self.sink.occurrence(url=url, uid=uid, text=text, source=source, page_url=page_url, language=language)

    def identity(self, meta: dict[str, Any]) -> tuple[str, str]:
        written = next(filter(None, (_text(meta, name) for name in _URL_FIELDS)), "")
        url, reason = resolve("", written) if written else ("", "")
        if reason:
            self.counts[f"bad_mentions:{reason}"] += 1
        uid = meta.get("uid")
        return url, uid if isinstance(uid, str) and _UID.fullmatch(uid) else ""

    def meta(self, sample: Sample) -> tuple[dict[str, Any], str]:
        """(fields, "") or ({}, reason). Without a .json they come from the parquet beside the tar."""
        if sample.problem:
            return {}, sample.problem
        if "json" in sample.members:
            return parse_fields(sample.members["json"])
        if self._rows is None:
            self._rows = sidecar_rows(_sidecar(self.path, ".parquet"))
        return self._rows.get(sample.key, {}), ""

    def captions(self, sample: Sample, meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """(source, text) of every caption that is fit to be one; clipmill's own sources are kept as they are."""
        own = _listed(meta.get("captions"), "caption")
        if not own and sample.members.get("txt"):
            own = [("caption", sample.members["txt"].decode("utf-8", "replace"))]  # U+FFFD is refused below
        for name, source in _CAPTION_FIELDS.items():
            if name != "captions":
                own += _listed(meta.get(name), source)
        for source, text in own:
            text, reason = visible(text, self.settings.max_text_chars)
            if reason:
                self.counts[f"bad_texts:{reason}"] += 1
            elif text.strip():
                yield source, text


def _text(meta: dict[str, Any], name: str) -> str:
    value = meta.get(name)
    return value if isinstance(value, str) else ""


def _listed(value: Any, source: str) -> list[tuple[str, str]]:
    """The texts in a caption field: a text, or a list of texts or of {text, source}."""
    found = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            found.append((source, item))
        elif isinstance(item, dict) and isinstance(item.get("text"), str):
            own = item.get("source")
            found.append((own if isinstance(own, str) and own else source, item["text"]))
    return found


def _extra(meta: dict[str, Any], image: bytes) -> dict[str, Any]:
    """The fields clipmill does not know. img2dataset's sha256 is of the bytes before it resized them: renamed then."""
    known = {*_LEFT_OUT, *_CAPTION_FIELDS, *_URL_FIELDS, "sha256"}
    extra = {name: value for name, value in meta.items() if name not in known and value is not None}
    sha256 = meta.get("sha256")
    if isinstance(sha256, str) and sha256 and sha256 != hashlib.sha256(image).hexdigest():
        extra["original_sha256"] = sha256
    return extra
