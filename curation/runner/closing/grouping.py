"""A Group: notes of every bucket meet by group, results go back to the buckets; step by step.

There are as many slots as buckets or fewer, more in a step in which a pair has many notes; a group's slot is a hash of
its number, because a stage's groups may be anything (a count, a hash, a cluster). One task settles a run of slots, of
about ROWS notes. When a round is settled its notes are removed, but for those of the first step, which go with the
segment.

    <segment folder>/bucket-00000.closing.pack                  notes of the first step
    <closing folder>/<step>-<round>-notes-<bucket>.pack, .json  of further ones
                    /<step>-<round>-notes-merged-<n>.pack, .json  when there are many buckets (runner/exchange.py)
                    /<step>-<round>-told-<n>.pack, .json        results, cut by bucket
                    /<step>-<round>-told-merged-<n>.pack, .json   when there are many of those
                    /<step>-<round>-settled.json                what came of it: notes, packs of results, who was told
                    /closed.json                                [[step, round, packs told, whether merged], ...]
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job, Segment, check_files
from curation.runner import exchange
from curation.runner.calls import Do
from curation.runner.closing import pieces
from curation.runner.closing.closer import call_for, closer_of, number_of
from curation.runner.closing.vectors import pairs_of, resolved
from curation.runner.exchange import FROM
from curation.runner.explained import explained
from curation.stage import GROUP, Group, Told, Verdicts
from curation.states import SETTLED
from curation.table import arrow, packs
from curation.table.arrow import whole
from curation.table.uids import power_of_two
from pipeline import storage
from pipeline.draws import mixed
from pipeline.errors import DataError
from pipeline.storage import Note

ROWS = 50_000
"""About so many notes are settled by one task."""
AT_ONCE = 100_000
"""Of the notes of a run so many are settled together: sorted and joined they take 700 bytes each, read 50."""
WIDE, FEW, PASSES = 16, 16, 2
"""A step in which a pair has WIDE notes or more is gone through in PASSES where there are more than FEW buckets: each
makes the notes of a share of all groups, and they are removed before the next, so that less lies on the disk."""
ASKED = ".closing.pack"
_CLOSED = "closed.json"
_IS_NOTE = "_is_note"  # of a merged pack: false where a row only says that its bucket had a note in the group
Round = tuple[str, int, int, bool]  # step, round of it, packs of results, whether these are merged ones


def ask(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> tuple[dict[str, Note], dict[str, int]]:
    stage = closer_of(job, here, Group)
    notes = _notes(job, here, bucket, resolved(job, stage, pairs, bucket), Told(stage.steps[0]))
    note = _publish_notes(job.file(here, bucket, ASKED), notes, spread(job, here, stage.steps[0]).slots)
    return {ASKED: note}, {"notes": notes.num_rows}


def close(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do) -> None:
    if exchange.is_done(job, here, _CLOSED):
        return
    stage, done = closer_of(job, here, Group), list[Round]()
    there = frozenset(storage.list_names(storage.join(job.work, here.closing_folder)))
    for number, step in enumerate(stage.steps):
        repeats, round_, before = step in stage.repeated, 0, list(done)
        to = np.ones(job.buckets, bool)
        while to.any() and (repeats or round_ < spread(job, here, step).passes):
            at = (step, round_)
            said = _settled_before(job, here, at, there)
            known = there if said else None
            by = [] if not number and not round_ else np.flatnonzero(to).tolist()  # none: the segment has asked
            said = said or _round(job, here, at, before, by, asked, do)
            _free(job, here, at, by, known, do)
            done += [(*at, said["packs"], said["merged"])] if said["packs"] else []
            if repeats:  # who was told nothing in the last round has nothing new to say
                to, before = _bits(said["told"], job.buckets), list(done)
            round_ += 1
    storage.publish_state(job.closing_file(here, _CLOSED), {"rounds": done})


def _settled_before(job: Job, here: Segment, at: tuple[str, int], there: frozenset[str]) -> dict[str, Any] | None:
    """What came of a round, where that and its results were there when this start began."""
    name = settled_name(*at)
    said = storage.read_state(job.closing_file(here, name)) if name in there else None
    urls = exchange.urls_of(job, here, _told_name(*at), said["packs"], said["merged"]) if said else []
    return said if all(storage.basename(url) in there for url in urls) else None


def _round(
    job: Job,
    here: Segment,
    at: tuple[str, int],
    before: list[Round],
    by: list[int],
    asked: Mapping[int, Mapping[str, Any]],
    do: Do,
) -> dict[str, Any]:
    """Asks, settles, and publishes what came of it, which it returns."""
    step, number = at
    again = f", round {number + 1}" if step in closer_of(job, here, Group).repeated else ""
    label = f"{job.names[number_of(here)]}: {step}{again}"
    if by:
        args = [(step, number, bucket, before) for bucket in by]
        calls = [call_for(job, here, survey, each, f"{label}, ask") for each in args]
        rows = sum(found for _, found in do(calls, f"{label}, ask", "buckets"))
        urls = [job.closing_file(here, f"{_notes_name(*each[:3])}.pack") for each in args]
    else:
        urls = [job.file(here, bucket, ASKED) for bucket in range(job.buckets)]
        rows = sum(asked[bucket]["notes"] for bucket in range(job.buckets))
    num_packs, is_merged, told = 0, False, np.zeros(job.buckets, bool)
    if rows:
        num_packs, is_merged, told = _settle_all(job, here, at, rows, urls, do, label)
    said = {"notes": rows, "asked": len(urls), "packs": num_packs, "merged": is_merged, "told": _hex(told)}
    storage.publish_state(job.closing_file(here, settled_name(*at)), said, {})
    return said


def _free(job: Job, here: Segment, at: tuple[str, int], by: list[int], there: frozenset[str] | None, do: Do) -> None:
    """Removes the notes of a round that is settled; of one that was when this start began, those that are still
    there."""
    names = [_notes_name(*at, bucket) for bucket in by]
    groups = len(exchange.groups_of(len(by) or job.buckets))
    names += [f"{at[0]}-{at[1]}-notes-merged-{group:05d}" for group in range(groups)]
    if there is not None:
        names = [name for name in names if f"{name}.json" in there or f"{name}.pack" in there]
    pieces.discard(here, names, do)


def _settle_all(
    job: Job, here: Segment, at: tuple[str, int], rows: int, urls: list[str], do: Do, label: str
) -> tuple[int, bool, np.ndarray]:
    """Settles one round; returns how many packs of results there are, whether these are merged ones, and whether each
    bucket was told something."""
    urls = exchange.merged(job, here, f"{at[0]}-{at[1]}-notes", urls, do, label, merge)
    runs = exchange.runs(spread(job, here, at[0]).slots, rows, ROWS)
    calls = [call_for(job, here, settle, (*at, n, run, urls), label) for n, run in enumerate(runs)]
    told = np.zeros(job.buckets, bool)
    for _, bits in do(calls, label, "slots"):
        told |= _bits(bits, job.buckets)
    name = _told_name(*at)
    urls = exchange.urls_of(job, here, name, len(runs))
    left = exchange.merged(job, here, name, urls, do, label, exchange.gather, exchange.READ)
    return len(left), left != urls, told


def verdicts(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> Verdicts:
    state = storage.read_state(job.closing_file(here, _CLOSED))
    if state is None:
        where, hint = storage.shown(job.closing_file(here, _CLOSED)), "run the same command again"
        raise DataError(where, "is not there", "what the comparing of pairs has published", hint)
    stage = closer_of(job, here, Group)
    told = _told(job, here, bucket, stage.steps[-1], state["rounds"])
    return stage.judge(resolved(job, stage, pairs, bucket), told, job.context(number_of(here)))


def survey(job: Job, index: int, step: str, number: int, bucket: int, done: Sequence[Round]) -> int:
    """The notes of one bucket in a further round; returns how many."""
    here = job.segments[index]
    name = _notes_name(step, number, bucket)
    if exchange.is_done(job, here, f"{name}.json"):
        return int((storage.read_state(job.closing_file(here, f"{name}.json")) or {})["notes"])
    check_files(job, [here.closer])
    with explained(f"stage {job.names[number_of(here)]}, {step}, bucket {bucket}"):
        told = _told(job, here, bucket, step, done)
        pairs = pairs_of(job, here, closer_of(job, here, Group), bucket)
        notes = _of_pass(_notes(job, here, bucket, pairs, told), spread(job, here, step), number)
    note = _publish_notes(job.closing_file(here, f"{name}.pack"), notes, spread(job, here, step).slots)
    storage.publish_state(job.closing_file(here, f"{name}.json"), {"notes": notes.num_rows}, {f"{name}.pack": note})
    return notes.num_rows


def merge(job: Job, index: int, name: str, at: int, urls: list[str]) -> int:
    """Brings the notes of some buckets together: fewer where they can be combined, and who asked. Returns what
    `exchange.merge` does."""
    here = job.segments[index]
    step = name.split("-")[0]
    check_files(job, [here.closer])

    def combine(notes: pa.Table) -> pa.Table:
        fewer = closer_of(job, here, Group).combine(notes.drop_columns([FROM]), step)
        if fewer.num_rows == notes.num_rows:
            return notes  # each is still of one bucket
        askers = notes.select([GROUP, FROM]).group_by([GROUP, FROM]).aggregate([])
        fewer = fewer.append_column(_IS_NOTE, pa.array(np.ones(fewer.num_rows, bool)))
        askers = askers.append_column(_IS_NOTE, pa.array(np.zeros(askers.num_rows, bool)))
        return pa.concat_tables([fewer, askers], promote_options="permissive")

    with explained(f"stage {job.names[number_of(here)]}, {step}, bringing together"):
        return exchange.merge(job, index, name, at, urls, spread(job, here, step).slots, combine)


def settle(job: Job, index: int, step: str, number: int, run: int, slots: tuple[int, int], urls: list[str]) -> str:
    """Settles a run of slots; returns a bit for each bucket, as hex: whether it is told something."""
    here = job.segments[index]
    name = f"{_told_name(step, number)}-{run:05d}"
    if exchange.is_done(job, here, f"{name}.json"):
        return (storage.read_state(job.closing_file(here, f"{name}.json")) or {})["told"]
    check_files(job, [here.closer])
    found = exchange.Sources(tuple(urls)).read(*slots)
    with explained(f"stage {job.names[number_of(here)]}, {step}, slots {slots[0]} to {slots[1]}"):
        results = [_settled(job, here, step, some) for some in _apart(found)]
    results = pa.concat_tables(results, promote_options="permissive").combine_chunks()
    at = results.column(FROM).to_numpy() if results.num_rows else np.zeros(0, np.int64)
    note = packs.publish_cut(job.closing_file(here, f"{name}.pack"), results, at, job.buckets)
    told = _hex(np.bincount(at, minlength=job.buckets) > 0)
    storage.publish_state(job.closing_file(here, f"{name}.json"), {"told": told}, {f"{name}.pack": note})
    return told


def _apart(found: list[pa.Table]) -> Iterator[pa.Table]:
    """The notes, each group with all of its own, about AT_ONCE at a time; at least one table."""
    rows = pa.concat_tables(found, promote_options="permissive").combine_chunks() if found else pa.table({})
    number = -(-rows.num_rows // AT_ONCE)
    if number < 2:
        yield rows
        return
    # By bits that do not decide over slots: all of a run may have those in common.
    scattered = mixed(whole(rows.column(GROUP)).to_numpy(zero_copy_only=False)) >> np.uint64(40)
    share = scattered % np.uint64(number)
    for each in range(number):
        yield rows.filter(pa.array(share == each)).combine_chunks()


def _settled(job: Job, here: Segment, step: str, rows: pa.Table) -> pa.Table:
    """What the notes say, with the bucket that each row goes to."""
    if not rows.num_rows:
        return pa.table({})
    askers = rows.select([GROUP, FROM])
    if _IS_NOTE in rows.column_names:
        rows = rows.filter(pc.fill_null(rows.column(_IS_NOTE), True)).drop_columns([_IS_NOTE])
        askers = askers.filter(pc.is_valid(askers.column(FROM)))
    notes = arrow.sorted_plainly(rows.drop_columns([FROM]), (GROUP, "uid"))
    results = closer_of(job, here, Group).settle(notes, step, job.context(number_of(here)))
    if "uid" in results.column_names:
        return results.append_column(FROM, pa.array(job.cut.bucket_of(results.column("uid"))))
    askers = askers.filter(pc.is_in(askers.column(GROUP), whole(results.column(GROUP))))
    askers = askers.group_by([GROUP, FROM]).aggregate([])
    number = pa.array(np.arange(results.num_rows))
    both = pa.table({GROUP: results.column(GROUP), "_row": number}).join(askers, GROUP, join_type="inner")
    both = both.sort_by([("_row", "ascending"), (FROM, "ascending")])
    return results.take(both.column("_row")).append_column(FROM, both.column(FROM).cast(pa.int64()))


def _notes(job: Job, here: Segment, bucket: int, pairs: pa.Table, told: Told) -> pa.Table:
    stage = closer_of(job, here, Group)
    notes = stage.survey(pairs, told, job.context(number_of(here)))
    if GROUP not in notes.schema.names or notes.schema.field(GROUP).type != pa.uint64():
        name = job.names[number_of(here)]
        raise TypeError(f"{name}.survey gave the columns {notes.schema.names}; expected a uint64 column `{GROUP}`")
    notes = stage.combine(notes, told.step) if notes.num_rows else notes
    return notes.append_column(FROM, pa.array(np.full(notes.num_rows, bucket, np.int32)))


def _publish_notes(url: str, notes: pa.Table, slots: int) -> Note:
    return packs.publish_cut(url, notes, slots_of(notes.column(GROUP), slots), slots)


class Spread(NamedTuple):
    """How the notes of a step are spread: over so many slots, in each of so many passes."""

    slots: int
    passes: int


def spread_of(buckets: int, each: int, is_first: bool) -> Spread:
    """Of a step in which a pair has about `each` notes: slots are no more than there are runs where buckets are half
    full, as each costs 300 bytes in the pack of every bucket, and the time to take it up again."""
    most = buckets * power_of_two(each)
    runs = len(exchange.runs(most, buckets * each * ROWS // 2, ROWS))
    slots = max(runs, power_of_two(min(buckets, exchange.RUNS)))
    passes = PASSES if each >= WIDE and buckets > FEW and not is_first else 1
    return Spread(slots // passes, passes)


def spread(job: Job, here: Segment, step: str) -> Spread:
    stage = closer_of(job, here, Group)
    each = stage.notes_per_pair(step, job.context(number_of(here)))
    return spread_of(job.buckets, each, step == stage.steps[0] or step in stage.repeated)


def _of_pass(notes: pa.Table, over: Spread, number: int) -> pa.Table:
    """The notes that are made in one pass."""
    if over.passes == 1:
        return notes
    passes = slots_of(notes.column(GROUP), over.slots * over.passes) // over.slots
    return notes.filter(pa.array(passes == number))


def slots_of(groups: pa.ChunkedArray | pa.Array, slots: int) -> np.ndarray:
    """The slot of each uint64 group: scattered first, so that near numbers part."""
    scattered = mixed(whole(groups).to_numpy(zero_copy_only=False))
    return (scattered % np.uint64(slots)).astype(np.int64)


def _told(job: Job, here: Segment, bucket: int, step: str, rounds: Sequence[Round]) -> Told:
    tables: dict[str, list[pa.Table]] = {}
    for name, number, num_packs, is_merged in rounds:
        urls = exchange.urls_of(job, here, _told_name(name, number), num_packs, is_merged)
        found = [table for url in urls for table in packs.read_pack(url, bucket, bucket + 1)]
        tables.setdefault(name, []).append(pa.concat_tables(found) if found else pa.table({}))
    return Told(step, tables)


def settled_name(step: str, number: int) -> str:
    return f"{step}-{number}{SETTLED}"


def _hex(told: np.ndarray) -> str:
    """A bit for each bucket."""
    return np.packbits(told).tobytes().hex()


def _bits(told: str, buckets: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(told), np.uint8), count=buckets).astype(bool)


def _told_name(step: str, number: int) -> str:
    return f"{step}-{number}-told"


def _notes_name(step: str, number: int, bucket: int) -> str:
    return f"{step}-{number}-notes-{bucket:05d}"
