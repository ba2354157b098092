"""A funnel that does not come out at zero is an error of ours, and one that comes out at nothing says why."""

from types import SimpleNamespace

import pytest

from curation.books.ledger import Counts
from curation.runner.ending import funnel
from pipeline.errors import ClipmillError, DataError

JOB = SimpleNamespace(work="out/.work")


def stages(*between, **last):
    """Two that agree with each other: 10 pairs of 12 captions, then 6 of 7."""
    first = Counts("pool", "pool", 10, 10, 12, 0, 12)
    second = Counts("a", "rule", 10, 6, 12, 0, 7, {"small": 3, "odd": 1}, {"small": 4, "odd": 1})
    for name, value in last.items():
        setattr(second, name, value)
    return [first, *between, second]


def test_what_adds_up_passes():
    funnel.check(JOB, stages(), 6)


@pytest.mark.parametrize(
    ("changed", "left", "said"),
    [
        ({"pairs_out": 7}, 7, "a: 10 pairs in, 7 out and 4 dropped"),
        ({"captions_out": 8}, 6, "a: "),
        ({"pairs_in": 11, "drops": {"small": 5}}, 6, "pool gave 10 pairs, a took 11"),
        ({"captions_in": 13, "caption_drops": {"small": 6}}, 6, "pool gave 10 pairs, a took 10"),
        ({}, 5, "a gave 6 pairs, 5 are there"),
    ],
)
def test_what_does_not_is_an_error_of_ours_that_names_the_stage(changed, left, said):
    with pytest.raises(ClipmillError, match="does not add up") as fault:
        funnel.check(JOB, stages(**changed), left)
    assert said in fault.value.found and "remove out/.work" in fault.value.hint


def test_nothing_left_names_what_dropped_most_first_and_what_may_be_misspelt():
    gone = {"pairs_out": 0, "captions_out": 0, "drops": {"small": 3, "odd": 7}, "caption_drops": {"odd": 12}}
    with pytest.raises(DataError, match="no pair is left of 10; most went by a.odd 7, a.small 3") as fault:
        funnel.check(JOB, stages(**gone), 0)
    assert "loosen the stage" in fault.value.hint
    gone |= {"drops": {"small": 3, "no_value": 7}}
    with pytest.raises(DataError) as fault:
        funnel.check(JOB, stages(**gone), 0)
    assert "that stage `a` names" in fault.value.hint
