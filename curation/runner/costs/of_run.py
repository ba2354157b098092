"""What a run that has come to its books has cost by the formulae, from what its states say of notes, rounds and pieces.

Held against what was counted while it ran by tests/curation/runner/costs/ and by benchmarks/growth.py.
"""

from collections.abc import Mapping
from typing import Any

from curation.books import evidence
from curation.job import Job, Segment
from curation.methods.rounds import Round
from curation.runner.closing import grouping
from curation.runner.closing.closer import number_of
from curation.runner.closing.vectors import origin_of
from curation.runner.costs import closing
from curation.runner.costs.cost import Cost
from curation.stage import IMAGE, Generate, Group, Measure, Reduce, Stage
from curation.states import CLOSED, SETTLED, state_name
from pipeline import storage

Told = Mapping[int, Mapping[int, Mapping[str, Any]]]
"""Segment -> bucket -> what its task told (pairs, and inputs or notes)."""


def segments(
    job: Job, told: Told, made: Mapping[int, tuple[int, int]], measured: Mapping[int, int], reopened: int
) -> Cost:
    """From the joined table to the pairs behind the last segment, of a run that found nothing done. `made`: of the
    Measure that ends a segment, by its number, the shares and the files of columns; `measured`: its inputs;
    `reopened`: packs opened besides their first time, as `exchange.merge` tells of wide ones."""
    whole, opens = Cost(packs=reopened), {"told": 0, "states": 0, "kept": 0}
    for here in job.segments:
        last = here.closer is not None
        whole += closing.segment(job.buckets, is_first=not here.index, is_closed=last, **opens)
        if here.index >= max(job.settings.keep, 1):
            whole += closing.freed(job.buckets)
        whole += _looks(job, here)
        opens = {"told": 0, "states": 0, "kept": 0}
        if not last:
            continue
        stage, said = job.stage(number_of(here)), storage.read_state(job.closing_file(here, CLOSED)) or {}
        vectors = closing.vectors(1, _packs(job, stage, number_of(here)))
        if isinstance(stage, Measure):
            inputs = sum(each["inputs"] for each in told[here.index].values())
            shares, files = made.get(here.index, (0, 0))
            new = measured.get(here.index, 0)
            runs = closing.runs_of(stage, job.buckets, inputs)
            whole += closing.measure(job.buckets, runs, new, shares, 0, of_images=IMAGE in stage.reads, made=files)
            whole += Cost(files=1) if isinstance(stage, Generate) else Cost()  # what was known when it began
            opens["told"] = said["packs"]
        elif isinstance(stage, Group):
            rounds = _rounds(job, here, stage)
            whole += closing.group(job.buckets, rounds) + vectors.times(sum(each.asked for each in rounds[1:]))
            opens["told"] = sum(number for _, _, number, _ in said["rounds"])
        elif isinstance(stage, Reduce):
            taken = _taken(job, here, said["rounds"])
            whole += closing.reduce(job.buckets, taken)
            whole += vectors.times(job.buckets * sum(each.asks for each in taken[1:]))
            opens["states"] = 1 + evidence.shows(stage)
            opens["kept"] = next((each.pieces for each in reversed(taken) if each.pieces), 0)
    return whole


def _looks(job: Job, here: Segment) -> Cost:
    """The vectors that the stages of a segment read, bucket by bucket: to judge, to ask, or row by row."""
    judging = [here.opener] if here.opener is not None and not isinstance(job.stage(here.opener), Measure) else []
    looking = [at for at in (*judging, *here.rows, here.closer) if at is not None]
    return closing.vectors(job.buckets, sum(_packs(job, job.stage(at), at) for at in looking))


def _packs(job: Job, stage: Stage, at: int) -> int:
    """Packs of answers that hold the vectors which stage `at` reads."""
    found = [segment for segment in (origin_of(job, name, at) for name in stage.reads) if segment is not None]
    return sum((storage.read_state(job.closing_file(each, CLOSED)) or {})["packs"] for each in found)


def _rounds(job: Job, here: Segment, stage: Group) -> list[closing.Asking]:
    """Every round, those that had no notes too."""
    found: list[tuple[int, int, closing.Asking]] = []
    for name in storage.list_names(storage.join(job.work, here.closing_folder)):
        if name.endswith(SETTLED):
            step, number = name.removesuffix(SETTLED).rsplit("-", 1)
            said = storage.read_state(job.closing_file(here, name)) or {}
            over = grouping.spread(job, here, step)
            asking = closing.Asking(over.slots, said["asked"], said["notes"], over.passes > 1 and int(number) > 0)
            found.append((stage.steps.index(step), int(number), asking))
    return [asking for *_, asking in sorted(found)]


def _taken(job: Job, here: Segment, number: int) -> list[Round]:
    """The rounds of a Reduce."""
    states = [storage.read_state(job.closing_file(here, f"{state_name(at)}.json")) or {} for at in range(number - 1)]
    return [Round(), *(Round(state["pieces"], state["asks"]) for state in states)]
