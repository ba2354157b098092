"""Checks every byte of a curated dataset, and lists every problem rather than stopping at the first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.contract.index import Span, index_row, read_index
from pipeline.contract.manifest import MANIFEST, Manifest, ShardEntry
from pipeline.contract.pairs import EXTS, INDEX, index_name, is_utf8, key_of, parse_meta, row_checksum
from pipeline.contract.shards import pack_pair
from pipeline.contract.tar import END
from pipeline.errors import ClipmillError, DataError
from pipeline.storage.window import Window

CUT_BYTES = 256 << 20  # of a cut tar's index: as much as its lost pairs may have there


@dataclass(frozen=True)
class Problem:
    """where: the file and the byte; found, expected: in words."""

    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.expected}"


@dataclass
class Report:
    """How much was checked, and every problem found."""

    shards: int = 0
    pairs: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, where: str, found: str, expected: str) -> None:
        self.problems.append(Problem(where, found, expected))

    def note(self, error: ClipmillError) -> None:
        self.add(error.where, error.found, error.expected)


def verify(url: str, progress: Callable[[int], None] | None = None) -> Report:
    """Reads all of the dataset at `url`: manifest, sha256 of every file, every row checksum, every tar header, and
    files that do not belong. `progress` is called with the number of pairs after each shard."""
    report = Report()
    try:
        manifest = Manifest.load(url)
    except ClipmillError as error:
        report.note(error)
        return report
    for entry in manifest.shards:
        _check_shard(url, entry, report)
        report.shards += 1
        report.pairs += entry.pairs
        report.bytes += entry.bytes
        if progress is not None:
            progress(entry.pairs)
    _check_strangers(url, manifest, report)
    return report


def _check_shard(url: str, entry: ShardEntry, report: Report) -> None:
    tar = storage.join(url, entry.name)
    try:
        size, sha256 = storage.size(tar), storage.sha256_of(tar)
        if (size, sha256) != (entry.bytes, entry.sha256):
            expected = f"{entry.bytes} bytes, sha256 {entry.sha256} as the manifest says"
            report.add(storage.shown(tar), f"{size} bytes, sha256 {sha256}", expected)
        index = read_index(url, entry, min(entry.bytes, size + CUT_BYTES))
        _check_rows(Window(tar), int(entry.name[6:12]), index, report)
    except ClipmillError as error:
        report.note(error)


def _check_rows(window: Window, shard: int, table: pa.Table, report: Report) -> None:
    """Every pair against its index row. What a tar holds besides the payloads is known, so all of it is compared."""
    at = 0
    for row in table.to_pylist():
        try:
            block = window.exactly(at, row["length"])
        except DataError as error:
            report.add(error.where, f"{error.found}: pairs {row['key']} and later are lost", "the whole shard")
            return
        if problem := _row_problem(row, key_of(shard, row["row"]), at, block):
            report.add(f"{window.where} at byte {at} (pair {row['key']})", *problem)
        at += row["length"]
    if window.size != at + len(END) or window.exactly(at, len(END)) != END:
        report.add(
            f"{window.where} at byte {at}", f"{window.size - at} bytes", "two zero blocks and the end of the file"
        )


def _row_problem(row: dict[str, Any], key: str, at: int, block: bytes) -> tuple[str, str] | None:
    """(found, expected) of the first thing wrong with one pair, or None."""
    if row["key"] != key or row["ext"] not in EXTS:
        return f"key {row['key']!r} and format {row['ext']!r} in the index", f"{key!r} and one of {', '.join(EXTS)}"
    spans = (_span(row, "image", at, block), _span(row, "text", at, block), _span(row, "json", at, block))
    image, text, meta = (span.data for span in spans)
    if (found := row_checksum(image, text, meta)) != row["checksum"]:
        return f"row checksum {found:016x}", f"{row['checksum']:016x} as the index says"
    rebuilt, _ = pack_pair(row["key"], {row["ext"]: image, "json": meta, "txt": text})
    if rebuilt != block:
        differs = next(
            (i for i, pair in enumerate(zip(rebuilt, block, strict=False)) if pair[0] != pair[1]), len(block)
        )
        return f"a header or padding differs at byte {at + differs}", "the tar header the contract fixes"
    content, _ = parse_meta(meta)
    if not content or not is_utf8(text):
        return "metadata or a caption that nobody can read", "a JSON object, and a text in UTF-8"
    again = index_row(row["key"], str(content.get("uid")), row["row"], (at, len(block)), row["ext"], spans, content)
    names = [name for name in row if row[name] != again[name]]
    return (f"{names[0]} {row[names[0]]!r} in the index", f"{again[names[0]]!r} as the pair says") if names else None


def _span(row: dict[str, Any], member: str, at: int, block: bytes) -> Span:
    """One payload of the pair whose tar bytes `block` start at `at`."""
    start = row[f"{member}_offset"] - at
    return Span(row[f"{member}_offset"], block[start : start + row[f"{member}_length"]])


def _check_strangers(url: str, manifest: Manifest, report: Report) -> None:
    """Shards and index files that the manifest does not name, and temporary files left by a kill."""
    known = {entry.name for entry in manifest.shards} | {index_name(entry.name) for entry in manifest.shards}
    inside = [f"{INDEX}/{name}" for name in storage.list_sizes(storage.join(url, INDEX))]
    for name in [*storage.list_sizes(url), *inside]:
        ours = name.endswith((".tar", ".parquet")) or storage.basename(name).startswith(storage.TEMP_PREFIX)
        if ours and name not in known:
            report.add(storage.shown(storage.join(url, name)), "not referenced", f"named in {MANIFEST}, or removed")
