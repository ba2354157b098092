"""The index: where every pair of a shard lies, its checksum and its light columns. Made by the writer, or by a scan.

`scan_tar` makes the same table for any plain WebDataset tar (img2dataset, clip_benchmark, ...), one tar at a time, so
no sample can ever span two shards.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import storage
from pipeline.contract.manifest import ShardEntry
from pipeline.contract.pairs import index_name, row_checksum
from pipeline.contract.tar import Member, damage, members
from pipeline.errors import DataError
from pipeline.storage.window import Window

# Offsets are bytes from the start of the tar. A member that is absent has length 0.
INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uid", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("ext", pa.string(), nullable=False),
        pa.field("image_offset", pa.int64(), nullable=False),
        pa.field("image_length", pa.int64(), nullable=False),
        pa.field("text_offset", pa.int64(), nullable=False),
        pa.field("text_length", pa.int64(), nullable=False),
        pa.field("json_offset", pa.int64(), nullable=False),
        pa.field("json_length", pa.int64(), nullable=False),
        pa.field("checksum", pa.uint64(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("num_captions", pa.int32(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("language", pa.string()),
        pa.field("url", pa.string()),
    ]
)

IMAGE_SUFFIXES = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
REFUSED_SUFFIXES = {"pkl", "pickle", "pyd", "pth", "pt"}  # decoders of these can run code
_ROLE = {**dict.fromkeys(IMAGE_SUFFIXES, "image"), "txt": "text", "cls": "cls", "json": "json"}
_HEX32 = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"(?:\./)?((?:[^/\\:\x00-\x1f\x7f]+/)*)([^/\\:\x00-\x1f\x7f]*)")


class Span(NamedTuple):
    """A member's payload and where it starts."""

    offset: int
    data: bytes


_ABSENT = Span(0, b"")


def index_row(
    key: str, uid: str, row: int, place: tuple[int, int], ext: str, spans: tuple[Span, Span, Span], meta: dict[str, Any]
) -> dict[str, Any]:
    """One row of the index. place: (offset, length) of the whole pair; spans: image, text, json."""
    image, text, json_ = spans
    return {
        "key": key, "uid": uid, "row": row, "offset": place[0], "length": place[1], "ext": ext,
        "image_offset": image.offset, "image_length": len(image.data),
        "text_offset": text.offset, "text_length": len(text.data),
        "json_offset": json_.offset, "json_length": len(json_.data),
        "checksum": row_checksum(image.data, text.data, json_.data),
        "caption": text.data.decode(),
        "num_captions": max(1, len(meta["captions"])) if isinstance(meta.get("captions"), list) else 1,
        **{side: _side(meta.get(side)) for side in ("width", "height")},
        **{name: meta[name] if isinstance(meta.get(name), str) else None for name in ("language", "url")},
    }  # fmt: skip


def _side(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def index_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, INDEX_SCHEMA)


def read_index(folder: str, entry: ShardEntry) -> pa.Table:
    """The index of one shard of a finished dataset, its sha256 and shape verified. Raises DataError naming it."""
    url = storage.join(folder, index_name(entry.name))
    data, where = storage.read_bytes(url), storage.shown(url)
    found = hashlib.sha256(data).hexdigest()
    if found != entry.index_sha256:
        expected = f"{entry.index_sha256} as the manifest says"
        raise DataError(
            f"{where}, bytes 0 to {len(data)}",
            f"sha256 {found}",
            expected,
            "copy this file again, or make the dataset again",
        )
    table = storage.parquet_table(pa.BufferReader(data), where, INDEX_SCHEMA.names)
    if table.num_rows != entry.pairs:
        raise DataError(where, f"{table.num_rows} rows", f"{entry.pairs} pairs as the manifest says")
    return table.cast(INDEX_SCHEMA)


@dataclass
class Scan:
    """table: the index of the complete pairs; incomplete: (key, why) of the others; ignored: members by suffix."""

    table: pa.Table
    incomplete: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass
