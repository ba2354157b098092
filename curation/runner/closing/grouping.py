"""A Group: notes of every bucket meet by group, results go back to the buckets; step by step.

There are as many slots as buckets, more in a step in which a pair has many notes; a group's slot is a hash of its
number, because a stage's groups may be anything (a count, a hash, a cluster). One task settles a run of slots, of about
ROWS notes.

    <segment folder>/bucket-00000.closing.pack                  notes of the first step
    <closing folder>/<step>-<round>-notes-<bucket>.pack, .json  of further ones
                    /<step>-<round>-notes-merged-<n>.pack, .json  when there are many buckets (runner/exchange.py)
                    /<step>-<round>-told-<n>.pack, .json        results, cut by bucket
                    /<step>-<round>-told-merged-<n>.pack, .json   when there are many of those
                    /closed.json                                [[step, round, packs told, whether merged], ...]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job, Segment, check_files
from curation.runner import exchange
from curation.runner.calls import Do
from curation.runner.closing.closer import call_for, closer_of, number_of
from curation.runner.closing.vectors import pairs_of, resolved
from curation.runner.exchange import FROM
from curation.runner.explained import explained
from curation.stage import GROUP, Group, Told, Verdicts
from curation.table import arrow, packs
from curation.table.uids import power_of_two
from pipeline import storage
from pipeline.draws import mixed
from pipeline.errors import DataError
from pipeline.storage import Note

ROWS = 50_000
"""About so many notes are settled by one task."""
ASKED = ".closing.pack"
_CLOSED = "closed.json"
_IS_NOTE = "_is_note"  # of a merged pack: false where a row only says that its bucket had a note in the group
Round = tuple[str, int, int, bool]  # step, round of it, packs of results, whether these are merged ones


def ask(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> tuple[dict[str, Note], dict[str, int]]:
    stage = closer_of(job, here, Group)
    notes = _notes(job, here, bucket, resolved(job, stage, pairs, bucket), Told(stage.steps[0]))
    note = _publish_notes(job.file(here, bucket, ASKED), notes, _slots(job, here, stage.steps[0]))
    return {ASKED: note}, {"notes": notes.num_rows}


def close(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do) -> None:
    if exchange.is_done(job, here, _CLOSED):
        return
    stage = closer_of(job, here, Group)
    done: list[Round] = []
    for number, step in enumerate(stage.steps):
        told: np.ndarray | None = np.ones(job.buckets, bool)
        round_ = 0
        while told is not None and told.any():
            again = f", round {round_ + 1}" if step in stage.repeated else ""
            label = f"{job.names[number_of(here)]}: {step}{again}"
            if number or round_:  # who was told nothing in the last round has nothing new to say
                args = [(step, round_, bucket, done) for bucket in np.flatnonzero(told).tolist()]
                calls = [call_for(job, here, survey, each, f"{label}, ask") for each in args]
                rows = sum(found for _, found in do(calls, f"{label}, ask", "buckets"))
                urls = [job.closing_file(here, f"{_notes_name(*each[:3])}.pack") for each in args]
            else:
                urls = [job.file(here, bucket, ASKED) for bucket in range(job.buckets)]
                rows = sum(asked[bucket]["notes"] for bucket in range(job.buckets))
            told = None
            if rows:
                num_packs, is_merged, told = _settle_all(job, here, (step, round_), rows, urls, do, label)
                done.append((step, round_, num_packs, is_merged))
            told, round_ = told if step in stage.repeated else None, round_ + 1
    storage.publish_state(job.closing_file(here, _CLOSED), {"rounds": done})


def _settle_all(
    job: Job, here: Segment, at: tuple[str, int], rows: int, urls: list[str], do: Do, label: str
) -> tuple[int, bool, np.ndarray]:
    """Settles one round; returns how many packs of results there are, whether these are merged ones, and whether each
    bucket was told something."""
    urls = exchange.merged(job, here, f"{at[0]}-{at[1]}-notes", urls, do, label, merge)
    runs = exchange.runs(_slots(job, here, at[0]), rows, ROWS)
    calls = [call_for(job, here, settle, (*at, n, run, urls), label) for n, run in enumerate(runs)]
    told = np.zeros(job.buckets, bool)
    for _, bits in do(calls, label, "slots"):
        told |= np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=job.buckets).astype(bool)
    name = f"{at[0]}-{at[1]}-told"
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
        notes = _notes(job, here, bucket, pairs, told)
    note = _publish_notes(job.closing_file(here, f"{name}.pack"), notes, _slots(job, here, step))
    storage.publish_state(job.closing_file(here, f"{name}.json"), {"notes": notes.num_rows}, {f"{name}.pack": note})
    return notes.num_rows


def merge(job: Job, index: int, name: str, at: int, urls: list[str]) -> None:
    """Brings the notes of some buckets together: fewer where they can be combined, and who asked."""
    here = job.segments[index]
    step = name.split("-")[0]
    check_files(job, [here.closer])

    def combine(notes: pa.Table) -> pa.Table:
        askers = notes.select([GROUP, FROM]).group_by([GROUP, FROM]).aggregate([])
        notes = closer_of(job, here, Group).combine(notes.drop_columns([FROM]), step)
        notes = notes.append_column(_IS_NOTE, pa.array(np.ones(notes.num_rows, bool)))
        askers = askers.append_column(_IS_NOTE, pa.array(np.zeros(askers.num_rows, bool)))
        return pa.concat_tables([notes, askers], promote_options="permissive")

    with explained(f"stage {job.names[number_of(here)]}, {step}, bringing together"):
        exchange.merge(job, index, name, at, urls, _slots(job, here, step), combine)


def settle(job: Job, index: int, step: str, number: int, run: int, slots: tuple[int, int], urls: list[str]) -> str:
    """Settles a run of slots; returns a bit for each bucket, as hex: whether it is told something."""
    here = job.segments[index]
    name = f"{step}-{number}-told-{run:05d}"
    if exchange.is_done(job, here, f"{name}.json"):
        return (storage.read_state(job.closing_file(here, f"{name}.json")) or {})["told"]
    check_files(job, [here.closer])
    found = exchange.Sources(tuple(urls)).read(*slots)
    with explained(f"stage {job.names[number_of(here)]}, {step}, slots {slots[0]} to {slots[1]}"):
        results = _settled(job, here, step, found)
    at = results.column(FROM).to_numpy() if results.num_rows else np.zeros(0, np.int64)
    note = packs.publish_cut(job.closing_file(here, f"{name}.pack"), results, at, job.buckets)
    told = np.packbits(np.bincount(at, minlength=job.buckets) > 0).tobytes().hex()
    storage.publish_state(job.closing_file(here, f"{name}.json"), {"told": told}, {f"{name}.pack": note})
    return told


def _settled(job: Job, here: Segment, step: str, found: list[pa.Table]) -> pa.Table:
    """What the notes say, with the bucket that each row goes to."""
    if not found:
        return pa.table({})
    rows = pa.concat_tables(found, promote_options="permissive").combine_chunks()
    askers = rows.select([GROUP, FROM])
    if _IS_NOTE in rows.column_names:
        is_note = rows.column(_IS_NOTE)
        rows, askers = rows.filter(is_note).drop_columns([_IS_NOTE]), askers.filter(pc.invert(is_note))
    notes = arrow.sorted_plainly(rows.drop_columns([FROM]), (GROUP, "uid"))
    results = closer_of(job, here, Group).settle(notes, step, job.context(number_of(here)))
    if "uid" in results.column_names:
        return results.append_column(FROM, pa.array(job.cut.bucket_of(results.column("uid"))))
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


def _slots(job: Job, here: Segment, step: str) -> int:
    return job.buckets * power_of_two(closer_of(job, here, Group).notes_per_pair(step, job.context(number_of(here))))


def slots_of(groups: pa.ChunkedArray | pa.Array, slots: int) -> np.ndarray:
    """The slot of each uint64 group: scattered first, so that near numbers part."""
    scattered = mixed(arrow.whole(groups).to_numpy(zero_copy_only=False))
    return (scattered % np.uint64(slots)).astype(np.int64)


def _told(job: Job, here: Segment, bucket: int, step: str, rounds: Sequence[Round]) -> Told:
    tables: dict[str, list[pa.Table]] = {}
    for name, number, num_packs, is_merged in rounds:
        urls = exchange.urls_of(job, here, f"{name}-{number}-told", num_packs, is_merged)
        found = [table for url in urls for table in packs.read_pack(url, bucket, bucket + 1)]
        tables.setdefault(name, []).append(pa.concat_tables(found) if found else pa.table({}))
    return Told(step, tables)


def _notes_name(step: str, number: int, bucket: int) -> str:
    return f"{step}-{number}-notes-{bucket:05d}"
