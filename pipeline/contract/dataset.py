"""Opens a curated dataset, or plain tars, for reading: every pair in one range read, checked before it is used."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.contract.index import read_index
from pipeline.contract.manifest import MANIFEST, Manifest, ShardEntry
from pipeline.contract.pairs import captions_problem, row_checksum
from pipeline.contract.scan import scan_tar
from pipeline.contract.verify import Problem, Report, verify
from pipeline.errors import DataError

__all__ = ["Dataset", "Problem", "RawPair", "Report", "ShardRef", "open_dataset", "verify"]

OPEN_FILES = 64  # shards kept open
OPEN_TABLES = 32  # shards whose places are kept in memory, unless `keep_open` asks for more
MERGE_GAP = 128 << 10  # bytes read for nothing rather than asking twice
MERGE_MAX = 16 << 20  # bytes in one merged read


class ShardRef(NamedTuple):
    name: str
    url: str
    num_pairs: int


@dataclass(frozen=True, slots=True)
class RawPair:
    """A pair as stored, its checksum verified. meta always has `captions` (of a plain tar: the text, source `txt`)."""

    uid: str
    key: str
    image: bytes
    ext: str
    text: str
    meta: dict[str, Any]


class _Places:
    """What a read needs of an index table, as arrays: about 130 bytes a pair."""

    def __init__(self, table: pa.Table) -> None:
        self.uid, self.key, self.ext = (table[name].combine_chunks() for name in ("uid", "key", "ext"))
        names = (
            "offset",
            "length",
            "image_offset",
            "image_length",
            "text_offset",
            "text_length",
            "json_offset",
            "json_length",
        )
        self.numbers_R8 = np.stack([table[name].to_numpy() for name in names], axis=1)
        self.checksum_R = table["checksum"].to_numpy()


class Reopened:
    """What a dataset keeps open of its shards: tables and files, the last ones used. Safe in threads, after a fork and
    through pickle. Who is one says how a table is loaded (`_load`) and where a file lies (`_url`)."""

    def __init__(self) -> None:
        self._open_tables = OPEN_TABLES
        self._make_caches()

    def _load(self, shard: int) -> Any:
        raise NotImplementedError

    def _url(self, shard: int) -> str:
        raise NotImplementedError

    def _make_caches(self) -> None:
        # lru_cache holds no lock while it calls and none across a fork; a file closes when its last user lets go.
        self._table = lru_cache(self._open_tables)(self._load)
        self._file = lru_cache(OPEN_FILES)(lambda shard: storage.RangeReader(self._url(shard)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_table", "_file")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_caches()

    def keep_open(self, shards: int) -> None:
        """Keeps the tables of at least so many shards in memory: a reader that hops between shards names how many."""
        self._open_tables = max(self._open_tables, shards)
        self._make_caches()


class Dataset(Reopened):
    """shards: in order; num_pairs: in all; digest: names the pairs and their order.

    Safe in threads, after a fork and through pickle. Rows of a shard are 0 ... num_pairs - 1.
    """

    def __init__(self, url: str, shards: list[ShardRef], digest: str, load_table: Callable[[int], pa.Table]) -> None:
        self.url, self.shards, self.digest = url, shards, digest
        self.num_pairs = sum(shard.num_pairs for shard in shards)
        self._load_table = load_table
        super().__init__()

    def _load(self, shard: int) -> "_Places":
        return _Places(self._load_table(shard))

    def _url(self, shard: int) -> str:
        return self.shards[shard].url

    def table(self, shard: int) -> pa.Table:
        """The index of one shard (`index.INDEX_SCHEMA`), verified. Raises DataError naming it when damaged."""
        return self._load_table(shard)

    def read_pair(self, shard: int, row: int) -> RawPair:
        """One range read. Raises DataError naming shard, offset and both checksums when the bytes are other ones."""
        return self.read_many(shard, [row])[0]

    def read_many(self, shard: int, rows: Sequence[int] | np.ndarray) -> list[RawPair]:
        """Pairs in the order asked, neighbours read together. Raises as `read_pair`; IndexError for no such row."""
        places, file = self._table(shard), self._file(shard)
        rows_K, count = np.asarray(rows, dtype=np.int64), self.shards[shard].num_pairs
        if rows_K.size and not (0 <= rows_K.min() and rows_K.max() < count):
            raise IndexError(f"{self.shards[shard].name}: rows {rows_K.min()} to {rows_K.max()} of {count}")
        pairs: dict[int, RawPair] = {}
        for start, end, run in runs_of(places.numbers_R8, np.unique(rows_K)):
            data = memoryview(file.read(start, end))
            for row in run:
                pairs[row] = self._pair(places, shard, row, data, start)
        return [pairs[row] for row in rows_K.tolist()]

    def _pair(self, places: _Places, shard: int, row: int, data: memoryview, start: int) -> RawPair:
        offset, _, *spans = places.numbers_R8[row].tolist()
        image, text, json_ = (bytes(data[at - start : at - start + size]) for at, size in _pairwise(spans))
        found, expected = row_checksum(image, text, json_), int(places.checksum_R[row])
        key = places.key[row].as_py()
        if found != expected:
            where = f"{storage.shown(self.shards[shard].url)} at byte {offset} (pair {key})"
            hint = f"see all damage with: clipmill data verify {storage.shown(self.url)}"
            raise DataError(where, f"row checksum {found:016x}", f"{expected:016x} as the index says", hint)
        meta, words = _opened(text, json_, f"{storage.shown(self.shards[shard].url)} at byte {offset} (pair {key})")
        if captions_problem(meta.get("captions")):
            meta["captions"] = [{"text": words, "source": "txt"}]
        return RawPair(places.uid[row].as_py(), key, image, places.ext[row].as_py(), words, meta)


def _opened(text: bytes, json_: bytes, where: str) -> tuple[dict[str, Any], str]:
    """Metadata and words. DataError naming the pair when a writer vouched for what is no pair."""
    meta = storage.json_object(json_) if json_ else {}
    if meta is None:
        raise DataError(where, "metadata that is no JSON object", "a pair as pipeline/contract/README.md says")
    try:
        return meta, text.decode()
    except UnicodeDecodeError as error:
        raise DataError(where, "a caption that is no UTF-8", "a pair as pipeline/contract/README.md says") from error


def _pairwise(spans: list[int]) -> list[tuple[int, int]]:
    # An absent member lies at (0, 0): its slice is empty wherever the run starts.
    return [(at, size) if size else (0, 0) for at, size in zip(spans[::2], spans[1::2], strict=True)]


def runs_of(numbers_R8: np.ndarray, rows_U: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """(start, end, rows) of the reads that cover sorted rows: neighbours merge over a small gap, up to a size."""
    runs: list[tuple[int, int, list[int]]] = []
    for row, (start, length) in zip(rows_U.tolist(), numbers_R8[rows_U, :2].tolist(), strict=True):
        end = start + length
        if runs and start - runs[-1][1] <= MERGE_GAP and end - runs[-1][0] <= MERGE_MAX:
            runs[-1] = (runs[-1][0], end, [*runs[-1][2], row])
        else:
            runs.append((start, end, [row]))
    return runs


class _Indexed:
    """Loads the verified index of a curated shard."""

    def __init__(self, folder: str, entries: list[ShardEntry]) -> None:
        self.folder, self.entries = folder, entries

    def __call__(self, shard: int) -> pa.Table:
        return read_index(self.folder, self.entries[shard])


class _Scanned:
    """Scans a plain tar, or takes the scan from the cache folder when the file has not changed since."""

    def __init__(self, urls: list[str], cache: str | None) -> None:
        self.urls, self.cache = urls, cache

    def __call__(self, shard: int) -> pa.Table:
        url = self.urls[shard]
        if self.cache is None:
            return self._scan(url)
        name = hashlib.blake2b(f"1 {url} {storage.stamp(url)}".encode(), digest_size=16).hexdigest()
        kept = storage.join(self.cache, f"{name}.parquet")
        if not storage.exists(kept):
            storage.publish_parquet(kept, self._scan(url))
        return storage.read_parquet(kept)

    def _scan(self, url: str) -> pa.Table:
        scan = scan_tar(url)
        if scan.incomplete:
            words = f"{len(scan.incomplete)} incomplete pairs left out, the first is %s (%s)" % scan.incomplete[0]
            _log().warning("%s: %s", storage.shown(url), words)
        return scan.table


def _log() -> logging.Logger:
    return logging.getLogger("clipmill.contract")


def open_dataset(url: str, cache: str | None = None) -> Dataset:
    """Opens a curated dataset (a folder with a manifest), or a folder, glob or single file of plain tars.

    Plain tars are scanned front to back, with a warning; `cache` names a folder that keeps the scans.
    Raises DataError for a damaged manifest, a shard of another size than it says, or no shards at all.
    """
    if not storage.exists(storage.join(url, MANIFEST)):
        return _open_plain(url, cache)
    manifest = Manifest.load(url)
    sizes = storage.list_sizes(url) if storage.can_list(url) else None
    shards = []
    for entry in manifest.shards:
        shard = storage.join(url, entry.name)
        size = storage.size(shard) if sizes is None else sizes.get(entry.name)
        if size != entry.bytes:
            found = "no such file" if size is None else f"{size} bytes"
            expected = f"{entry.bytes} bytes as the manifest says"
            raise DataError(storage.shown(shard), found, expected, "copy this shard again")
        shards.append(ShardRef(entry.name, shard, entry.pairs))
    return Dataset(url, shards, manifest.digest(), _Indexed(url, manifest.shards))


def _open_plain(url: str, cache: str | None) -> Dataset:
    urls = plain_tars(url)
    message = "%s: no manifest, so %d plain tars are scanned; nothing can vouch for their bytes before the scan"
    _log().warning(message, storage.shown(url), len(urls))
    load, shards, digest = _Scanned(urls, cache), [], hashlib.blake2b(digest_size=16)
    for number, tar in enumerate(urls):
        table = load(number)
        shards.append(ShardRef(storage.basename(tar), tar, table.num_rows))
        digest.update(f"{storage.basename(tar)} {table.num_rows} ".encode())
        digest.update(table["checksum"].to_numpy().tobytes())
        digest.update("".join(table["uid"].to_pylist()).encode())
    return Dataset(url, shards, digest.hexdigest(), load)


def plain_tars(url: str) -> list[str]:
    """The tars of a folder, glob or single file, sorted. Raises DataError when there is none."""
    if any(mark in storage.basename(url) for mark in "*?["):
        urls = storage.glob(url)
    elif url.endswith(".tar"):
        urls = [url]
    else:
        urls = [storage.join(url, name) for name in storage.list_names(url) if name.endswith(".tar")]
    if not urls:
        hint = "check the path; an unfinished curation is resumed by the same command"
        raise DataError(storage.shown(url), f"no {MANIFEST} and no .tar files", "a curated dataset or plain tars", hint)
    return urls
