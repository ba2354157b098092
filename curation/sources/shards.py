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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from curation.magic import image_ext
from curation.sources.html import visible
from curation.sources.source import Part, Source, file_digest
from curation.urls import resolve
from pipeline.contract import storage
from pipeline.contract.index import IMAGE_SUFFIXES, REFUSED_SUFFIXES
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.tar import Member, Window, damage, members
from pipeline.errors import DataError
from pipeline.log import get_logger

if TYPE_CHECKING:
    from curation.pool import PoolSink

_IMAGES = frozenset([*IMAGE_SUFFIXES, "gif", "bmp", "tif", "tiff", "avif", "jxl", "heic", "jfif", "img"])
_NAME = re.compile(r"(?:\./)?((?:[^/\\:\x00-\x1f\x7f]+/)*)([^/\\:\x00-\x1f\x7f]*)")
_UID = re.compile(r"[0-9a-f]{32}")
_META_BYTES = 4 << 20

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
        return file_digest(path) + (file_digest(beside) if storage.exists(beside) else "")

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Counts: records (samples), images, and by reason bad_records, bad_bodies, bad_texts; bytes_skipped by damage.

        Raises DataError naming the tar when it holds no sample at all, does not hold what its manifest says, or holds
        members that no dataset should: a second sample of one key, a name leading out of the tar, code.
        """
        promised = _promised(part.path)
        reading = _Reading(self, sink, part.path)
        tar = _Tar(part.path)
        for sample in tar.samples():
            reading.sample(sample)
        counts = reading.counts
        if tar.damage is not None:
            if not counts["records"]:
                raise tar.damage
            counts["bad_records:damaged_shard"] += 1
            counts["bytes_skipped"] += tar.skipped
            get_logger(__name__).warning("%s; the %d samples before it are kept", tar.damage, counts["records"])
        if tar.images < promised.pairs:
            found = f"{tar.images} images" + (f" before damage: {tar.damage}" if tar.damage else "")
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
            raise DataError(storage.shown(stats), "not a JSON object", "img2dataset's counts", "make the shard again") from error
        if isinstance(successes, int):
            return _Promise(successes, storage.basename(stats))
    return _Promise(0, "nothing")


@dataclass(slots=True)
class _Sample:
    """The members of one key. problem: a reason for which the sample is of no use."""

    key: str
    start: int
    members: dict[str, bytes] = field(default_factory=dict)  # by role: image, txt, json
    problem: str = ""


class _Tar:
    """One pass over a tar. After it: damage (or None), bytes skipped because of it, images seen, members ignored."""

    def __init__(self, path: str) -> None:
        self.window = Window(path)
        self.damage: DataError | None = None
        self.skipped = self.images = 0
        self.ignored: Counter[str] = Counter()

    def samples(self) -> Iterator[_Sample]:
        sample: _Sample | None = None
        seen: set[str] = set()
        walk = members(self.window)
        while True:
            try:
                member = next(walk, None)
            except DataError as error:
                # The sample in hand may lack members that the damage took, so it goes too.
                self.damage = error
                self.skipped = self.window.size - (sample.start if sample else 0)
                return
            key, role = self._role(member) if member else ("", "")
            if member and not role:
                continue
            if sample is not None and key != sample.key:
                self.images += "image" in sample.members
                yield sample
                sample = None
            if member is None:
                return
            if sample is None:
                if key in seen:
                    raise damage(self.window.where, member.header, f"key {key!r} again", "each key once, members side by side")
                seen.add(key)
                sample = _Sample(key, member.header)
            self._take(sample, role, member)

    def _role(self, member: Member) -> tuple[str, str]:
        """(key, role) with the key cut at the first dot of the file name; role "" for what is not read."""
        match = _NAME.fullmatch(member.name)
        if not match or len(member.name) > 255 or ".." in member.name.split("/"):
            raise damage(self.window.where, member.header, f"member name {member.name[:300]!r}", "a plain relative name")
        stem, _, suffix = match[2].partition(".")
        suffix = suffix.lower()
        if REFUSED_SUFFIXES & set(suffix.split(".")):
            raise damage(self.window.where, member.header, f"member {member.name!r}", "no code-bearing members")
        role = "image" if suffix in _IMAGES else suffix if suffix in ("txt", "json") else ""
        if not role and not member.is_folder:
            self.ignored["ignored_members"] += 1
        return match[1] + stem, role if stem and not member.is_folder else ""

    def _take(self, sample: _Sample, role: str, member: Member) -> None:
        if role in sample.members:
            raise damage(self.window.where, member.header, f"a second {role} for key {sample.key!r}", "one of each a key")
        if role != "image" and member.size > _META_BYTES:
            sample.problem, data = "bad_meta", b""
        else:
            data = self.window.read(member.start, member.size)
        sample.members[role] = data


class _Reading:
    """Turns samples into rows of the pool."""

    def __init__(self, settings: ShardsSource, sink: "PoolSink", path: str) -> None:
        self.settings, self.sink, self.path = settings, sink, path
        self.counts: Counter[str] = Counter({"records": 0, "images": 0})
        self._rows: dict[str, dict[str, Any]] | None = None

    def sample(self, sample: _Sample) -> None:
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
        elif not image_ext(image):
            self.counts["bad_bodies:not_image"] += 1
        else:
            self.counts["images"] += 1
        extra = json.dumps(_extra(meta, image), sort_keys=True, ensure_ascii=False)
        fits = len(image) <= self.settings.max_image_bytes
        if not (url or uid or fits):
            uid = hashlib.blake2b(hashlib.sha256(image).digest(), digest_size=16).hexdigest()
        uid = self.sink.image(url=url, uid=uid, body=image if fits else None, extra="" if extra == "{}" else extra)
        page_url, language = (meta.get(name) if isinstance(meta.get(name), str) else "" for name in ("page_url", "language"))
        texts = list(self.captions(sample, meta))
        for source, text in dict.fromkeys(texts or [("caption", "")]):
            self.sink.occurrence(
                url=url, uid=uid, text=text, source=source, page_url=page_url or "", language=language or ""
            )

    def identity(self, meta: dict[str, Any]) -> tuple[str, str]:
        written = next((meta[name] for name in _URL_FIELDS if isinstance(meta.get(name), str) and meta[name]), "")
        url, reason = resolve("", written) if written else ("", "")
        if reason:
            self.counts[f"bad_mentions:{reason}"] += 1
        uid = meta.get("uid")
        return url, uid if isinstance(uid, str) and _UID.fullmatch(uid) else ""

    def meta(self, sample: _Sample) -> tuple[dict[str, Any], str]:
        """(fields, "") or ({}, reason). Without a .json they come from the parquet beside the tar."""
        if sample.problem:
            return {}, sample.problem
        if "json" in sample.members:
            return parse_fields(sample.members["json"])
        if self._rows is None:
            self._rows = _sidecar_rows(_sidecar(self.path, ".parquet"))
        return self._rows.get(sample.key, {}), ""

    def captions(self, sample: _Sample, meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
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


class _Twice(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def parse_fields(data: bytes) -> tuple[dict[str, Any], str]:
    """(the JSON object, "") or ({}, reason): bad_meta when it is none that can be written again, dup_field."""
    try:
        meta = json.loads(data, parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()  # lone surrogates, 1e999
    except _Twice:
        return {}, "dup_field"
    except (ValueError, RecursionError):
        return {}, "bad_meta"
    return (meta, "") if isinstance(meta, dict) else ({}, "bad_meta")


def _sidecar_rows(path: str) -> dict[str, dict[str, Any]]:
    """key -> fields of img2dataset's table of a shard; empty when there is none. DataError when it is damaged."""
    if not storage.exists(path):
        return {}
    rows = storage.read_parquet(path).to_pylist()
    plain = (str, int, float, bool, list, dict)
    found = {}
    for row in rows:
        fields, reason = parse_fields(json.dumps({k: v for k, v in row.items() if isinstance(v, plain)}, default=str).encode())
        if isinstance(row.get("key"), str) and not reason:
            found[row["key"]] = fields
    return found
