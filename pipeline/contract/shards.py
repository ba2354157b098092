"""Writes shards: tars that any WebDataset reader reads, the same bytes for the same pairs, each with its index."""

import hashlib
import io
from collections.abc import Iterable
from typing import IO, Any

from pipeline.contract import storage
from pipeline.contract.index import Span, index_row, index_table
from pipeline.contract.manifest import ShardEntry
from pipeline.contract.pairs import Pair, check_pair, index_name, key_of, meta_bytes, shard_name
from pipeline.contract.tar import BLOCK, END, pack_header, padding
from pipeline.errors import DataError


class _Hashed:
    """Writes through, counting and hashing."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._digest, self.position = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self._digest.update(data)
        self.position += len(data)

    def sha256(self) -> str:
        return self._digest.hexdigest()


def write_shard(folder: str, shard: int, pairs: Iterable[Pair]) -> ShardEntry:
    """Publishes `shard-xxxxxx.tar` and `index/shard-xxxxxx.parquet` under `folder`; returns the manifest's entry.

    Streams: one pair is held at a time. Raises DataError for a pair that breaks the contract (nothing is published)
    or for no pairs at all, StorageError when the disk says no.
    """
    name = shard_name(shard)
    url = storage.join(folder, name)
    rows: list[dict[str, Any]] = []
    with storage.publish(url) as path, open(path, "wb", buffering=1 << 20) as file:
        out = _Hashed(file)
        for row, pair in enumerate(pairs):
            check_pair(pair, f"{storage.shown(url)} row {row}")
            rows.append(_write_pair(out, key_of(shard, row), row, pair, storage.shown(url)))
        if not rows:
            raise DataError(storage.shown(url), "no pairs", "at least one pair in a shard")
        out.write(END)
    index_url = storage.join(folder, index_name(name))
    storage.publish_parquet(index_url, index_table(rows))
    index_sha256 = storage.sha256_of(index_url)
    return ShardEntry(name=name, pairs=len(rows), bytes=out.position, sha256=out.sha256(), index_sha256=index_sha256)


def _write_pair(out: _Hashed, key: str, row: int, pair: Pair, where: str) -> dict[str, Any]:
    """Writes the members sorted by name; returns the index row."""
    try:
        members = {pair.ext: pair.image, "json": meta_bytes(pair.meta), "txt": pair.text.encode()}
    except (ValueError, TypeError) as error:  # NaN, a lone surrogate, no JSON type
        raise DataError(f"{where} row {row}", f"pair {pair.uid}: {error}", "metadata that is JSON in UTF-8") from error
    first, spans = out.position, {}
    block = io.BytesIO()
    for suffix in sorted(members):
        data = members[suffix]
        block.write(pack_header(f"{key}.{suffix}", len(data)))
        spans[suffix] = Span(first + block.tell(), data)
        block.write(data + bytes(padding(len(data))))
    out.write(block.getbuffer())
    place = (first, out.position - first)
    return index_row(key, pair.uid, row, place, pair.ext, (spans[pair.ext], spans["txt"], spans["json"]), pair.meta)
