"""The samples of a WebDataset tar, key by key, up to its end or to the first damage; and the fields of a sample."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline import storage
from pipeline.contract.index import IMAGE_SUFFIXES, REFUSED_SUFFIXES
from pipeline.contract.tar import Member, damage, members
from pipeline.errors import DataError
from pipeline.storage.window import Window

_IMAGES = frozenset([*IMAGE_SUFFIXES, "gif", "bmp", "tif", "tiff", "avif", "jxl", "heic", "jfif", "img"])
_NAME = re.compile(r"(?:\./)?((?:[^/\\:\x00-\x1f\x7f]+/)*)([^/\\:\x00-\x1f\x7f]*)")
_ROLES = {"image", "txt", "json"}
_META_BYTES = 4 << 20


@dataclass(slots=True)
class Sample:
    """The members of one key. problem: a reason for which the sample is of no use."""

    key: str
    start: int
    end: int = 0
    members: dict[str, bytes] = field(default_factory=dict)  # by role: image, txt, json
    problem: str = ""


class SampleTar:
    """One pass over a tar. After it: damage (or None), bytes skipped because of it, images seen, members ignored."""

    def __init__(self, path: str) -> None:
        self.window = Window(path)
        self.damage: DataError | None = None
        self.skipped = self.images = 0
        self.ignored: Counter[str] = Counter()

    def samples(self) -> Iterator[Sample]:
        sample: Sample | None = None
        seen: set[str] = set()
        walk = members(self.window)
        while True:
            try:
                member = next(walk, None)
            except DataError as error:
                # The sample in hand goes too if it may lack members that the damage took.
                self.damage, self.skipped = error, self.window.size - (sample.start if sample else 0)
                if sample is not None and sample.members.keys() == _ROLES:
                    self.skipped = self.window.size - sample.end
                    self.images += 1
                    yield sample
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
                    raise self._refused(member, f"key {key!r} again", "each key once, its members side by side")
                seen.add(key)
                sample = Sample(key, member.header)
            self._take(sample, role, member)

    def _role(self, member: Member) -> tuple[str, str]:
        """(key, role) with the key cut at the first dot of the file name; role "" for what is not read."""
        match = _NAME.fullmatch(member.name)
        if not match or len(member.name) > 255 or ".." in member.name.split("/"):
            raise self._refused(member, f"member name {member.name[:300]!r}", "a plain relative name")
        stem, _, suffix = match[2].partition(".")
        suffix = suffix.lower()
        if REFUSED_SUFFIXES & set(suffix.split(".")):
            raise self._refused(member, f"member {member.name!r}", "no code-bearing members")
        role = "image" if suffix in _IMAGES else suffix if suffix in ("txt", "json") else ""
        if not role and not member.is_folder:
            self.ignored["ignored_members"] += 1
        return match[1] + stem, role if stem and not member.is_folder else ""

    def _refused(self, member: Member, found: str, expected: str) -> DataError:
        return damage(self.window.where, member.header, found, expected)

    def _take(self, sample: Sample, role: str, member: Member) -> None:
        if role in sample.members:
            raise self._refused(member, f"a second {role} for key {sample.key!r}", "one of each a key")
        if role != "image" and member.size > _META_BYTES:
            sample.problem, data = "bad_meta", b""
        else:
            data = self.window.exactly(member.start, member.size)
        sample.members[role], sample.end = data, member.end


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


def sidecar_rows(path: str) -> dict[str, dict[str, Any]]:
    """key -> fields of img2dataset's table of a shard; empty when there is none. DataError when it is damaged."""
    if not storage.exists(path):
        return {}
    rows = storage.read_parquet(path).to_pylist()
    plain = (str, int, float, bool, list, dict)  # not bytes, not null
    found = {}
    for row in rows:
        kept = {name: value for name, value in row.items() if isinstance(value, plain)}
        fields, reason = parse_fields(json.dumps(kept, default=str).encode())
        if isinstance(row.get("key"), str) and not reason:
            found[row["key"]] = fields
    return found
