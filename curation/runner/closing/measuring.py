"""A Measure whose columns are kept: every bucket says which inputs it has, each distinct one is measured once.

    <segment folder>/bucket-00000.closing.pack      key | where the input lies or what it is, by slots of the key
    <closing folder>/claims/<n>.pack                of a run of slots: what nobody has measured yet, by lane
                    /claims/begun-<lane>-<k>of<n>   a share that is being measured; rows go into the pool's columns
                    /answers-<n>.pack, .json        rows for every bucket that asked, of a run of slots
                    /closed.json

Every start claims anew: what was measured before it was cut off is in the columns already. A lane is a run of the parts
that images lie in, so that a task reads each images.tar front to back; inputs that are no images have one lane. A share
of a lane is what one task measures, in full batches whatever the buckets.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job, Segment
from curation.methods.units import FIRST, KEY, attached, keys_of, units_of
from curation.pool.accounts import Tally, tally_of
from curation.pool.columns import key_slots
from curation.pool.store import PLACE
from curation.runner import exchange
from curation.runner.calls import Call, Do
from curation.runner.closing import answers, generating, shares
from curation.runner.closing.closer import closer_of, number_of
from curation.runner.closing.served import told as spending
from curation.runner.closing.served.alone import Lease, alone
from curation.runner.closing.served.fold import fold
from curation.runner.closing.served.kept import is_served
from curation.runner.closing.shares import columns_of
from curation.runner.closing.vectors import origins, resolved
from curation.runner.exchange import FROM
from curation.stage import IMAGE, Generate, Measure, Stage, Verdicts
from curation.table import captions, packs
from curation.table.arrow import whole
from pipeline import storage
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.storage import Note

log = get_logger("curation")
ASKED = ".closing.pack"
RUN_ROWS = 200_000
"""Inputs asked for that one task looks up, and answers."""
RUN_BYTES = 512 << 20
"""Of columns that it answers with, where it takes more than RUN_ROWS: squares of grey are a kilobyte each."""
_LANES, _KEY_BYTES = 256, 64


def ask(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> tuple[dict[str, Note], dict[str, int]]:
    """Each distinct input of this bucket with its values; of an image the place in the pool instead."""
    stage = closer_of(job, here, Measure)
    units = units_of(stage, pairs)
    keys = _keys(job, here, units)
    first = pa.table({KEY: keys, "row": np.arange(len(keys))}).filter(pc.is_valid(keys))
    first = first.group_by(KEY).aggregate([("row", "min")])
    rows = first.column("row_min").combine_chunks()
    asked = {KEY: whole(first.column(KEY))}
    vectors = set(origins(job, stage, number_of(here)))
    if IMAGE in stage.reads:
        of = captions.explode(pairs).column(captions.ROW) if stage.unit in ("text", "caption") else None
        places = pairs.select(PLACE) if of is None else pairs.select(PLACE).take(of)
        asked |= {name: whole(places.column(name)).take(rows) for name in PLACE}
    if vectors:  # what they stand for goes along: nobody else has it at hand
        units = units_of(stage, resolved(job, stage, pairs, bucket, number_of(here)))
    asked |= {name: whole(units.column(name)).take(rows) for name in units.column_names if name != IMAGE}
    table = pa.table(asked)
    table = table.append_column(FROM, pa.array(np.full(table.num_rows, bucket, np.int32)))
    note = packs.publish_cut(
        job.file(here, bucket, ASKED), table, key_slots(table.column(KEY), job.buckets), job.buckets
    )
    return {ASKED: note}, {"inputs": table.num_rows}


def close(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do) -> int:
    """How many inputs were measured for it."""
    if exchange.is_done(job, here, answers.CLOSED):
        return 0
    stage, name = closer_of(job, here, Measure), job.names[number_of(here)]
    if not isinstance(stage, Generate):
        return _closed(job, here, asked, do)
    with ExitStack() as stack:
        columns = columns_of(job, here)
        lease = stack.enter_context(alone(columns, name)) if is_served(stage) else None
        if lost := fold(stage, columns):
            log.warning("%s: %d requests were under way when a run was cut off; they are sent again", name, lost)
        try:
            return _closed(job, here, asked, do, lease)
        finally:
            if is_served(stage) and (run := spending.told(job, here, stage, columns)["run"]) != Tally().plain():
                log.info("%s: %s", name, generating.said(stage, tally_of(run)))


def _closed(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do, lease: Lease | None = None) -> int:
    name, inputs = job.names[number_of(here)], sum(asked[bucket]["inputs"] for bucket in range(job.buckets))
    stage, columns = closer_of(job, here, Measure), columns_of(job, here)
    urls = [job.file(here, bucket, ASKED) for bucket in range(job.buckets)]
    urls = exchange.merged(job, here, "asked", urls, do, name, exchange.gather)
    runs = exchange.runs(job.buckets, inputs, RUN_ROWS, most_rows(closer_of(job, here, Measure)))
    calls = [Call(claim, (here.index, at, run, urls), f"stage {name}, looking up") for at, run in enumerate(runs)]
    claimed, known = dict[int, int](), 0
    for _, (lanes, answered) in do(calls, f"{name}: look up", "runs"):
        known += answered
        for lane, number in lanes.items():
            claimed[lane] = claimed.get(lane, 0) + number
    if isinstance(stage, Generate):
        spending.begin(job, here, columns, known + sum(claimed.values()), known)
    shares.measure_all(job, here, claimed, len(runs), do, lease)
    calls = [Call(answer, (here.index, at, run, urls), f"stage {name}, answering") for at, run in enumerate(runs)]
    used = Counter[str]()
    for _, sums in do(calls, f"{name}: answer", "runs"):
        used.update(sums)
    made = exchange.urls_of(job, here, answers.NAME, len(runs))
    left = exchange.merged(job, here, answers.NAME, made, do, name, exchange.gather, exchange.READ)
    told: dict[str, Any] = {"packs": len(left), "merged": left != made}
    if isinstance(stage, Generate):
        fold(stage, columns)
        told["asked"] = spending.told(job, here, stage, columns) | {"used": used}
    storage.publish_state(job.closing_file(here, answers.CLOSED), told)
    storage.remove(job.closing_file(here, shares.CLAIMS), recursive=True)
    return sum(claimed.values())


def verdicts(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> Verdicts:
    stage, rows = closer_of(job, here, Measure), answers.read(job, here, bucket)
    at = pc.index_in(_keys(job, here, units_of(stage, pairs)), whole(rows.column(KEY)))
    return attached(stage, pairs, answers.once(rows.take(at).combine_chunks()))


def claim(job: Job, index: int, run: int, slots: tuple[int, int], urls: list[str]) -> tuple[dict[int, int], int]:
    """Publishes what of a run of slots has to be measured, each input once, cut by lane; returns how many of each, and
    how many have been measured before."""
    here, answered = job.segments[index], 0
    rows = _asked(urls, slots)
    if rows is None:
        rows, lane = pa.table({}), np.zeros(0, np.int64)
    else:
        order = [(n, "ascending") for n in (KEY, *PLACE) if n in rows.column_names]
        rows = rows.drop_columns([FROM]).sort_by(order)
        keys = whole(rows.column(KEY))
        known = shares.known_in(closer_of(job, here, Measure), columns_of(job, here).read(*slots))
        new = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(False)
        rows = rows.filter(pa.array(np.concatenate([[True], new])))
        is_known = pc.is_in(whole(rows.column(KEY)), known)
        answered, rows = is_known.true_count, rows.filter(pc.invert(is_known))
        lane = lanes_of(job, rows)
    packs.publish_cut(shares.claims_url(job, here, run), rows, lane, lanes(job))
    found, numbers = np.unique(lane, return_counts=True)
    return {int(at): int(number) for at, number in zip(found, numbers, strict=True)}, answered


def most_rows(stage: Measure) -> int:
    """Of a run."""
    return max(RUN_ROWS, RUN_BYTES // (_KEY_BYTES + row_bytes(stage)))


def row_bytes(stage: Stage) -> int:
    """Of what a stage adds that is of a fixed width: squares and vectors are more than all texts."""
    widths = [each.type.byte_width for each in stage.adds if pa.types.is_fixed_size_binary(each.type)]
    lists = [each.type for each in stage.adds if pa.types.is_fixed_size_list(each.type)]
    return sum(widths) + sum(each.list_size * each.value_type.bit_width // 8 for each in lists)


def lanes(job: Job) -> int:
    return min(len(job.parts), _LANES)


def lanes_of(job: Job, rows: pa.Table) -> np.ndarray:
    """The lane of each claim: the parts in order, in equal runs."""
    if "image_part" not in rows.column_names:
        return np.zeros(rows.num_rows, np.int64)
    part = pc.index_in(whole(rows.column("image_part")), pa.array(job.parts, pa.string())).to_numpy(False)
    return part.astype(np.int64) * lanes(job) // len(job.parts)


def answer(job: Job, index: int, run: int, slots: tuple[int, int], urls: list[str]) -> dict[str, int]:
    """Publishes the rows of a run of slots for every bucket that asked; returns what a Generate's distinct answers come
    to."""
    here = job.segments[index]
    name = f"{answers.NAME}-{run:05d}"
    if exchange.is_done(job, here, f"{name}.json"):
        return (storage.read_state(job.closing_file(here, f"{name}.json")) or {}).get("sums", {})
    stage = closer_of(job, here, Measure)
    asked = _asked(urls, slots, [KEY, FROM])
    at, rows, sums = np.zeros(0, np.int64), answers.schema_of(stage).empty_table(), dict[str, int]()
    if asked is not None:
        rows, missing = _looked_up(job, here, slots, asked)
        if missing:  # merged into another file in the middle of our reading
            rows, missing = _looked_up(job, here, slots, asked)
        if missing:
            where, hint = storage.shown(columns_of(job, here).folder), "run the same command again"
            raise DataError(where, f"{missing} measured rows are gone", "what this run measured", hint)
        at = asked.column(FROM).to_numpy().astype(np.int64)
        if isinstance(stage, Generate):
            first = answers.first_of_each(asked)
            rows, sums = rows.append_column(FIRST, first), answers.sums_of(rows.filter(first))
    note = packs.publish_cut(job.closing_file(here, f"{name}.pack"), rows, at, job.buckets)
    storage.publish_state(job.closing_file(here, f"{name}.json"), {"sums": sums}, {f"{name}.pack": note})
    return sums


def _looked_up(job: Job, here: Segment, slots: tuple[int, int], asked: pa.Table) -> tuple[pa.Table, int]:
    """(a row for each that was asked for, how many there are none of)."""
    rows = columns_of(job, here).read(*slots)
    found = pc.index_in(whole(asked.column(KEY)), whole(rows.column(KEY)))
    return rows.take(found), found.null_count


def _asked(urls: list[str], slots: tuple[int, int], columns: list[str] | None = None) -> pa.Table | None:
    found = exchange.Sources(tuple(urls)).read(*slots)
    if not found:
        return None
    return pa.concat_tables([each.select(columns) if columns else each for each in found]).combine_chunks()


def _keys(job: Job, here: Segment, units: pa.Table) -> pa.Array:
    stage = closer_of(job, here, Measure)
    return keys_of(stage, units, origins(job, stage, number_of(here)))
