"""The lists of planted errors are of the code as it is; `make mutants` plants them and sees each one caught."""

import ast

import pytest

from tests.helpers.places import ROOT
from tests.mutants.plant import Mutant, caught_by, copied, main, mutants

EVERY = mutants()


def test_there_are_a_hundred_and_more_of_every_room() -> None:
    assert len({one.name for one in EVERY}) == len(EVERY) > 200
    assert {one.room for one in EVERY} == {"cores", "curation", "engine", "recipe", "run", "step", "terms"}


@pytest.mark.parametrize("mutant", EVERY, ids=lambda mutant: mutant.name)
def test_a_planted_error_changes_one_place_and_is_python(mutant: Mutant) -> None:
    before = (ROOT / mutant.file).read_text(encoding="utf-8")
    after = mutant.planted_in(before)
    ast.parse(after)
    assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
    for test in mutant.tests:
        assert (ROOT / test).exists(), f"{mutant.name}: there is no {test}"


@pytest.mark.slow
def test_an_error_is_caught_and_what_is_none_is_not(tmp_path, capsys) -> None:
    tree = copied(tmp_path)
    error = next(one for one in EVERY if one.file == "training/step/schedule.py")
    before = (tree / error.file).read_text()
    assert caught_by(error, tree).startswith("tests/training/step/test_schedule.py::test_")
    none = Mutant("room", "nothing", error.file, "(step + 1) / self", "(1 + step) / self", error.tests)
    assert caught_by(none, tree) == ""
    assert (tree / error.file).read_text() == before
    assert main(["no such words"]) == 0 and "0 of 0" in capsys.readouterr().out
