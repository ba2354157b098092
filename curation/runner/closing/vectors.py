"""Columns whose table holds keys only: what they stand for, fetched for the stage that reads them, a bucket at a time.

The answers that a Measure with store "vectors" sent to each bucket are the side-car of that bucket: read with two reads
a run of slots, never row by row.
"""

import pyarrow as pa

from curation.job import Job, Segment
from curation.methods.units import KEY, with_vectors
from curation.runner.closing import answers
from curation.stage import Measure, Stage
from curation.stage_order import added
from pipeline import storage


def origin_of(job: Job, name: str, before: int) -> Segment | None:
    """The segment whose closer measured the vectors of the column `name`, of the stages before number `before`."""
    for segment in job.segments:
        if segment.closer is None or segment.closer >= before:
            continue
        stage = job.stage(segment.closer)
        if isinstance(stage, Measure) and stage.store == "vectors" and name in added(stage):
            return segment
    return None


def origins(job: Job, stage: Stage, at: int) -> dict[str, str]:
    """Column that `stage`, number `at`, reads -> digest of the stage whose vectors it stands for."""
    found = {name: origin_of(job, name, at) for name in stage.reads}
    return {
        name: job.stage(segment.closer).digest()
        for name, segment in found.items()
        if segment is not None and segment.closer is not None
    }


def resolved(job: Job, stage: Stage, pairs: pa.Table, bucket: int, at: int | None = None) -> pa.Table:
    """`pairs` as `stage` wants them: vectors in place of their keys in the columns that it reads, and one that decides
    is shown nothing else."""
    before = len(job.names) if at is None else at
    for name in stage.reads:
        segment = origin_of(job, name, before)
        if segment is None:
            continue
        field = name.rpartition(".")[2]
        rows = answers.read(job, segment, bucket) if pairs.num_rows else answers.none(job, segment)
        pairs = with_vectors(pairs, name, rows.select([KEY, field]), field)
    return pairs if isinstance(stage, Measure) else pairs.select(shown(stage))


def shown(stage: Stage) -> list[str]:
    """The columns that a stage which decides is shown: the uid and what it reads."""
    return ["uid", *sorted({name.partition(".")[0] for name in stage.reads} - {"uid"})]


def pairs_of(job: Job, here: Segment, stage: Stage, bucket: int) -> pa.Table:
    """What `stage`, which decides, is shown of a bucket that lies behind segment `here`; nothing else is read."""
    return resolved(job, stage, storage.read_parquet(job.file(here, bucket, ".parquet"), shown(stage)), bucket)
