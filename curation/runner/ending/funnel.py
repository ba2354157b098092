"""What the counts of all stages come to: they add up, and something is left."""

from collections.abc import Sequence

from curation.books.ledger import Counts
from curation.job import Job
from pipeline.errors import ClipmillError, DataError

_NOT_THERE = ("no_value", "no_group")
"""Reasons of pairs that have nothing where a stage looks: a name that is misspelt drops all of them."""


def check(job: Job, stages: Sequence[Counts], left: int) -> None:
    """`left`: pairs behind the last stage. An error of ours where the funnel does not come out at zero; DataError where
    it comes out at nothing."""
    faults = [f"{each.name}: {each.faults()}" for each in stages if each.faults()]
    for before, after in zip(stages, stages[1:], strict=False):
        if (before.pairs_out, before.captions_out) != (after.pairs_in, after.captions_in):
            faults.append(f"{before.name} gave {before.pairs_out} pairs, {after.name} took {after.pairs_in}")
    if stages[-1].pairs_out != left:
        faults.append(f"{stages[-1].name} gave {stages[-1].pairs_out} pairs, {left} are there")
    if faults:
        hint = f"remove {job.work} and run the same command again; if it stays, report it"
        raise ClipmillError("curate", f"the funnel does not add up: {'; '.join(faults)}", "", hint)
    if not left:
        raise _nothing_left(stages)


def _nothing_left(stages: Sequence[Counts]) -> DataError:
    drops = [(number, f"{each.name}.{reason}") for each in stages for reason, number in each.drops.items()]
    most = ", ".join(f"{reason} {number}" for number, reason in sorted(drops, reverse=True)[:4])
    found = f"no pair is left of {stages[0].pairs_in}" + (f"; most went by {most}" if most else "")
    hint = "loosen the stage that drops most, or give other inputs"
    by, _, reason = max(drops)[1].partition(".") if drops else ("", "", "")
    if reason in _NOT_THERE:
        hint = f"look whether the inputs have the column and the values that stage `{by}` names, as it spells them"
    return DataError("curate", found, "at least one pair", hint)
