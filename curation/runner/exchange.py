"""The exchange of a Global stage: notes of every bucket meet by group, results go back to the buckets.

Everything goes through files in the working folder: memory is bounded by one bucket or one slot, and a rerun goes on
where the last one stopped. There are as many slots as buckets; a group's slot is a hash of its number, because a
stage's groups may be anything (a count, a hash, a cluster).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job, Segment
from curation.stage import Global
from curation.table import arrow, parquet
from pipeline import storage
from pipeline.draws import mixed
from pipeline.errors import DataError

GROUP, SLOT = "group", "_slot"
_DONE, _FOLDED = "folded.json", "folded.parquet"


def slots_of(groups: pa.ChunkedArray | pa.Array, slots: int) -> np.ndarray:
    """The slot of each uint64 group: scattered first, so that near numbers part."""
    scattered = mixed(arrow.whole(groups).to_numpy(zero_copy_only=False))
    return (scattered % np.uint64(slots)).astype(np.int32)


def publish_notes(job: Job, here: Segment, bucket: int, notes: pa.Table) -> storage.Note:
    """Notes sorted by slot, so that a slot reads only its rows. Returns size and hash of their file."""
    if here.closer is not None and (GROUP not in notes.schema.names or notes.schema.field(GROUP).type != pa.uint64()):
        name = job.names[here.closer]
        raise TypeError(f"{name}.survey gave the columns {notes.schema.names}; expected a uint64 column `{GROUP}`")
    slots = pa.array(slots_of(notes.column(GROUP), job.buckets), pa.int32())
    notes = notes.append_column(SLOT, slots)
    order = pc.sort_indices(notes.select([SLOT]), [(SLOT, "ascending")])
    return parquet.publish_rows(job.file(here, bucket, ".notes.parquet"), notes.take(order))


def settle(job: Job, here: Segment, slot: int, stage: Global) -> None:
    name = f"settled-{slot:05d}"
    if _is_done(job, here, f"{name}.json"):
        return
    before = job.segments[here.index - 1]
    urls = [job.file(before, bucket, ".notes.parquet") for bucket in range(job.buckets)]
    notes = arrow.concat([parquet.read_range(each, SLOT, slot, slot + 1) for each in urls]).drop_columns([SLOT])
    settled = stage.settle(arrow.sorted_plainly(notes, (GROUP, "uid")))
    note = parquet.publish_rows(job.exchange_file(here, f"{name}.parquet"), settled)
    storage.publish_state(job.exchange_file(here, f"{name}.json"), {}, {f"{name}.parquet": note})


def fold(job: Job, here: Segment, stage: Global) -> None:
    if is_folded(job, here):
        return
    urls = [job.exchange_file(here, f"settled-{slot:05d}.parquet") for slot in range(job.buckets)]
    settled = arrow.sorted_plainly(arrow.concat([storage.read_parquet(url) for url in urls]))
    folded = stage.fold(settled)
    by_uid = "uid" in folded.schema.names
    if by_uid:
        folded = arrow.sorted_plainly(folded, ("uid",))
    note = parquet.publish_rows(job.exchange_file(here, _FOLDED), folded)
    storage.publish_state(job.exchange_file(here, _DONE), {"by_uid": by_uid}, {_FOLDED: note})


def read_folded(job: Job, here: Segment, bucket: int) -> pa.Table:
    """What `judge` is given for one bucket: the rows of its own uids, or everything when there is no uid column."""
    url, state = job.exchange_file(here, _FOLDED), storage.read_state(job.exchange_file(here, _DONE))
    if state is None:
        raise DataError(
            storage.shown(url), "is not vouched for", "what `fold` has published", "run the same command again"
        )
    if state["by_uid"]:
        return parquet.read_range(url, "uid", *job.cut.range_of(bucket))
    return storage.read_parquet(url)


def is_folded(job: Job, here: Segment) -> bool:
    return _is_done(job, here, _DONE)


def _is_done(job: Job, here: Segment, name: str) -> bool:
    """Whether a state is there, with its files. Their bytes are checked once a start, by `tasks.recheck`."""
    state = storage.read_state(job.exchange_file(here, name))
    return state is not None and all(storage.exists(job.exchange_file(here, file)) for file in state["files"])
