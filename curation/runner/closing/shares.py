"""The measuring itself: each task a share of a lane, in full batches; what is measured is kept as it comes."""

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job, Segment, check_files
from curation.methods.units import KEY, checked, kept_schema
from curation.pool.columns import Columns
from curation.pool.store import PLACE, ImagePlace, ImageReader
from curation.runner.calls import Call, Do, pool_of
from curation.runner.explained import explained
from curation.stage import IMAGE, Context, Generate, Measure
from curation.table import packs
from curation.table.arrow import whole
from pipeline import storage

CLAIMS = "claims"
"""The folder of what has to be measured, while it is."""
MOST_ROWS = 65_536
"""Inputs in a share, at most."""
SHARES = 16
"""Shares of all that has to be measured, at least, as far as each has a full batch: so that all cores have work."""
_KEEP_EVERY_S = 30.0  # a killed task loses at most this much measuring
_opened: dict[str, Callable] = {}  # what this worker process has loaded, by digest


def measure_all(job: Job, here: Segment, claimed: Mapping[int, int], claims: int, do: Do) -> None:
    """Measures `claimed` inputs in each lane; then merges the files of the columns when they are many."""
    at = here.closer or 0
    stage, name = job.stage(at), job.names[at]
    assert isinstance(stage, Measure)
    asks = job.placement(stage)
    batch = asks.batch or stage.batch
    size = min(max(-(-sum(claimed.values()) // SHARES), batch), MOST_ROWS)
    size = -(-size // batch) * batch
    asked = (asks.cpus, asks.gpus, asks.memory, pool_of(stage.digest(), asks, stage.actors))
    calls = []
    for lane, rows in sorted(claimed.items()):
        number = -(-rows // size)
        for k in range(number):
            args = (here.index, lane, k, number, claims)
            calls.append(Call(share, args, f"stage {name}", *asked))
    for _ in do(calls, f"{name}: measure", "shares"):
        pass
    columns = columns_of(job, here)
    calls = [Call(merge_columns, (here.index, names), f"stage {name}, merging") for names in columns.to_merge()]
    for _ in do(calls, f"{name}: merge", "groups"):
        pass


def merge_columns(job: Job, index: int, names: list[str]) -> None:
    columns_of(job, job.segments[index]).merge(names)


def share(job: Job, index: int, lane: int, k: int, number: int, claims: int) -> None:
    """Measures share `k` of `number` of a lane."""
    here = job.segments[index]
    at = here.closer or 0
    check_files(job, [at])
    stage, columns = job.stage(at), columns_of(job, here)
    assert isinstance(stage, Measure)
    urls = [claims_url(job, here, n) for n in range(claims)]
    claimed = pa.concat_tables([table for url in urls for table in packs.read_pack(url, lane, lane + 1)])
    claimed = claimed.sort_by([(name, "ascending") for name in (*PLACE, KEY) if name in claimed.column_names])
    first, stop = claimed.num_rows * k // number, claimed.num_rows * (k + 1) // number
    todo = claimed.slice(first, stop - first).combine_chunks()
    begun = storage.join(job.closing_file(here, CLAIMS), f"begun-{lane:05d}-{k:05d}of{number:05d}")
    if storage.exists(begun):  # by a worker that was lost: some of it may be kept
        todo = _unknown(todo, columns)
    storage.publish_bytes(begun, b"")
    with explained(f"stage {job.names[at]}"):
        _measure(stage, job.context(at), todo, columns, ImageReader(job.pool))


def _unknown(todo: pa.Table, columns: Columns) -> pa.Table:
    keys = whole(todo.column(KEY))
    known = [whole(columns.read(slot, slot + 1).column(KEY)) for slot in range(columns.slots)]
    known = [each.filter(pc.is_in(each, keys)) for each in known]
    return todo.filter(pc.invert(pc.is_in(keys, pa.concat_arrays(known))))


def claims_url(job: Job, here: Segment, run: int) -> str:
    return storage.join(job.closing_file(here, CLAIMS), f"{run:05d}.pack")


def columns_of(job: Job, here: Segment) -> Columns:
    """What is kept of the stage that ends the segment."""
    stage = job.stage(here.closer or 0)
    assert isinstance(stage, Measure)
    return Columns(job.pool, stage.digest(), kept_schema(stage), job.buckets)


def _measure(stage: Measure, ctx: Context, todo: pa.Table, columns: Columns, reader: ImageReader) -> None:
    if not todo.num_rows:
        return
    function, batch = opened(stage, ctx), ctx.batch or stage.batch
    waiting: list[pa.Table] = []
    since = time.monotonic()
    for start in range(0, todo.num_rows, batch):
        some = todo.slice(start, batch).combine_chunks()
        waiting.append(checked(stage, whole(some.column(KEY)), called(function, _inputs(stage, some, reader))))
        if isinstance(stage, Generate) or time.monotonic() - since > _KEEP_EVERY_S:
            columns.publish(pa.concat_tables(waiting))
            waiting, since = [], time.monotonic()
    if waiting:
        columns.publish(pa.concat_tables(waiting))


def _inputs(stage: Measure, rows: pa.Table, reader: ImageReader) -> pa.Table:
    if IMAGE not in stage.reads:
        return rows.drop_columns([KEY])
    places = zip(*(rows.column(name).to_pylist() for name in PLACE), strict=True)
    bodies = pa.array(list(reader.read_all(ImagePlace(*place) for place in places)), pa.large_binary())
    unread = [KEY, *(name for name in PLACE if name not in stage.reads)]
    return rows.drop_columns(unread).add_column(0, IMAGE, bodies)


def called(function: Callable[[pa.Table], Any], inputs: pa.Table) -> pa.Table:
    found = function(inputs)
    return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(found: Any) -> Any:
    return await found


def opened(stage: Measure, ctx: Context) -> Callable[[pa.Table], Any]:
    """What the stage loads, once in this process."""
    key = f"{stage.kind}-{stage.digest()}"
    if key not in _opened:
        _opened[key] = stage.open(ctx)
    return _opened[key]
