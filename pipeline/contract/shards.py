"""Writes shards: tars that any WebDataset reader reads, the same bytes for the same pairs, each with its index."""

from collections.abc import Iterable
from typing import Any

from pipeline import storage
from pipeline.contract.index import Span, index_row, index_table
from pipeline.contract.manifest import ShardEntry
from pipeline.contract.pairs import MAX_MEMBER, Pair, check_pair, index_name, key_of, meta_bytes, shard_name
from pipeline.contract.tar import END, pack_header, padding
from pipeline.errors import DataError


def write_shard(folder: str, shard: int, pairs: Iterable[Pair]) -> ShardEntry:
    """Publishes `shard-xxxxxx.tar` and `index/shard-xxxxxx.parquet` under `folder`; returns the manifest's entry.

    Streams: one pair is held at a time. Raises DataError for a pair that breaks the contract (nothing is published)
    or for no pairs at all, StorageError when the disk says no.
    """
    name = shard_name(shard)
    url, index_url = storage.join(folder, name), storage.join(folder, index_name(name))
    rows: list[dict[str, Any]] = []
    with storage.publish(url) as path, open(path, "wb", buffering=1 << 20) as file:
        out = storage.HashedWriter(file)
        for row, pair in enumerate(pairs):
            where = f"{storage.shown(url)} row {row}"
            check_pair(pair, where)
            rows.append(_write_pair(out, key_of(shard, row), row, pair, where))
        if not rows:
            raise DataError(storage.shown(url), "no pairs", "at least one pair in a shard")
        out.write(END)
    storage.publish_parquet(index_url, index_table(rows))
    index_sha256 = storage.sha256_of(index_url)
    return ShardEntry(name=name, pairs=len(rows), bytes=out.position, sha256=out.sha256(), index_sha256=index_sha256)


def _write_pair(out: storage.HashedWriter, key: str, row: int, pair: Pair, where: str) -> dict[str, Any]:
    """Writes the members of one pair; returns its index row."""
    try:
        members = {pair.ext: pair.image, "json": meta_bytes(pair.meta), "txt": pair.text.encode()}
    except (ValueError, TypeError) as error:  # NaN, a lone surrogate, a value JSON has no type for
        raise DataError(where, f"pair {pair.uid}: {error}", "metadata that is JSON in UTF-8") from error
    if max(map(len, members.values())) > MAX_MEMBER:
        raise DataError(where, f"pair {pair.uid}: a member of more than {MAX_MEMBER} bytes", "what readers take")
    at = out.position
    block, starts = pack_pair(key, members)
    out.write(block)
    image, text, meta = (Span(at + starts[suffix], members[suffix]) for suffix in (pair.ext, "txt", "json"))
    return index_row(key, pair.uid, row, (at, len(block)), pair.ext, (image, text, meta), pair.meta)


def pack_pair(key: str, members: dict[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """The tar bytes of one pair, members sorted by suffix, and where each payload starts in them."""
    pieces: list[bytes] = []
    starts: dict[str, int] = {}
    at = 0
    for suffix in sorted(members):
        data = members[suffix]
        pieces += [pack_header(f"{key}.{suffix}", len(data)), data, bytes(padding(len(data)))]
        starts[suffix] = at + len(pieces[-3])
        at = starts[suffix] + len(data) + len(pieces[-1])
    return b"".join(pieces), starts
