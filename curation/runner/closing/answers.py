"""What a Measure has answered each bucket: the rows of its keys, cut by bucket.

<closing folder>/answers-<n>.pack   key | the stage's columns | reason, of a run of key slots; of a Generate also
                                    `first`, true in one bucket alone: there the answers of a key are counted once
                /answers-merged-<n>.pack   when there are many of those
                /closed.json        how many packs, and whether they are merged ones
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job, Segment
from curation.methods.units import FIRST, KEY, kept_schema
from curation.runner import exchange
from curation.runner.exchange import FROM
from curation.stage import ANSWERS, Generate, Measure
from curation.table import packs
from curation.table.arrow import whole
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
    return schema_of(stage).empty_table()


def schema_of(stage: Measure) -> pa.Schema:
    schema = kept_schema(stage)
    return schema.append(pa.field(FIRST, pa.bool_())) if isinstance(stage, Generate) else schema


def first_of_each(asked: pa.Table) -> pa.Array:
    """bool of rows (KEY | FROM): whether it is the one of its key, in the first bucket that asked."""
    keys = whole(asked.column(KEY)).dictionary_encode()
    order = np.lexsort([asked.column(FROM).to_numpy(), keys.indices.to_numpy()])
    found = np.zeros(asked.num_rows, bool)
    at = keys.indices.to_numpy()[order]
    found[order[np.concatenate([[True], at[1:] != at[:-1]])]] = True
    return pa.array(found)


def once(rows: pa.Table) -> pa.Table:
    """Rows as units of a bucket have them: of several units with one key the first one alone is `first`."""
    if FIRST not in rows.column_names:
        return rows
    keys = whole(rows.column(KEY)).dictionary_encode().indices.fill_null(-1).to_numpy()
    new = np.zeros(len(keys), bool)
    new[np.unique(keys, return_index=True)[1]] = True
    first = pc.and_(pc.fill_null(whole(rows.column(FIRST)), False), pa.array(new))
    return rows.set_column(rows.column_names.index(FIRST), FIRST, first)


def sums_of(rows: pa.Table) -> dict[str, int]:
    """Of distinct answers as they are kept: how many, and their tokens, as far as the model has counted them."""
    flat = whole(rows.column(ANSWERS.name)).flatten()
    tokens = {name: pc.sum(flat.field(name)).as_py() or 0 for name in ("tokens_in", "tokens_out")}
    return {"answers": len(flat), **tokens}
