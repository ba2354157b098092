"""A Reduce: partials of all buckets merged in a tree, finished, and once more while it must.

<segment folder>/bucket-00000.closing.parquet              the partial of the first round
<closing folder>/<round>-<bucket>.parquet, .json           of a further round
                /<round>-<level>-<n>.parquet, .json        merged
                /<round>-state.parquet, .json              the Round
                /closed.json                               {"rounds", "kept"}; the last state is what is judged by

A round in pieces is pieces.py beside this.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curation.job import Job, Segment, check_files
from curation.runner import exchange
from curation.runner.calls import Do
from curation.runner.closing import pieces
from curation.runner.closing.closer import call_for, closer_of, number_of
from curation.runner.closing.pieces import Round
from curation.runner.closing.vectors import pairs_of, resolved
from curation.runner.explained import explained
from curation.stage import Again, Reduce, Verdicts
from curation.states import CLOSED, kept_name, last_pieces, last_state, pieces_of, state_name
from pipeline import storage
from pipeline.storage import Note

FAN = 64
"""Partials merged by one task."""
ASKED = ".closing.parquet"


def ask(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> tuple[dict[str, Note], dict[str, int]]:
    stage = closer_of(job, here, Reduce)
    partial = stage.map(resolved(job, stage, pairs, bucket), None, job.context(number_of(here)))
    return {ASKED: _publish(job.file(here, bucket, ASKED), partial)}, {}


def close(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do) -> None:
    if exchange.is_done(job, here, CLOSED):
        return
    name, last = job.names[number_of(here)], _last_round(job, here)
    while last is None or last.again:
        urls = _partials(job, here, last, do)
        close_round = pieces.close if last and last.pieces else _tree
        urls = close_round(job, here, last, urls, do)
        ((_, found),) = do([call_for(job, here, finish, (last, urls), name)], f"{name}: add up", "states")
        if last and last.pieces:
            pieces.free(job, here, last, do)
        last = Round(*found)
    storage.publish_state(job.closing_file(here, CLOSED), {"rounds": last.number + 1, "kept": last.kept})


def _partials(job: Job, here: Segment, last: Round | None, do: Do) -> list[str]:
    """Those of the round after `last`, once they are there."""
    if last is None:
        return [job.file(here, bucket, ASKED) for bucket in range(job.buckets)]
    if not last.asks:
        return []
    label = f"{job.names[number_of(here)]}: round {last.number + 2}"
    calls = [call_for(job, here, partial, (last, bucket), label) for bucket in range(job.buckets)]
    for _ in do(calls, label, "buckets"):
        pass
    kind = "pack" if last.pieces else "parquet"
    return [job.closing_file(here, f"{last.number + 1}-{bucket:05d}.{kind}") for bucket in range(job.buckets)]


def _tree(job: Job, here: Segment, last: Round | None, urls: list[str], do: Do) -> list[str]:
    """Merged, FAN at a time, until one task can do the rest."""
    name, number, level = job.names[number_of(here)], last.number + 1 if last else 0, 0
    while len(urls) > FAN:
        groups = [urls[at : at + FAN] for at in range(0, len(urls), FAN)]
        calls = [call_for(job, here, merge, (number, level, at, some), name) for at, some in enumerate(groups)]
        for _ in do(calls, f"{name}: add up", "groups"):
            pass
        urls = [job.closing_file(here, f"{number}-{level}-{at:05d}.parquet") for at in range(len(groups))]
        level += 1
    return urls


def verdicts(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> Verdicts:
    stage = closer_of(job, here, Reduce)
    ctx = job.context(number_of(here))._replace(piece=last_pieces(job, here))
    return stage.judge(resolved(job, stage, pairs, bucket), last_state(job, here), ctx)


def partial(job: Job, index: int, before: Round, bucket: int) -> None:
    """The partial of one bucket in a further round."""
    here = job.segments[index]
    number = before.number + 1
    name = f"{number}-{bucket:05d}"
    if exchange.is_done(job, here, f"{name}.json"):
        return
    check_files(job, [here.closer])
    stage, state = closer_of(job, here, Reduce), pieces.state_of(job, here, before)
    with explained(f"stage {job.names[number_of(here)]}, round {number + 1}, bucket {bucket}"):
        found = stage.map(pairs_of(job, here, stage, bucket), state, pieces.context(job, here, before))
    if before.pieces:
        pieces.publish_partial(job, here, name, found, before.pieces)
    else:
        _publish_done(job, here, name, found, {})


def merge(job: Job, index: int, number: int, level: int, at: int, urls: list[str]) -> None:
    here = job.segments[index]
    name = f"{number}-{level}-{at:05d}"
    if not exchange.is_done(job, here, f"{name}.json"):
        _publish_done(job, here, name, _merged(job, here, urls), {})


def finish(job: Job, index: int, before: Round | None, urls: list[str]) -> Round:
    """Publishes the state of a round; returns what it says of the next."""
    here = job.segments[index]
    number = before.number + 1 if before else 0
    name = state_name(number)
    if exchange.is_done(job, here, f"{name}.json"):
        return _told(job, here, number)
    check_files(job, [here.closer])
    stage, state, ctx = closer_of(job, here, Reduce), None, job.context(number_of(here))
    if before:
        state, ctx = pieces.state_of(job, here, before), pieces.context(job, here, before)
    in_pieces = before is not None and before.pieces > 0
    with explained(f"stage {job.names[number_of(here)]}, finishing"):
        if in_pieces:
            both = pa.concat_tables([storage.read_parquet(url) for url in urls], promote_options="permissive")
            ctx = ctx._replace(piece=pieces_of(job, here, number))
        else:
            both = _merged(job, here, urls)
        found = stage.finish(both, state, ctx)
        again = isinstance(found, Again)
        asks = found.asks if isinstance(found, Again) else False
        state = found.state if isinstance(found, Again) else found
        following = stage.pieces(state) if again else 0
    kept = (number, before.pieces) if before and in_pieces else (before.kept, before.of) if before else (None, 0)
    told = Round(number, again, asks, following, *kept)
    _publish_done(job, here, name, state, told._asdict())
    return told


def _told(job: Job, here: Segment, number: int) -> Round:
    told = storage.read_state(job.closing_file(here, f"{state_name(number)}.json")) or {}
    return Round(number, *(told[name] for name in Round._fields[1:]))


def _last_round(job: Job, here: Segment) -> Round | None:
    """The last that an earlier start finished, and that can be gone on from: what it keeps of pieces is whole. Partials
    of the rounds before are not looked for: those of rounds in pieces are gone."""
    names = set(storage.list_names(storage.join(job.work, here.closing_folder)))
    ending = f"{state_name(0)}.json".lstrip("0")
    for number in sorted((int(n.removesuffix(ending)) for n in names if n.endswith(ending)), reverse=True):
        if exchange.is_done(job, here, f"{state_name(number)}.json"):
            found = _told(job, here, number)
            if all(f"{kept_name(found.kept or 0, piece)}.json" in names for piece in range(found.of)):
                return found
    return None


def _merged(job: Job, here: Segment, urls: list[str]) -> pa.Table:
    """As one table; a few at a time, so that there is room for them."""
    stage = closer_of(job, here, Reduce)
    with explained(f"stage {job.names[number_of(here)]}, adding up"):
        return pieces.merged(stage, (storage.read_parquet(url) for url in urls))


def _publish(url: str, table: pa.Table) -> Note:
    storage.publish_parquet(url, table)
    return storage.note_of(url)


def _publish_done(job: Job, here: Segment, name: str, table: pa.Table, told: dict[str, Any]) -> None:
    note = _publish(job.closing_file(here, f"{name}.parquet"), table)
    storage.publish_state(job.closing_file(here, f"{name}.json"), told, {f"{name}.parquet": note})
