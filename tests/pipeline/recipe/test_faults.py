"""What is wrong with a setting that may be of several sorts is told by its own path, of the sort it is nearest to."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from pipeline.recipe.faults import explained
from pipeline.settings import Settings, one_of

Side = Annotated[int, Field(ge=1)]


class Point(Settings):
    at: float
    value: float


class Term(Settings):
    kind: Literal["term"] = "term"
    tile: Side | tuple[Side, Side] | Literal["auto"] = 1
    weight: Annotated[float, Field(ge=0)] | list[Point] = 1.0
    points: list[Point] | tuple[Side, Side] = (1, 1)
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def _in_order(self) -> "Term":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Other(Settings):
    kind: Literal["other"] = "other"


class Root(Settings):
    kind: Literal["root"] = "root"
    a: Side = 1
    b: Side = 1


class Work(Settings):
    root: one_of({"root": Root, "other": Other}, "root") = Root()
    terms: tuple[Annotated[Term | Other, Field(discriminator="kind")], ...] = Field((), min_length=1)


@pytest.mark.parametrize(
    ("given", "where", "found", "expected"),
    [
        ({"tile": 0}, "tile", "found 0", "input should be greater than or equal to 1"),
        ({"tile": [4, 0]}, "tile.1", "found 0", "input should be greater than or equal to 1"),
        ({"tile": [1, 2, 3]}, "tile", "found [1, 2, 3]", "list should have at most 2 items after validation, not 3"),
        ({"tile": "all"}, "tile", "found 'all'", "or a valid list or 'auto'"),
        ({"weight": -1}, "weight", "found -1", "greater than or equal to 0"),
        ({"weight": [{"at": 0}]}, "weight.0.value", "is missing", "no default"),
        ({"weight": [{"at": 0, "value": "x"}]}, "weight.0.value", "found 'x'", "valid number"),
        ({"weight": {}}, "weight", "found {}", "valid number or a valid list"),
        ({"points": [4, 0]}, "points.1", "found 0", "greater than or equal to 1"),
        ({"points": [4, "x"]}, "points.0", "found 4", "valid dictionary"),
        ({"low": 10}, "", "found {'kind': 'term', 'low': 10}", "low is above high"),
        ({"tile": 0, "weight": "x"}, "tile", "found 0 (and 1 more)", "greater than or equal to 1"),
    ],
)
def test_the_sort_that_is_nearest_says_what_is_wrong(given, where, found, expected):
    section = {"terms": [{"kind": "term", **given}]}
    with pytest.raises(ValidationError) as fault:
        Work.model_validate(section)
    said = explained(fault.value, "r.yaml", "train", section, Work)
    assert said.where == ".".join(["r.yaml: train.terms.0", *filter(None, [where])])
    assert said.found == found and expected in said.expected.lower()


def test_faults_beside_each_other_are_counted_where_a_kind_is_the_default():
    section = {"root": {"a": 0, "b": 0}, "terms": [{"kind": "other"}]}
    with pytest.raises(ValidationError) as fault:
        Work.model_validate(section)
    said = explained(fault.value, "r.yaml", "train", section, Work)
    assert (said.where, said.found) == ("r.yaml: train.root.a", "found 0 (and 1 more)")
