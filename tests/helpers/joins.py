"""The join of one bucket as tests ask for it: from parts of a pool through runs of them, cut into even buckets."""

import tempfile

import pyarrow as pa

from curation.pool import runs
from curation.pool.join import join_rows
from curation.pool.redirects import Followed
from curation.stage import Verdicts
from curation.table.uids import Cut


def groups(parts: list[str]) -> list[list[str]]:
    """Two parts a run, and none where there is none."""
    return [parts[at : at + 2] for at in range(0, len(parts), 2)]


def join_bucket(
    pool: str, parts: list[str], bucket: int, buckets: int, followed: Followed | None = None
) -> tuple[pa.Table, Verdicts]:
    with tempfile.TemporaryDirectory() as folder:
        for run, group in enumerate(groups(parts)):
            runs.publish_run(folder, run, pool, group, Cut.even(buckets))
        rows = {table: runs.read_bucket(folder, range(len(groups(parts))), table, bucket) for table in runs.TABLES}
    followed = followed or Followed.of([], [])
    return join_rows(rows[runs.OCCURRENCES], rows[runs.IMAGES], followed, f"bucket {bucket} of {buckets}")


def images_of(pool: str, parts: list[str]) -> list[pa.Table]:
    """IMAGES of all parts."""
    with tempfile.TemporaryDirectory() as folder:
        runs.publish_run(folder, 0, pool, parts, Cut())
        return runs.read_bucket(folder, [0], runs.IMAGES, 0)


def mentions_of(pool: str, parts: list[str]) -> list[pa.Table]:
    """OCCURRENCES of all parts."""
    with tempfile.TemporaryDirectory() as folder:
        runs.publish_run(folder, 0, pool, parts, Cut())
        return runs.read_bucket(folder, [0], runs.OCCURRENCES, 0)
