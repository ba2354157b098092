"""The joined table of a pool: what its parts say, one row a uid, before any stage. Every recipe on these inputs goes on
from it, whatever its stages are.

    <output>/_work/runs-<digest>/run-00000.<table>.pack, run-00000.json   parts merged and cut by bucket (pool/runs.py)
    <pool>/joined/<digest>/bucket-00000.parquet   PAIRS, and what the stage "pool" says of each: `reason`, `detail`
                          /bucket-00000.json      written last: done
                 /used.json                       in the pool of one output: the folders used, the latest first
                 /shared.json                     a job of another output has been here: nothing is removed

The digest is of the parts and the cut. Runs, and what redirects lead to, are needed for the join alone: they are the
job's own and go when it is done. Jobs that share a pool may join at the same time: they write the same bytes.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.job import Job, buckets_for
from curation.pool import runs, store
from curation.pool.join import join_rows
from curation.runner import redirects
from curation.runner.calls import Call, Do
from curation.runner.redirects import Trail
from curation.stage import Verdicts
from curation.table import parquet, uids
from curation.table.uids import Cut
from pipeline import storage

QUANTILES = 2048  # of all uids, by which they are cut
_GROUP_QUANTILES = 4096  # of the uids of one group of parts, at most
_MOST_QUANTILES = 1 << 21  # that the driver holds
# Of each uid that a part tells: so many points up to the next, as rows lie there evenly, each for so many rows or more.
# With one, buckets of 31,000 pairs of 256 parts had from 21,000 to 40,000, and tasks the memory of the largest.
_BETWEEN, _FEWEST = 8, 4
_WEIGHT = 1 << 10  # of a row: shares of rows are not rounded to whole ones
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio
_REASON, _DETAIL = "reason", "detail"
_USED, _SHARED, _KEPT = "used.json", "shared.json", 2
_FOLDER = re.compile(r"[0-9a-f]{16}")


def cut_of(job: Job, rows: int, do: Do) -> Cut:
    """Buckets of about equal size, by the samples of all parts; `rows`: mentions and images that they have."""
    buckets = job.settings.buckets or buckets_for(rows)
    if buckets == 1:
        return Cut()
    parts = job.parts
    groups = [parts[at : at + runs.PARTS] for at in range(0, len(parts), runs.PARTS)]
    most = min(_GROUP_QUANTILES, max(2, _MOST_QUANTILES // max(1, len(groups))))
    calls = [
        Call(sample, (number, group, most), f"uids of parts {group[0]} and on") for number, group in enumerate(groups)
    ]
    found = {call.args[0]: told for call, told in do(calls, "cutting into buckets", "groups")}
    samples = [found[number] for number in sorted(found)]  # in the order of the parts, not of completion
    values = np.concatenate([some for some, _ in samples])
    weights = np.concatenate([np.full(len(some), number * _WEIGHT // max(1, len(some))) for some, number in samples])
    return Cut.at_quantiles([uid.decode() for uid in uids.quantiles(values, weights, QUANTILES)], buckets)


def sample(job: Job, group: int, parts: Iterable[str], most: int) -> tuple[np.ndarray, int]:
    """At most `most` quantiles of the uids of some parts (S32), and how many rows they stand for."""
    tables = []
    for at, part in enumerate(parts):
        phase = at * _GOLDEN % 2**64  # as evenly as can be, however many parts there are
        for some, rows in store.part_sample(job.pool, part):
            if rows > max(len(some), 1):
                some = uids.between(some, phase, max(1, min(_BETWEEN, rows // _FEWEST // len(some))))
            tables += [(some, rows)] if some else []
    weights = [np.full(len(some), rows * _WEIGHT // len(some)) for some, rows in tables]
    values = [np.array(some, uids.TEXT) for some, _ in tables]
    none = np.array([], uids.TEXT)
    found = uids.quantiles(np.concatenate([none, *values]), np.concatenate([np.array([], int), *weights]), most)
    return found, sum(rows for _, rows in tables)


def make(job: Job, counts: Mapping[str, Mapping[str, int]], do: Do) -> None:
    """Joins every bucket that is not joined yet. `counts`: of every part."""
    shared = storage.join(job.pool, "joined", _SHARED)
    if job.settings.pool is not None and not storage.exists(shared):
        storage.publish_state(shared, {})
    there = set(storage.list_names(job.joined_folder))
    todo = [bucket for bucket in range(job.buckets) if f"{_name(bucket)}.json" not in there]
    if todo:
        groups = runs.groups_of(job.parts)
        calls = [Call(run, (number,), f"parts {group[0]} and on") for number, group in enumerate(groups)]
        for _ in do(calls, "merging parts", "groups"):
            pass
        redirects.follow(job, Trail.of_join(job), groups, counts, do)
        for _ in do([Call(join, (bucket,), f"joining bucket {bucket}") for bucket in todo], "joining", "buckets"):
            pass
    for folder in (job.runs_folder, job.redirects_folder):
        storage.remove(folder, recursive=True)
    _forget(job)


def run(job: Job, number: int) -> None:
    """Merges one group of parts."""
    done = storage.join(job.runs_folder, f"run-{number:05d}.json")
    if storage.read_state(done) is None:
        parts = runs.groups_of(job.parts)[number]
        files = runs.publish_run(job.runs_folder, number, job.pool, parts, job.cut)
        storage.publish_state(done, {}, files)


def join(job: Job, bucket: int) -> None:
    """Joins one bucket."""
    done = _file(job, bucket, ".json")
    if storage.read_state(done) is not None:
        return
    every = range(len(runs.groups_of(job.parts)))
    rows = {table: runs.read_bucket(job.runs_folder, every, table, bucket) for table in runs.TABLES}
    followed = redirects.followed(job, Trail.of_join(job), bucket)
    where = f"bucket {bucket} of {job.buckets}"
    pairs, verdicts = join_rows(rows[runs.OCCURRENCES], rows[runs.IMAGES], followed, where)
    for name, column in ((_REASON, verdicts.reason), (_DETAIL, verdicts.detail)):
        pairs = pairs.append_column(pa.field(name, pa.string()), column)
    url = _file(job, bucket, ".parquet")
    storage.publish_state(done, {"pairs": pairs.num_rows}, {storage.basename(url): parquet.publish_rows(url, pairs)})


def read(job: Job, bucket: int) -> tuple[pa.Table, Verdicts]:
    """PAIRS of one bucket, and the verdicts of the stage "pool" on them."""
    table = storage.read_parquet(_file(job, bucket, ".parquet"))
    verdicts = Verdicts(reason=table.column(_REASON), detail=table.column(_DETAIL))
    return table.drop_columns([_REASON, _DETAIL]), verdicts


def _name(bucket: int) -> str:
    return f"bucket-{bucket:05d}"


def _file(job: Job, bucket: int, suffix: str) -> str:
    return storage.Scratch(storage.join(job.joined_folder, f"{_name(bucket)}{suffix}"))


def _forget(job: Job) -> None:
    """Removes all joined tables but those of the last two inputs, from a pool that no other job can be using: that of
    one output alone. Where a job has come from elsewhere nothing is removed from then on."""
    folder = storage.join(job.pool, "joined")
    if storage.exists(storage.join(folder, _SHARED)):
        return
    used: dict[str, Any] = storage.read_state(storage.join(folder, _USED)) or {}
    before = [name for name in used.get("latest", []) if name != job.joined_digest]
    latest = [job.joined_digest, *before][:_KEPT]
    if latest != used.get("latest"):
        storage.publish_state(storage.join(folder, _USED), {"latest": latest})
    for name in set(storage.list_folders(folder)) - set(latest):
        if _FOLDER.fullmatch(name):
            storage.remove(storage.join(folder, name), recursive=True)
