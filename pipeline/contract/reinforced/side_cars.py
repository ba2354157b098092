"""The side-cars of a reinforced set: written whole, read in one range read a pair, checked before they are used.

Letters: V views, M texts, F numbers of a vector.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.contract.dataset import Dataset, Reopened, open_dataset, runs_of
from pipeline.contract.pairs import meta_bytes
from pipeline.contract.reinforced.manifest import (
    FOLDER,
    STATE,
    WRITE,
    ReinforcedManifest,
    SetShard,
    set_folder,
    side_cars,
)
from pipeline.draws import hashed_u64
from pipeline.errors import DataError

# A view: {"box": [left, top, right, bottom] in pixels of the whole picture as displayed, or [] for all of it,
# "flip": true, "changes": [["hue", -0.07], ...] in the order in which they are made}.
SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("checksum", pa.uint64(), nullable=False),
        pa.field("views", pa.string(), nullable=False),  # JSON: a list of views
        pa.field("texts", pa.list_(pa.uint64()), nullable=False),
    ]
)
_VIEW_BYTES, _TEXT_BYTES, _ROW_BYTES = 4096, 16, 4096  # most that an index holds of one, unpacked
_MOST_TEXTS = 1024
_KIND = {"fp32": "<f4", "fp16": "<f2", "bf16": "<u2"}


class Reinforced(NamedTuple):
    """What is kept of one pair. views: as in `SCHEMA`, none where its picture could not be opened; vectors: of each
    teacher those of the views [V, F] and of the texts [M, F] (bf16 as its bits, uint16)."""

    uid: str
    views: list[dict[str, Any]]
    texts: list[int]  # `hashed_u64` of each
    vectors: dict[str, tuple[np.ndarray, np.ndarray]]

    def row_of(self, text: str) -> int | None:
        """Where the vectors of a text stand; None: it is not among them."""
        hashed = int(hashed_u64([text])[0])
        return self.texts.index(hashed) if hashed in self.texts else None


class Written(NamedTuple):
    """A pair as the writer is given it; `data`: the vectors of each teacher in turn, of views and then of texts."""

    uid: str
    views: list[dict[str, Any]]
    texts: list[str]
    data: bytes


def write_side_cars(folder: str, shard: int, pairs: Iterable[Written]) -> SetShard:
    """Both files of a shard, in the order of its pairs, each published whole."""
    rows: list[dict[str, Any]] = []
    vectors, index = (storage.join(folder, name) for name in side_cars(shard))
    with storage.publish(vectors) as path, path.open("wb") as file:
        out = storage.HashedWriter(file)
        for uid, views, texts, data in pairs:
            rows.append({"uid": uid, "offset": out.position, "length": len(data), "checksum": _checksum(data),
                         "views": meta_bytes(views).decode(), "texts": hashed_u64(texts).tolist()})  # fmt: skip
            out.write(data)
    storage.publish_parquet(index, pa.Table.from_pylist(rows, SCHEMA))
    return SetShard(pairs=len(rows), bytes=out.position, sha256=out.sha256(), index_sha256=storage.sha256_of(index))


@dataclass(frozen=True)
class _Table:
    uid: pa.Array
    views: pa.Array
    texts: pa.Array
    numbers_R2: np.ndarray  # offset, length
    checksum_R: np.ndarray


class ReinforcedSet(Reopened):
    """A finished set of a dataset. Safe in threads, after a fork and through pickle, as `Dataset` is."""

    def __init__(self, dataset: str, name: str, manifest: ReinforcedManifest) -> None:
        self.dataset, self.name, self.manifest = dataset, name, manifest
        super().__init__()

    def read_many(self, shard: int, rows: Sequence[int] | np.ndarray) -> list[Reinforced]:
        """Of pairs in the order asked, neighbours read together. DataError naming the file for other bytes than were
        written."""
        table, file = self._table(shard), self._file(shard)
        found: dict[int, Reinforced] = {}
        for start, end, run in runs_of(table.numbers_R2, np.unique(np.asarray(rows, dtype=np.int64))):
            data = memoryview(file.read(start, end)) if end > start else memoryview(b"")
            for row in run:
                offset, length = table.numbers_R2[row].tolist()
                found[row] = self._pair(shard, table, row, data[offset - start : offset - start + length])
        return [found[row] for row in np.asarray(rows).tolist()]

    def _pair(self, shard: int, table: _Table, row: int, data: memoryview) -> Reinforced:
        views, texts = json.loads(table.views[row].as_py()), table.texts[row].as_py()
        where = f"{storage.shown(self._file(shard).url)} at byte {table.numbers_R2[row][0]}"
        if (found := _checksum(data)) != (expected := int(table.checksum_R[row])):
            raise self.damaged(where, f"checksum {found:016x}", f"{expected:016x} as the index says")
        kind, at, vectors = np.dtype(_KIND[self.manifest.dtype]), 0, {}
        for one in self.manifest.teachers:
            parts = []
            for many, width in ((len(views), one.image_width), (len(texts), one.text_width)):
                size = many * width * kind.itemsize
                if at + size > len(data):
                    raise self.damaged(where, f"{len(data)} bytes", "as many vectors as there are views and texts")
                parts.append(np.frombuffer(data, kind, many * width, at).reshape(many, width))
                at += size
            vectors[one.name] = parts[0], parts[1]
        return Reinforced(table.uid[row].as_py(), views, texts, vectors)

    def _url(self, shard: int) -> str:
        return storage.join(set_folder(self.dataset, self.name), side_cars(shard)[0])

    def _load(self, shard: int) -> _Table:
        entry, url = self.manifest.shards[shard], storage.join(set_folder(self.dataset, self.name), side_cars(shard)[1])
        data, where = storage.read_bytes(url), storage.shown(url)
        if (found := hashlib.sha256(data).hexdigest()) != entry.index_sha256:
            raise self.damaged(where, f"sha256 {found}", f"{entry.index_sha256} as {STATE} says")
        a_row = _ROW_BYTES + self.manifest.views * _VIEW_BYTES + _MOST_TEXTS * _TEXT_BYTES
        table = storage.parquet_table(
            pa.BufferReader(data), where, SCHEMA.names, storage.Most(entry.pairs, entry.pairs * a_row)
        )
        if table.num_rows != entry.pairs or not table.schema.equals(SCHEMA):
            raise self.damaged(where, f"{table.num_rows} rows of {table.schema.names}", f"{entry.pairs} pairs")
        columns = {name: table[name].combine_chunks() for name in SCHEMA.names}
        numbers_R2 = np.stack([columns[name].to_numpy() for name in ("offset", "length")], axis=1)
        if ((numbers_R2 < 0).any(1) | (numbers_R2.sum(1) > entry.bytes)).any():
            raise self.damaged(where, "places outside the vectors", f"places inside {entry.bytes} bytes")
        return _Table(columns["uid"], columns["views"], columns["texts"], numbers_R2, columns["checksum"].to_numpy())

    def damaged(self, where: str, found: str, expected: str) -> DataError:
        return DataError(where, found, expected, f"copy the file again, or: {WRITE} reinforce.fresh=true")


def open_reinforced(dataset: Dataset, name: str) -> ReinforcedSet:
    """DataError, saying what to type, when the set is missing, unfinished, of another dataset, or lacks a file."""
    manifest = ReinforcedManifest.load(dataset.url, name)
    folder = set_folder(dataset.url, name)
    where, anew = storage.shown(folder), f"{WRITE} reinforce.fresh=true writes it anew"
    if manifest.data != dataset.digest:
        raise DataError(where, f"was written for dataset {manifest.data}", f"this one is {dataset.digest}", anew)
    if [one.pairs for one in manifest.shards] != [one.num_pairs for one in dataset.shards]:
        raise DataError(where, "other numbers of pairs", "those of the shards", anew)
    sizes = storage.list_sizes(folder) if storage.can_list(folder) else {}
    for number, entry in enumerate(manifest.shards) if storage.can_list(folder) else ():
        vectors, index = side_cars(number)
        if sizes.get(vectors) != entry.bytes or index not in sizes:
            found = f"{sizes[vectors]} bytes" if vectors in sizes and index in sizes else "no such file"
            raise DataError(
                storage.shown(storage.join(folder, vectors)), found, f"{entry.bytes} bytes and an index", anew
            )
    return ReinforcedSet(dataset.url, name, manifest)


def verify_sets(url: str) -> list[str]:
    """Names of the finished sets of the dataset at `url`, every byte of them looked at. DataError for the first that is
    another one than its manifest says."""
    dataset, names = open_dataset(url), []
    for name in storage.list_folders(storage.join(url, FOLDER)):
        if storage.exists(storage.join(set_folder(url, name), STATE)):
            verify_set(dataset, name)
            names.append(name)
    return names


def verify_set(dataset: Dataset, name: str) -> None:
    """Every byte of a set against its manifest. DataError for the first that is another one."""
    found = open_reinforced(dataset, name)
    for number, entry in enumerate(found.manifest.shards):
        url = storage.join(set_folder(dataset.url, name), side_cars(number)[0])
        if (sha256 := storage.sha256_of(url)) != entry.sha256:
            raise found.damaged(storage.shown(url), f"sha256 {sha256}", f"{entry.sha256} as {STATE} says")
        found.read_many(number, range(entry.pairs))


def vector_bytes(dtype: str, vectors: np.ndarray) -> bytes:
    """Of float32 numbers; bf16 is rounded to nearest, ties to even."""
    wide = np.ascontiguousarray(vectors, np.float32)
    if dtype != "bf16":
        return wide.astype(_KIND[dtype]).tobytes()
    bits = wide.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def values_of(dtype: str, stored: np.ndarray) -> np.ndarray:
    """float32 of stored numbers, exactly."""
    if dtype != "bf16":
        return stored.astype(np.float32)
    return (stored.astype(np.uint32) << 16).view(np.float32)


def _checksum(data: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
