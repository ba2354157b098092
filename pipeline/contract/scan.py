"""The index of a plain WebDataset tar (img2dataset, clip_benchmark, ...), by reading it front to back.

One tar at a time, so no sample can ever span two shards; one pair in memory at a time, and none larger than MAX_PAIR.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.contract.index import INDEX_SCHEMA, Span, index_row, index_table
from pipeline.contract.pairs import MAX_MEMBER, MAX_META, MAX_PAIR, MAX_PER_NAME, is_utf8, parse_meta
from pipeline.contract.samples import IMAGE_SUFFIXES, Sample, SampleTar, split_name
from pipeline.contract.tar import damage
from pipeline.storage.window import Window

ROLES = {**dict.fromkeys(IMAGE_SUFFIXES, "image"), "txt": "text", "cls": "cls", "json": "json"}
_HEX32 = re.compile(r"[0-9a-f]{32}")
_ABSENT = Span(0, b"")
_FLUSH_ROWS = 10_000


@dataclass
class Scan:
    """table: the index of the complete pairs; incomplete: (key, why) of the others; ignored: members by suffix."""

    table: pa.Table
    incomplete: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def scan_tar(url: str) -> Scan:
    """Indexes one plain tar. A `.cls` member stands in for a missing `.txt`.

    why is one of too_big, image_missing, text_missing, bad_text (not UTF-8), bad_meta (no JSON object, NaN) or
    dup_field. Raises DataError naming file and offset for damage (see `tar.members`), for a name that leads out of the
    tar, for a pickle, for a key or member that comes twice and for more than a million pairs.
    """
    window, scan = Window(url), Scan(INDEX_SCHEMA.empty_table())
    tar, shard = SampleTar(window, ROLES), storage.basename(url)
    tables, rows, count = [scan.table], [], 0
    for sample in tar:
        row, why = _row(window, shard, sample, count)
        if row is None:
            scan.incomplete.append((sample.key, why))
            continue
        if count == MAX_PER_NAME:
            raise damage(window.where, sample.start, f"more than {count} pairs", "a shard of up to a million")
        rows.append(row)
        count += 1
        if len(rows) == _FLUSH_ROWS:
            tables.append(index_table(rows))
            rows = []
    scan.table = pa.concat_tables([*tables, index_table(rows)]).combine_chunks()
    scan.ignored = tar.ignored
    return scan


def _row(window: Window, shard: str, sample: Sample, number: int) -> tuple[dict[str, Any] | None, str]:
    """(row of the index, "") or (None, why there is none)."""
    if _too_big(sample):
        return None, "too_big"
    image, text, json_ = (_span(window, sample, *roles) for roles in (("image",), ("text", "cls"), ("json",)))
    meta, problem = parse_meta(json_.data) if json_ is not None else ({}, "")
    if image is None or not image.data:
        problem = "image_missing"
    elif text is None:
        problem = "text_missing"
    elif not is_utf8(text.data):
        problem = "bad_text"
    if problem or image is None or text is None:
        return None, problem
    uid = meta.get("uid")
    if not (isinstance(uid, str) and _HEX32.fullmatch(uid)):
        uid = hashlib.blake2b(f"{shard}/{sample.key}".encode(), digest_size=16).hexdigest()
    place = (sample.start, sample.end - sample.start)
    ext = IMAGE_SUFFIXES[split_name(sample.members["image"].name)[1]]
    return index_row(sample.key, uid, number, place, ext, (image, text, json_ or _ABSENT), meta), ""


def _too_big(sample: Sample) -> bool:
    """Whether a member is larger than any picture or text, or what lies between the members is."""
    sizes = {role: member.size for role, member in sample.members.items()}
    too_long = any(size > (MAX_MEMBER if role == "image" else MAX_META) for role, size in sizes.items())
    return too_long or sample.end - sample.start > MAX_PAIR


def _span(window: Window, sample: Sample, *roles: str) -> Span | None:
    """The bytes of the first of these roles that the sample has."""
    for role in roles:
        if role in sample.members:
            member = sample.members[role]
            return Span(member.start, window.exactly(member.start, member.size))
    return None
