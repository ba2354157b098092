"""Checks every byte of a curated dataset, and lists every problem rather than stopping at the first."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.contract import storage
from pipeline.contract.index import INDEX_SCHEMA, read_index, scan_tar
from pipeline.contract.manifest import MANIFEST, Manifest, ShardEntry
from pipeline.contract.pairs import index_name
from pipeline.errors import ClipmillError


@dataclass(frozen=True)
class Problem:
    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.expected}"


@dataclass
class Report:
    """What was checked, and every problem found."""

    shards: int = 0
    pairs: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(url: str, progress: Callable[[int], None] | None = None) -> Report:
    """Reads all of the dataset at `url`: manifest, sizes, sha256 of every file, every header, every row checksum, and
    files that do not belong. `progress` is called with the number of pairs after each shard."""
    report = Report()
    try:
        manifest = Manifest.load(url)
    except ClipmillError as error:
        _note(report, error)
        return report
    for entry in manifest.shards:
        _check_shard(url, entry, report)
        report.shards, report.pairs, report.bytes = report.shards + 1, report.pairs + entry.pairs, report.bytes + entry.bytes
        if progress is not None:
            progress(entry.pairs)
    _check_strangers(url, manifest, report)
    return report


def _note(report: Report, error: ClipmillError) -> None:
    report.problems.append(Problem(error.where, error.found, error.expected))


def _check_shard(url: str, entry: ShardEntry, report: Report) -> None:
    tar = storage.join(url, entry.name)
    where, table = storage.shown(tar), None
    try:
        table = read_index(url, entry)
    except ClipmillError as error:
        _note(report, error)
    try:
        found = storage.sha256_of(tar)
        if found == entry.sha256 and table is None:
            return
        if found != entry.sha256:
            report.problems.append(Problem(where, f"sha256 {found}, {storage.size(tar)} bytes", f"{entry.sha256}, {entry.bytes} bytes as the manifest says"))
        scanned = scan_tar(tar)
    except ClipmillError as error:
        _note(report, error)
        return
    for key, why in scanned.incomplete:
        report.problems.append(Problem(where, f"pair {key}: {why}", "an image, a text and metadata"))
    if table is not None:
        _compare(where, table, scanned.table, report)


def _compare(where: str, index: pa.Table, scanned: pa.Table, report: Report) -> None:
    """Row by row: what the index says against what the tar holds."""
    actual = {row["key"]: row for row in scanned.to_pylist()}
    for row in index.to_pylist():
        found = actual.pop(row["key"], None)
        if found is None:
            report.problems.append(Problem(f"{where} at byte {row['offset']}", f"no pair {row['key']}", "the pair as the index says"))
        elif found != row:
            name = next(name for name in ("checksum", *INDEX_SCHEMA.names) if found[name] != row[name])
            place = f"{where} at byte {row['offset']} (pair {row['key']})"
            report.problems.append(Problem(place, f"{name} {found[name]!r}", f"{row[name]!r} as the index says"))
    for key, row in actual.items():
        report.problems.append(Problem(f"{where} at byte {row['offset']}", f"pair {key}", "not in the index"))


def _check_strangers(url: str, manifest: Manifest, report: Report) -> None:
    """Shards and index files that the manifest does not name, and temporary files left by a kill."""
    known = {entry.name for entry in manifest.shards}
    known_index = {storage.basename(index_name(name)) for name in known}
    for name in storage.list_sizes(url):
        if name.startswith(storage.TEMP_PREFIX) or (name.endswith(".tar") and name not in known):
            report.problems.append(Problem(storage.shown(storage.join(url, name)), "not referenced", f"named in {MANIFEST}, or removed"))
    folder = storage.join(url, "index")
    for name in storage.list_sizes(folder):
        if name not in known_index:
            report.problems.append(Problem(storage.shown(storage.join(folder, name)), "not referenced", f"named in {MANIFEST}, or removed"))
