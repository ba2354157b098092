"""The lists of planted errors are of the code as it is; `make mutants` plants them and sees each one caught."""

import ast

import pytest

from tests.helpers.places import ROOT
from tests.mutants.chance import chances, drawn
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
def test_an_error_is_caught_and_what_is_none_is_not(tmp_path, capsys, monkeypatch) -> None:
    tree = copied(tmp_path)
    error = next(one for one in EVERY if one.file == "training/step/schedule.py")
    before = (tree / error.file).read_text()
    assert caught_by(error, tree).startswith("tests/training/step/test_schedule.py::test_")
    none = Mutant("room", "nothing", error.file, "(step + 1) / self", "(1 + step) / self", error.tests)
    assert caught_by(none, tree) == ""
    assert (tree / error.file).read_text() == before
    for name in ("OMP_NUM_THREADS", "DS_ACCELERATOR", "PYTHONDONTWRITEBYTECODE", "TRITON_INTERPRET"):
        monkeypatch.setenv(name, "")  # it sets them: afterwards they are as they were
    assert main(["no such words"]) == 0 and "0 of 0" in capsys.readouterr().out


def test_what_chance_turns_is_python_and_something_else() -> None:
    head = 'def f(a, b):\n    """Not a + b."""\n'
    source = head + "    if not a < b or é(b) is None:\n        g(a)\n    return min(a, b) - 1\n"
    found = {(source.encode()[start:stop].decode().strip(), new.strip()) for start, stop, new, _ in chances(source)}
    assert found == {
        ("not a < b", "bool(a < b)"), ("<", "<="), ("or", "and"), ("is", "is not"), ("g(a)", "pass"), ("min", "max"),
        ("-", "+"),
    }  # fmt: skip
    for path in (ROOT / "curation/stages/kmeans.py", ROOT / "training/rows.py", ROOT / "pipeline/storage/files.py"):
        before = path.read_text(encoding="utf-8")
        assert drawn(path, 20, 3) == drawn(path, 20, 3) != drawn(path, 20, 4)
        for one in drawn(path, 20, 3):
            assert ast.dump(ast.parse(one.planted_in(before))) != ast.dump(ast.parse(before)), one.lost
            assert one.tests and all((ROOT / test).exists() for test in one.tests)