class _Sample:
    """Members gathered under one key."""

    key: str
    offset: int
    end: int = 0
    ext: str = ""
    spans: dict[str, Span] = field(default_factory=dict)


def scan_tar(url: str) -> Scan:
    """Indexes one plain tar by reading it front to back. A `.cls` member stands in for a missing `.txt`.

    why is one of image_missing, text_missing, bad_text (not UTF-8) or bad_meta (no JSON object, NaN).
    Raises DataError naming file and offset for damage (see `tar.members`), for a name that leads out of the tar, for a
    pickle, and for a key or member that comes twice.
    """
    window, scan = Window(url), Scan(INDEX_SCHEMA.empty_table())
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    sample: _Sample | None = None
    shard = storage.basename(url)
    for member in members(window):
        key, suffix = _split(member, window.where)
        role = _ROLE.get(suffix)
        if role is None:
            scan.ignored[suffix or "no suffix"] += 1
            continue
        if sample is None or key != sample.key:
            if key in seen:
                raise damage(
                    window.where, member.header, f"key {key!r} again", "each key once, its members side by side"
                )
            if sample is not None:
                _finish(sample, shard, rows, scan)
            seen.add(key)
            sample = _Sample(key, member.header)
        if role in sample.spans:
            raise damage(
                window.where, member.header, f"a second {role} for key {key!r}", "one image, text and json a key"
            )
        sample.spans[role] = Span(member.start, window.exactly(member.start, member.size))
        sample.end = member.end
        sample.ext = IMAGE_SUFFIXES.get(suffix, sample.ext)
    if sample is not None:
        _finish(sample, shard, rows, scan)
    scan.table = index_table(rows)
    return scan


def _split(member: Member, where: str) -> tuple[str, str]:
    """(key, lower-case suffix) as WebDataset cuts them: at the first dot of the file name. Suffix "" for a folder."""
    match = _NAME.fullmatch(member.name)
    if not match or len(member.name) > 255 or ".." in member.name.split("/"):
        raise damage(where, member.header, f"member name {member.name[:300]!r}", "a plain relative name")
    stem, _, suffix = match[2].partition(".")
    if REFUSED_SUFFIXES & set(suffix.lower().split(".")):
        raise damage(where, member.header, f"member {member.name!r}", "no pickles or other code-bearing members")
    return (match[1] + stem, suffix.lower()) if stem and not member.is_folder else ("", "")


def _finish(sample: _Sample, shard: str, rows: list[dict[str, Any]], scan: Scan) -> None:
    image, json_ = sample.spans.get("image", _ABSENT), sample.spans.get("json", _ABSENT)
    text = sample.spans.get("text") or sample.spans.get("cls")
    meta: dict[str, Any] | None = {}
    if "json" in sample.spans:
        meta = _parse_meta(json_.data)
    if not image.data:
        scan.incomplete.append((sample.key, "image_missing"))
    elif text is None:
        scan.incomplete.append((sample.key, "text_missing"))
    elif not _is_utf8(text.data):
        scan.incomplete.append((sample.key, "bad_text"))
    elif meta is None:
        scan.incomplete.append((sample.key, "bad_meta"))
    else:
        uid = meta.get("uid")
        if not (isinstance(uid, str) and _HEX32.fullmatch(uid)):
            uid = hashlib.blake2b(f"{shard}/{sample.key}".encode(), digest_size=16).hexdigest()
        place = (sample.offset, sample.end - sample.offset)
        rows.append(index_row(sample.key, uid, len(rows), place, sample.ext, (image, text, json_), meta))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_meta(data: bytes) -> dict[str, Any] | None:
    """The JSON object, or None when it is not one that can be written again."""
    try:
        meta = json.loads(data, parse_constant=_refuse)
        json.dumps(meta, ensure_ascii=False).encode()  # lone surrogates
    except (ValueError, RecursionError):
        return None
    return meta if isinstance(meta, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
