"""What a Measure has answered each bucket: the rows of its keys, cut by bucket.

<closing folder>/answers-<n>.pack   key | the stage's columns | reason, of a run of key slots
                /answers-merged-<n>.pack   when there are many of those
                /closed.json        how many packs, and whether they are merged ones
"""

import pyarrow as pa

from curation.job import Job, Segment
from curation.methods.units import KEY, kept_schema
from curation.runner import exchange
from curation.stage import Measure
from curation.table import packs
from pipeline import storage
from pipeline.errors import DataError

CLOSED = "closed.json"
NAME = "answers"


def read(job: Job, here: Segment, bucket: int) -> pa.Table:
    """One row for each key that the bucket asked for."""
    state = storage.read_state(job.closing_file(here, CLOSED))
    if state is None:
        where, hint = storage.shown(job.closing_file(here, CLOSED)), "run the same command again"
        raise DataError(where, "is not there", "what measuring has published", hint)
    urls = exchange.urls_of(job, here, NAME, state["packs"], state["merged"])
    found = [table for each in urls for table in packs.read_pack(each, bucket, bucket + 1)]
    return packs.concat(found, none(job, here).schema).sort_by(KEY)


def none(job: Job, here: Segment) -> pa.Table:
    """What a bucket without pairs is answered, of the same types."""
    stage = job.stage(here.closer if here.closer is not None else -1)
    assert isinstance(stage, Measure)
    return kept_schema(stage).empty_table()
