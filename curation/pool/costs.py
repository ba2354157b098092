"""What the way from inputs to the joined table costs, in closed form; tests/curation/pool/test_costs.py counts it.

    step     files   opens   reads                        bytes read
    ingest   4 P                                          the inputs
    cut              P       P                            a few KB each: the samples of uids in the states of parts
    runs     3 R     2 P     2 P + row groups of parts    tables of parts, and their ends (64 KiB) a second time
    joined   2 B     2 R B   up to 4 R B                  runs, and 64 bytes of entries a slot

P parts are merged into R runs of at most 256 parts and cut into B buckets; each has two tables. Of 90,000 parts and
65,536 buckets 352 runs are made, and a bucket opens 704 files to be joined, where it would open 180,000 tables of
parts.
States that only say that something is done (one a part, run and bucket) are left out of opens and reads.
"""

from dataclasses import dataclass

TABLES = 2
_ENTRY, _HEAD = 32, 16  # bytes of a pack: of each slot, and before them
_FOOTER = 64 << 10  # bytes that are read of a parquet file before anything else, from its end


@dataclass(frozen=True)
class Cost:
    """files: published; opens, reads: of files, and of ranges of them; bytes: read."""

    files: int
    opens: int = 0
    reads: int = 0
    bytes: int = 0


def ingest(parts: int) -> Cost:
    """images.tar, two tables and a state a part. The inputs are read as streams."""
    return Cost(4 * parts)


def merge(parts: int, runs: int, row_groups: int, table_bytes: int) -> Cost:
    """Parts into runs. `row_groups`, `table_bytes`: of the tables of all parts; the bytes are the most."""
    tables = TABLES * parts
    return Cost((TABLES + 1) * runs, tables, tables + row_groups, table_bytes + min(table_bytes, tables * _FOOTER))


def join(buckets: int, runs: int, filled: int, run_bytes: int) -> Cost:
    """Runs into joined buckets. `filled`: slots of all packs that hold rows, at most 2 R B; `run_bytes`: of packs."""
    packs, slots = TABLES * runs, TABLES * runs * buckets
    blobs = run_bytes - packs * (_HEAD + _ENTRY * (buckets + 1))
    return Cost(2 * buckets, slots, slots + filled, blobs + slots * 2 * _ENTRY)
