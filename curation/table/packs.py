"""Packs: one file with a table for each of many slots, any run of which is read with two reads.

What one task has for each of many others goes into one file, so an exchange between S tasks and T tasks is S files and
at most 2 S T reads, however small the tables (a parquet footer of 65,536 row groups alone is some 100 MB).

    magic 8 | slots u64 | slots + 1 entries of (offset, raw bytes, blake2b-64 of the stored, check), u64 each | blobs

A blob is an Arrow stream, compressed as a whole; an empty table is no blob, so absent slots cost 32 bytes. The first
read is of entries, the second of blobs that lie side by side. The check of an entry is of its own values and its
place: damage to it is no empty slot. Little-endian.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.draws import mixed
from pipeline.errors import DataError

_MAGIC = b"CMPACK01"
_HEAD = struct.Struct("<8sQ")
_ENTRY = np.dtype([("offset", "<u8"), ("raw", "<u8"), ("hash", "<u8"), ("check", "<u8")])
_CODEC = "zstd"
MERGED_BYTES = 32 << 20
"""Stored bytes that a task holds while it merges packs: some five times as much when they are unpacked."""


def publish_pack(url: str, tables: Iterable[pa.Table], slots: int) -> storage.Note:
    """Atomic. `tables`: one for each slot, in order; only one is held at a time. Same tables, same bytes. Returns size
    and hash, for the state that vouches for the file."""
    entries = np.zeros(slots + 1, _ENTRY)
    at = _HEAD.size + entries.nbytes
    with storage.publish(url) as path:
        with open(path, "wb") as file:
            file.write(bytes(at))
            number = -1
            for number, table in enumerate(tables):
                stored, raw = _blob(table)
                entries[number] = at, raw, hash_of(stored), 0
                at += file.write(stored)
            if number + 1 != slots:
                raise ValueError(f"{number + 1} tables for {slots} slots")
            entries[slots] = at, 0, 0, 0
            entries["check"] = _checks(entries, 0)
            file.seek(0)
            file.write(_HEAD.pack(_MAGIC, slots) + entries.tobytes())
        return storage.note_of(path)


def publish_cut(url: str, table: pa.Table, slot_of: np.ndarray, slots: int) -> storage.Note:
    """As `publish_pack`, from one table and the slot of each row; rows of a slot keep their order."""
    order = np.argsort(slot_of, kind="stable")
    bounds = np.searchsorted(slot_of[order], np.arange(slots + 1))
    rows = table.take(pa.array(order)).combine_chunks()
    cuts = (rows.slice(bounds[slot], bounds[slot + 1] - bounds[slot]) for slot in range(slots))
    return publish_pack(url, cuts, slots)


def read_pack(url: str, first: int, stop: int) -> list[pa.Table]:
    """The rows of slots [first, stop), in order, as one table; none when there are none. DataError naming the file
    where it is damaged.

    One table: thousands of slots may have a row each, and a table of nested columns takes 20 kB beside its rows.
    """
    found = [table for _, table in read_slots(url, first, stop)]
    return [pa.concat_tables(found, promote_options="permissive").combine_chunks()] if len(found) > 1 else found


def read_slots(url: str, first: int, stop: int) -> list[tuple[int, pa.Table]]:
    """As `read_pack`, each with its slot."""
    reader = storage.RangeReader(url)
    start = _HEAD.size + first * _ENTRY.itemsize
    entries = np.frombuffer(reader.read(start, start + (stop - first + 1) * _ENTRY.itemsize), _ENTRY)
    if np.any(entries["check"] != _checks(entries, first)):
        raise _damaged(url)
    low, high = int(entries["offset"][0]), int(entries["offset"][-1])
    data = reader.read(low, high) if high > low else b""
    found = []
    for slot, (entry, after) in enumerate(zip(entries[:-1], entries[1:], strict=True), first):
        stored = data[int(entry["offset"]) - low : int(after["offset"]) - low]
        if not stored:
            continue
        if hash_of(stored) != entry["hash"]:
            raise _damaged(url, slot)
        plain = pa.decompress(stored, int(entry["raw"]), codec=_CODEC)
        with pa.ipc.open_stream(plain) as stream:
            found.append((slot, stream.read_all()))
    return found


def by_slot(urls: Sequence[str], slots: int) -> Iterator[list[pa.Table]]:
    """Slot by slot what all packs have; read in runs of slots of about MERGED_BYTES in all, so that each pack is read
    front to back, and opened once a run."""
    width = run_of_slots(urls, slots)
    for first in range(0, slots, width):
        found: dict[int, list[pa.Table]] = {}
        for url in urls:
            for slot, table in read_slots(url, first, min(first + width, slots)):
                found.setdefault(slot, []).append(table)
        for slot in range(first, min(first + width, slots)):
            yield found.pop(slot, [])


def run_of_slots(urls: Sequence[str], slots: int) -> int:
    """How many slots of all packs together have about MERGED_BYTES, at least one."""
    return max(1, min(slots, slots * MERGED_BYTES // max(sum(map(storage.size, urls)), 1)))


def concat(tables: Sequence[pa.Table], empty: pa.Schema) -> pa.Table:
    """Rows of all tables, or none of the schema `empty`."""
    return pa.concat_tables(tables or [empty.empty_table()], promote_options="permissive").combine_chunks()


def _blob(table: pa.Table) -> tuple[bytes, int]:
    if not table.num_rows:
        return b"", 0
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    plain = sink.getvalue()
    return pa.compress(plain, codec=_CODEC, asbytes=True), plain.size


def hash_of(stored: bytes | pa.Buffer) -> int:
    """blake2b-64."""
    return int.from_bytes(hashlib.blake2b(stored, digest_size=8).digest(), "little")


def _checks(entries: np.ndarray, first: int) -> np.ndarray:
    """uint64 of each entry, the first of which is that of slot `first`."""
    found = mixed(np.arange(first, first + len(entries), dtype=np.uint64) ^ np.uint64(0xC11B))
    for name in ("offset", "raw", "hash"):
        found = mixed(found ^ entries[name])
    return found


def _damaged(url: str, slot: int | None = None) -> DataError:
    where = storage.shown(url) if slot is None else f"{storage.shown(url)}, slot {slot}"
    hint = "remove this file and run the same command again: it is made again"
    return DataError(where, "other bytes than were written", "an undamaged file", hint)
