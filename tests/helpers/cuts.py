"""Stages run over any cut of a table of pairs, as a runner may run them."""

import asyncio
import inspect

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.units import attached, checked, keys_of, units_of
from curation.runner.closing.generating import asked_rows
from curation.runner.closing.vectors import shown
from curation.stage import GROUP, PIECE, Again, Context, Generate, Group, Measure, Reduce, Rule, Stage, Told, Verdicts
from curation.table import arrow, captions, packs
from pipeline.draws import mixed


def run(
    stage: Stage, pairs: pa.Table, seed: int = 0, buckets: int = 1, slots: int = 1, ctx: Context | None = None
) -> Verdicts:
    """The verdicts of a Rule, Reduce or Group on all pairs, cut into `buckets`, groups met in `slots`."""
    ctx = ctx or Context(seed, pairs.num_rows)
    edges = np.linspace(0, pairs.num_rows, buckets + 1).astype(int)
    cut = [pairs.slice(a, b - a) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    seen = [each.select([name for name in shown(stage) if name in each.schema.names]) for each in cut]
    if isinstance(stage, Reduce):
        state, ctx = reduced_in(stage, seen, ctx)
        return joined(cut, [stage.judge(each, state, ctx) for each in seen])
    if isinstance(stage, Group):
        told = grouped(stage, seen, ctx, slots)
        return joined(cut, [stage.judge(each, own, ctx) for each, own in zip(seen, told, strict=True)])
    assert isinstance(stage, Rule)
    function = stage.open(ctx)
    return joined(cut, [function(each) for each in seen])


def reduced(stage: Reduce, cut: list[pa.Table], ctx: Context) -> pa.Table:
    """The last state."""
    return reduced_in(stage, cut, ctx)[0]


def one_by_one(stage: Reduce, partials: list[pa.Table]) -> pa.Table:
    """Partials merged one by one, the last bucket's first."""
    merged = partials[-1]
    for each in reversed(partials[:-1]):
        merged = stage.merge([each, merged])
    return stage.merge([merged])


def reduced_in(stage: Reduce, cut: list[pa.Table], ctx: Context, merged=one_by_one) -> tuple[pa.Table, Context]:
    """The last state, and the context that verdicts are given: with what is kept of pieces."""
    state: pa.Table | Again | None = None
    while state is None or isinstance(state, Again):
        before = state.state if state else None
        asked = [stage.map(each, before, ctx) for each in cut] if state is None or state.asks else []
        pieces = stage.pieces(before) if state else 0
        if pieces:
            made = []
            for piece in range(pieces):
                mine = [each.filter(pa.array(each[PIECE].to_numpy() == piece)).drop_columns([PIECE]) for each in asked]
                partial = merged(stage, mine) if any(each.num_rows for each in mine) else None
                made.append(stage.finish_piece(partial, piece, before, ctx))
            ctx = ctx._replace(piece=lambda at, made=made: made[at].kept)
            state = stage.finish(pa.concat_tables([each.told for each in made]), before, ctx)
        else:
            state = stage.finish(merged(stage, asked), before, ctx)
    return state, ctx


def grouped(stage: Group, cut: list[pa.Table], ctx: Context, slots: int, combines: bool = True) -> list[Told]:
    """What each bucket is told."""
    tables: list[dict[str, list[pa.Table]]] = [{} for _ in cut]
    for step in stage.steps:
        again = True
        while again:
            asked = [stage.survey(each, Told(step, own), ctx) for each, own in zip(cut, tables, strict=True)]
            asked = [stage.combine(notes, step) if notes.num_rows and combines else notes for notes in asked]
            told = _settled(stage, step, cut, asked, ctx, slots, combines)
            again = any(notes.num_rows for notes in asked)
            if again:
                for own, rows in zip(tables, told, strict=True):
                    own.setdefault(step, []).append(rows)
            again = again and step in stage.repeated
    return [Told(stage.steps[-1], own) for own in tables]


def _settled(stage, step, cut, asked, ctx, slots, combines) -> list[pa.Table]:
    notes = [each for each in reversed(asked) if each.num_rows]
    if not notes:
        return [pa.table({}) for _ in cut]
    both = pa.concat_tables(notes, promote_options="permissive")
    both = stage.combine(both, step) if combines else both
    slot = mixed(both.column(GROUP).to_numpy()) % np.uint64(slots)
    met = [arrow.sorted_plainly(both.filter(pa.array(slot == s)), (GROUP, "uid")) for s in range(slots)]
    rows = arrow.concat([stage.settle(each, step, ctx) for each in met if each.num_rows])
    if "uid" in rows.column_names:
        return [rows.filter(pc.is_in(rows.column("uid"), each.column("uid").combine_chunks())) for each in cut]
    return [
        rows.filter(pc.is_in(rows.column(GROUP), each.column(GROUP).combine_chunks())) if each.num_rows else rows[:0]
        for each in asked
    ]


def joined(cut: list[pa.Table], judged: list[Verdicts]) -> Verdicts:
    drops: dict[str, int] = {}
    for each in judged:
        for reason, count in each.caption_drops.items():
            drops[reason] = drops.get(reason, 0) + count
    lists = [captions.column(each) if v.captions is None else v.captions for each, v in zip(cut, judged, strict=True)]
    return Verdicts(
        reason=_whole([v.reason for v in judged]),
        detail=None if judged[0].detail is None else _whole([v.detail for v in judged]),
        captions=_whole(lists) if any(v.captions is not None for v in judged) else None,
        caption_drops=drops,
        columns=None if judged[0].columns is None else pa.concat_tables([v.columns for v in judged]),
    )


def _whole(arrays: list) -> pa.Array:
    return pa.concat_arrays([arrow.whole(each) for each in arrays])


def measure(
    stage: Measure, pairs: pa.Table, bodies: list[bytes] | None = None, batch: int | None = None, shift: int = 0
) -> tuple[pa.Table, pa.Array]:
    """(kept rows, keys), one for each unit of `pairs`, measured in batches that begin `shift` rows late.

    `bodies` are the images, in the order of the pairs."""
    ctx = Context(0, pairs.num_rows, batch)
    units = units_of(stage, pairs)
    keys = keys_of(stage, units, {})
    if "image" in units.column_names:
        rows = captions.explode(pairs).column("row").to_pylist() if stage.unit == "caption" else range(pairs.num_rows)
        images = pa.array([bodies[row] for row in rows], pa.large_binary())
        units = units.set_column(units.schema.get_field_index("image"), "image", images)
    size = batch or stage.batch
    if isinstance(stage, Generate):
        ask = stage.backend.open(ctx)

        def function(some, keys):
            return asked_rows(stage, ask, some, keys)
    else:
        measure_some = stage.open(ctx)

        def function(some, keys):
            return measure_some(some)

    starts = sorted({0, *range(min(shift, units.num_rows), units.num_rows, size)})
    made = []
    for start, stop in zip(starts, [*starts[1:], units.num_rows], strict=True):
        if stop > start:
            found = function(units.slice(start, stop - start).combine_chunks(), keys[start:stop].to_pylist())
            found = asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found
            made.append(checked(stage, keys.slice(start, stop - start), found))
    from curation.methods.units import kept_schema

    return packs.concat(made, kept_schema(stage)), keys


async def _awaited(found):
    return await found


def measured(stage: Measure, pairs: pa.Table, bodies: list[bytes] | None = None) -> Verdicts:
    return attached(stage, pairs, measure(stage, pairs, bodies)[0])
