"""How many pairs have a text, a language, a source: exact counts of the most frequent, however many there are.

Each task of the tally writes what its buckets hold, summed, in slots by a hash of the word; one task a slot then adds
up all that is in its slot, so that every count is whole, and gives its top. The top of the tops is the top: no count is
estimated, and nothing depends on buckets, slots or the order in which tasks end. Memory: a group of buckets, a slot.

    <emit folder>/words/00000.parquet   what | slot | word | pairs, sorted by slot, by the first bucket of the group
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job
from curation.table import arrow, parquet
from pipeline import storage
from pipeline.draws import hashed_u64, mixed

BEFORE, AFTER, LANGUAGE, SOURCE = "before", "after", "language", "source"
TOP_TEXTS, TOP_WORDS = 25, 1000
OTHERS = "(others)"  # languages and sources behind the first TOP_WORDS, as one
_SLOT_ROWS = 1_000_000  # about so many rows in a slot: some 150 MB
_SCHEMA = pa.schema([("what", pa.string()), ("slot", pa.int32()), ("word", pa.large_string()), ("pairs", pa.int64())])

Tops = dict[str, list[tuple[str, int]]]  # what -> (word, pairs), the most frequent first, equals by word


def slots_for(pairs: int) -> int:
    """How many slots keep one within memory: two texts a pair at most."""
    return max(1, -(-2 * pairs // _SLOT_ROWS))


def counted(what: str, words: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Rows of one bucket, not yet in slots; null is no word."""
    found = pc.value_counts(pc.drop_null(arrow.whole(words)))
    return rows_of(what, found.field("values"), found.field("counts"))


def rows_of(what: str, words: Any, pairs: Any) -> pa.Table:
    names = pa.array([what] * len(words), pa.string())
    columns = [names, pa.nulls(len(words), pa.int32()), words.cast(pa.large_string()), pairs.cast(pa.int64())]
    return pa.table(columns, schema=_SCHEMA)


def publish(job: Job, name: int, slots: int, tables: Iterable[pa.Table]) -> None:
    """The rows of a group of buckets, `name` being the first of them."""
    table = _summed(pa.concat_tables([_SCHEMA.empty_table(), *tables]))
    slot = (mixed(hashed_u64(table.column("word").to_pylist())) % slots).astype("int32")
    table = table.set_column(1, _SCHEMA.field("slot"), pa.array(slot, pa.int32()))
    order = pc.sort_indices(table.select(["slot"]), [("slot", "ascending")])
    storage.publish_parquet(_file(job, name), table.take(order))


def tops(job: Job, slot: int, names: Iterable[int]) -> dict[str, Any]:
    """The top of one slot, and the pairs of each `what` in it: {"tops": Tops, "pairs": {what: number}}."""
    urls = [_file(job, name) for name in names]
    whole = _summed(pa.concat_tables([parquet.read_range(url, "slot", slot, slot + 1) for url in urls]))
    found: Tops = {}
    pairs: dict[str, int] = {}
    for what in (BEFORE, AFTER, LANGUAGE, SOURCE):
        mine = whole.filter(pc.equal(whole.column("what"), what))
        pairs[what] = pc.sum(mine.column("pairs")).as_py() or 0
        ranked = pc.select_k_unstable(mine, _most(what), [("pairs", "descending"), ("word", "ascending")])
        best = mine.select(["word", "pairs"]).take(ranked).to_pylist()
        found[what] = [(row["word"], row["pairs"]) for row in best]
    return {"tops": found, "pairs": pairs}


def merged(parts: Iterable[Mapping[str, Any]]) -> Tops:
    """The tops of all slots as one; languages and sources add up to all pairs."""
    whole: Tops = {}
    for what in (BEFORE, AFTER, LANGUAGE, SOURCE):
        parts = list(parts)
        ranked = sorted((word for part in parts for word in part["tops"][what]), key=lambda item: (-item[1], item[0]))
        whole[what] = ranked[: _most(what)]
        rest = sum(part["pairs"][what] for part in parts) - sum(pairs for _, pairs in whole[what])
        if rest and what in (LANGUAGE, SOURCE):
            whole[what].append((OTHERS, rest))
    return whole


def _most(what: str) -> int:
    return TOP_TEXTS if what in (BEFORE, AFTER) else TOP_WORDS


def _summed(table: pa.Table) -> pa.Table:
    """One row for each (what, word)."""
    summed = table.group_by(["what", "word"], use_threads=False).aggregate([("pairs", "sum")])
    slot = pa.nulls(summed.num_rows, pa.int32())
    return pa.table([summed["what"], slot, summed["word"], summed["pairs_sum"]], schema=_SCHEMA)


def _file(job: Job, name: int) -> str:
    return storage.join(job.emit_folder, "words", f"{name:05d}.parquet")
