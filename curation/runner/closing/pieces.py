"""A round of a Reduce whose partials are too wide to meet in one place: they meet in pieces, each in a task of its own.

<closing folder>/<round>-<bucket>.pack, .json           the partial of a bucket, cut by piece
                /<round>-partial-merged-<n>.pack, .json   when there are many buckets (runner/exchange.py)
                /<round>-kept-<piece>.arrow, .parquet, .json   what is kept of a piece, and what is told of it

When the state of the round is there, its partials are removed, and so is what earlier rounds have kept: of the widest
tables no more than two rounds' lie on the disk.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa

from curation.job import Job, Segment, check_files
from curation.runner import exchange
from curation.runner.calls import Call, Do
from curation.runner.closing.closer import call_for, closer_of, number_of
from curation.runner.explained import explained
from curation.stage import PIECE, Context, Reduce
from curation.states import kept_name, pieces_of, state_name
from curation.table import packs
from pipeline import storage

HELD = 128 << 20
"""Bytes of partials that a task holds before it merges them."""
_FREED = 256  # files removed by one task


class Round(NamedTuple):
    """A round that is finished. again, asks: whether another follows, and whether it asks the buckets; pieces: that the
    next one comes in; kept, of: number of the last round that came in pieces, and how many those were."""

    number: int
    again: bool
    asks: bool
    pieces: int
    kept: int | None
    of: int


def close(job: Job, here: Segment, last: Round | None, urls: list[str], do: Do) -> list[str]:
    """Finishes the pieces of the round after `last`; returns the files of what they told. `urls`: of partials."""
    assert last is not None  # a first round never comes in pieces
    label, number = job.names[number_of(here)], last.number + 1
    urls = exchange.merged(job, here, _merged_name(number, last), urls, do, label, merge)
    calls = [call_for(job, here, finish, (last, piece, urls), label) for piece in range(last.pieces)]
    for _ in do(calls, f"{label}: round {number + 1}, add up", "pieces"):
        pass
    return [job.closing_file(here, f"{kept_name(number, piece)}.parquet") for piece in range(last.pieces)]


def state_of(job: Job, here: Segment, last: Round) -> pa.Table:
    return storage.read_parquet(job.closing_file(here, f"{state_name(last.number)}.parquet"))


def context(job: Job, here: Segment, last: Round) -> Context:
    """What the stage is told in the round after `last`."""
    return job.context(number_of(here))._replace(piece=pieces_of(job, here, last.kept))


def publish_partial(job: Job, here: Segment, name: str, partial: pa.Table, pieces: int) -> None:
    at = partial.column(PIECE).to_numpy()
    note = packs.publish_cut(job.closing_file(here, f"{name}.pack"), partial.drop_columns([PIECE]), at, pieces)
    storage.publish_state(job.closing_file(here, f"{name}.json"), {}, {f"{name}.pack": note})


def merge(job: Job, index: int, name: str, at: int, urls: list[str]) -> None:
    """Merges the partials of some buckets, piece by piece."""
    here = job.segments[index]
    done = f"{name}-merged-{at:05d}"
    if exchange.is_done(job, here, f"{done}.json"):
        return
    check_files(job, [here.closer])
    pieces = int(name.rpartition("-of-")[2])
    with explained(f"stage {job.names[number_of(here)]}, adding up"):
        tables = _by_piece(closer_of(job, here, Reduce), urls, pieces)
        note = packs.publish_pack(job.closing_file(here, f"{done}.pack"), tables, pieces)
    storage.publish_state(job.closing_file(here, f"{done}.json"), {}, {f"{done}.pack": note})


def finish(job: Job, index: int, last: Round, piece: int, urls: list[str]) -> None:
    here = job.segments[index]
    name = kept_name(last.number + 1, piece)
    if exchange.is_done(job, here, f"{name}.json"):
        return
    check_files(job, [here.closer])
    stage = closer_of(job, here, Reduce)
    with explained(f"stage {job.names[number_of(here)]}, round {last.number + 2}, piece {piece}"):
        tables = (t for url in urls for t in packs.read_pack(url, piece, piece + 1))
        partial = merged(stage, tables)
        made = stage.finish_piece(partial, piece, state_of(job, here, last), context(job, here, last))
    arrow, parquet = f"{name}.arrow", f"{name}.parquet"
    storage.publish_arrow(job.closing_file(here, arrow), made.kept)
    storage.publish_parquet(job.closing_file(here, parquet), made.told)
    notes = {each: storage.note_of(job.closing_file(here, each)) for each in (arrow, parquet)}
    storage.publish_state(job.closing_file(here, f"{name}.json"), {}, notes)


def free(job: Job, here: Segment, last: Round, do: Do) -> None:
    """Removes what the round after `last`, which is finished, has no more use for."""
    number = last.number + 1
    names = [f"{number}-{bucket:05d}" for bucket in range(job.buckets)] if last.asks else []
    groups = len(exchange.groups_of(job.buckets)) if last.asks else 0
    names += [f"{_merged_name(number, last)}-merged-{at:05d}" for at in range(groups)]
    names += [kept_name(last.kept, piece) for piece in range(last.of)] if last.kept is not None else []
    discard(here, names, do)


def discard(here: Segment, names: list[str], do: Do) -> None:
    """Removes units of a closing, by their names without an ending."""
    runs = [names[at : at + _FREED] for at in range(0, len(names), _FREED)]
    for _ in do([Call(remove, (here.index, some), "freeing") for some in runs], "", "files"):
        pass


def remove(job: Job, index: int, names: list[str]) -> None:
    for name in names:
        for suffix in (".json", ".pack", ".arrow", ".parquet"):  # first what vouches for the others
            storage.remove(job.closing_file(job.segments[index], name + suffix))


def merged(stage: Reduce, tables: Iterable[pa.Table]) -> pa.Table | None:
    """Partials as one, None of none; merged as they come, so that few are held at a time."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if len(held) > 1 and sum(each.nbytes for each in held) > HELD:
            held = [stage.merge(held)]
    return stage.merge(held) if held else None


def _by_piece(stage: Reduce, urls: list[str], pieces: int) -> Iterator[pa.Table]:
    """Piece by piece what all packs have, merged; read in runs of pieces, so that each pack is read front to back."""
    width = packs.run_of_slots(urls, pieces)
    for first in range(0, pieces, width):
        stop = min(first + width, pieces)
        held: dict[int, list[pa.Table]] = {}
        for url in urls:
            for piece, table in packs.read_slots(url, first, stop):
                mine = held.setdefault(piece, [])
                mine.append(table)
                if len(mine) > 1 and sum(each.nbytes for each in mine) > HELD:
                    held[piece] = [stage.merge(mine)]
        for piece in range(first, stop):
            found = held.pop(piece, [])
            yield stage.merge(found) if found else pa.table({})


def _merged_name(number: int, last: Round) -> str:
    return f"{number}-partial-of-{last.pieces}"
