"""The measuring itself: each task a share of a lane, in full batches; what is measured is kept as it comes."""

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.generation.limits import ENDLESS
from curation.job import Job, Segment, check_files
from curation.methods.units import KEY, checked, kept_schema
from curation.pool.columns import Columns
from curation.pool.store import PLACE, ImageReader
from curation.runner.calls import Call, Do, Pool, pool_of
from curation.runner.closing import generating
from curation.runner.closing.feeding import inputs_of, opened
from curation.runner.closing.served.alone import Lease
from curation.runner.closing.served.kept import is_served, is_whole
from curation.runner.closing.served.share import Part
from curation.runner.explained import explained
from curation.stage import Context, Generate, Measure
from curation.table import packs
from curation.table.arrow import whole
from pipeline import storage
from pipeline.settings import digest_of

CLAIMS = "claims"
"""The folder of what has to be measured, while it is."""
MOST_ROWS = 65_536
"""Inputs in a share, at most."""
SHARES = 16
"""Shares of all that has to be measured, at least, as far as each has a full batch: so that all cores have work. What
asks a server has one for each process that asks: at the end of a share fewer and fewer requests are under way."""
_KEEP_EVERY_S = 30.0  # a killed task loses at most this much measuring


def measure_all(
    job: Job, here: Segment, claimed: Mapping[int, int], claims: int, do: Do, lease: Lease | None = None
) -> None:
    """Measures `claimed` inputs in each lane; then merges the files of the columns when they are many. `lease`: of who
    asks a server."""
    at = here.closer or 0
    stage, name = job.stage(at), job.names[at]
    assert isinstance(stage, Measure)
    asks = job.placement(stage)
    batch = asks.batch or stage.batch
    asks_server = isinstance(stage, Generate) and is_served(stage)
    among = generating.processes(asks) if asks_server else SHARES
    size = min(max(-(-sum(claimed.values()) // among), batch), MOST_ROWS)
    size = -(-size // batch) * batch
    pool = pool_of(stage.kept_digest(), asks, stage.actors)
    if asks_server:
        pool = Pool(digest_of([stage.kept_digest(), "asking"]), asks.actors.min if asks.actors else 1, among)
    asked = (asks.cpus, asks.gpus, asks.memory, pool)
    calls, sizes = [], []
    for lane, rows in sorted(claimed.items()):
        number = -(-rows // size)
        for k in range(number):
            args = (here.index, lane, k, number, claims)
            calls.append(Call(share, args, f"stage {name}", *asked))
            sizes.append(rows * (k + 1) // number - rows * k // number)
    columns = columns_of(job, here)
    if isinstance(stage, Generate):
        generating.ask_all(calls, sizes, stage, name, columns, lease, do)
    else:
        for _ in do(calls, f"{name}: measure", "shares"):
            pass
    calls = [Call(merge_columns, (here.index, names), f"stage {name}, merging") for names in columns.to_merge()]
    for _ in do(calls, f"{name}: merge", "groups"):
        pass


def merge_columns(job: Job, index: int, names: list[str]) -> None:
    columns_of(job, job.segments[index]).merge(names)


def share(
    job: Job, index: int, lane: int, k: int, number: int, claims: int, part: Part | None = None
) -> dict[str, Any] | None:
    """Measures share `k` of `number` of a lane. `part`: what it may spend; what is told is of a Generate alone."""
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
    again = storage.exists(begun)
    if again:  # by a worker that was lost: some of it may be kept
        todo = _unknown(stage, todo, columns)
    storage.publish_bytes(begun, b"")
    with explained(f"stage {job.names[at]}"):
        if isinstance(stage, Generate):
            part = (part or Part(ENDLESS))._replace(of_limits=1 / generating.processes(job.placement(stage)))
            return generating.ask(stage, job.context(at), todo, columns, ImageReader(job.pool), part, again)
        _measure(stage, job.context(at), todo, columns, ImageReader(job.pool))
    return None


def known_in(stage: Measure, rows: pa.Table) -> pa.Array:
    """Keys of rows of its columns that need not be measured again."""
    keys = whole(rows.column(KEY))
    return keys.filter(is_whole(stage, rows)) if isinstance(stage, Generate) else keys


def _unknown(stage: Measure, todo: pa.Table, columns: Columns) -> pa.Table:
    keys = whole(todo.column(KEY))
    known = [known_in(stage, columns.read(slot, slot + 1)) for slot in range(columns.slots)]
    known = [each.filter(pc.is_in(each, keys)) for each in known]
    return todo.filter(pc.invert(pc.is_in(keys, pa.concat_arrays(known))))


def claims_url(job: Job, here: Segment, run: int) -> str:
    return storage.join(job.closing_file(here, CLAIMS), f"{run:05d}.pack")


def columns_of(job: Job, here: Segment) -> Columns:
    """What is kept of the stage that ends the segment."""
    stage = job.stage(here.closer or 0)
    assert isinstance(stage, Measure)
    return Columns(job.pool, stage.kept_digest(), kept_schema(stage), job.buckets)


def _measure(stage: Measure, ctx: Context, todo: pa.Table, columns: Columns, reader: ImageReader) -> None:
    if not todo.num_rows:
        return
    function, batch = opened(stage, ctx), ctx.batch or stage.batch
    waiting: list[pa.Table] = []
    since = time.monotonic()
    for start in range(0, todo.num_rows, batch):
        some = todo.slice(start, batch).combine_chunks()
        waiting.append(checked(stage, whole(some.column(KEY)), called(function, inputs_of(stage, some, reader))))
        if time.monotonic() - since > _KEEP_EVERY_S:
            columns.publish(pa.concat_tables(waiting))
            waiting, since = [], time.monotonic()
    if waiting:
        columns.publish(pa.concat_tables(waiting))


def called(function: Callable[[pa.Table], Any], inputs: pa.Table) -> pa.Table:
    found = function(inputs)
    return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(found: Any) -> Any:
    return await found
