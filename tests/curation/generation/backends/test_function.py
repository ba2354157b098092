"""A function is called in batches and believed only where it says what was asked; what it raises is counted."""

import importlib
import sys

import pytest

from curation.generation.backends.function import FunctionBackend
from curation.generation.request import Answer, Request
from curation.runner.calls import pool_of
from curation.settings import PlacementSettings
from curation.stage import Context
from curation.stages.generate import GenerateText
from pipeline.errors import RecipeError

MODULE = """
import numpy as np

calls = []


def told(rows, says=None, word="a"):
    calls.append(len(rows))
    return [says.get(row["n"], [f"{word} {row['n']}"]) if says else [f"{word} {row['n']}"] for row in rows]


def raises(rows, at=(), kind="ValueError"):
    calls.append(len(rows))
    for row in rows:
        if row["n"] in at:
            raise getattr(__builtins__, kind, None) or __builtins__[kind]("broken " * 3)
    return [[f"a {row['n']}"] for row in rows]


def short(rows):
    return [["a"]] * (len(rows) - 1) or [["a"]]


def long(rows):
    return [["a"]] * (len(rows) + 1)


def yields(rows):
    for row in rows:
        yield [f"a {row['n']}"]


async def later(rows):
    return [[f"a {row['n']}"] for row in rows]


async def streams(rows):
    for row in rows:
        yield f"a {row['n']}"


def spoils(rows):
    found = [[f"a {row['n']}"] for row in rows]
    for row in rows:
        row.clear()
    if len(rows) > 1:
        raise ValueError("rows are gone")
    return found


def value(rows, of):
    return eval(of)


class Captioner:
    def __call__(self, rows):
        return [[f"a {row['n']}"] for row in rows]


captioner = Captioner()
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "our_function.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("our_function")
    sys.modules.pop("our_function", None)


def backend(name: str, **more) -> FunctionBackend:
    return FunctionBackend(function=f"our_function:{name}", reads=("n",), **more)


def asked(found: FunctionBackend, numbers, batch=100, ask=None) -> list[list[Answer]]:
    ask = ask or found.open(Context())
    requests = [Request((), f"{n:032x}", row={"n": n}) for n in numbers]
    return [each for at in range(0, len(requests), batch) for each in ask(requests[at : at + batch])]


PLAIN = [[Answer(f"a {n}")] for n in range(7)]


@pytest.mark.parametrize("name", ["told", "yields", "later", "streams", "captioner"])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_plain_async_and_generating_functions_say_the_same_in_batches_of_any_size(module, name, batch):
    assert asked(backend(name), range(7), batch) == PLAIN


def test_it_is_given_whole_batches_and_its_params(module):
    assert asked(backend("told", params={"word": "the"}), [3], 4) == [[Answer("the 3")]]
    module.calls.clear()
    asked(backend("told"), range(7), 3)
    assert module.calls == [3, 3, 1]


@pytest.mark.parametrize(
    ("says", "answers"),
    [
        ("'one text'", [Answer("one text")]), ("['x', 'y']", [Answer("x"), Answer("y")]), ("None", []), ("[]", []),
        ("('x',)", [Answer("x")]), ("{'text': 'x', 'score': 0.5}", [Answer("x", score=0.5)]),
        ("[{'text': 'x', 'score': np.float32(0.5)}, 'y']", [Answer("x", score=0.5), Answer("y")]),
        ("[{'text': 'x'}]", [Answer("x")]), ("{'failed': 'refusal'}", [Answer(failed="refusal")]),
        ("'half \\ud83d'", [Answer("half ?")]), ("''", [Answer("")]), ("{'failed': ''}", [Answer(failed="failed")]),
    ],
)  # fmt: skip
def test_what_it_may_say_of_an_input(module, says, answers):
    assert asked(backend("value", params={"of": f"[{says}]"}), [0]) == [answers]


@pytest.mark.parametrize(
    "of",
    [
        "[3]", "[[3]]", "[['x', None]]", "[b'x']", "[[b'x']]", "[{'caption': 'x'}]", "[{'text': 3}]", "[float('nan')]",
        "[{'text': 'x', 'score': 'high'}]", "[{'text': 'x', 'score': float('nan')}]", "[{1, 2}]", "[object()]", "'x'",
        "{'text': 'x'}", "3", "None", "b'x'", "[['x']] * 2", "[]",
    ],
)  # fmt: skip
def test_what_is_no_answer_ends_the_run_and_is_shown(module, of):
    with pytest.raises(RecipeError, match="our_function:value (said|returned|gave)") as error:
        asked(backend("value", params={"of": of}), [0])
    assert error.value.where == "generate.backend.function" and error.value.hint


@pytest.mark.parametrize("name", ["short", "long"])
def test_another_number_of_answers_than_inputs_ends_the_run_at_once(module, name):
    with pytest.raises(RecipeError, match=r"gave (3|5) answers for 4 inputs"):
        asked(backend(name), range(4))


@pytest.mark.parametrize("batch", [1, 2, 5, 20])
def test_inputs_that_raise_are_counted_by_what_they_raise_and_cost_no_other_its_answer(module, batch):
    found = asked(backend("raises", params={"at": [3, 4, 11]}), range(20), batch)
    failed = Answer(failed="raised_ValueError", passing=True)
    assert found == [[failed] if n in (3, 4, 11) else [Answer(f"a {n}")] for n in range(20)]


@pytest.mark.parametrize("kind", ["KeyError", "MemoryError", "ZeroDivisionError", "UnicodeError"])
def test_the_reason_names_the_kind_of_error(module, kind):
    assert asked(backend("raises", params={"at": [0], "kind": kind}), [0, 1])[0][0].failed == f"raised_{kind}"


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_a_function_that_always_raises_ends_the_run(module, batch):
    with pytest.raises(ValueError, match="broken"):
        asked(backend("raises", params={"at": list(range(40))}), range(40), batch)


def test_eight_that_raise_far_from_each_other_end_nothing(module):
    found = asked(backend("raises", params={"at": list(range(0, 40, 2))}), range(40), 8)
    assert sum(bool(each[0].failed) for each in found) == 20


def test_with_errors_stop_the_first_one_ends_the_run_and_the_answers_are_the_same_ones(module):
    with pytest.raises(ValueError, match="broken"):
        asked(backend("raises", params={"at": [3]}, errors="stop"), range(8))
    assert backend("raises", errors="stop").identity() == backend("raises").identity()


def test_ctrl_c_and_exits_are_no_answers(module):
    with pytest.raises(KeyboardInterrupt):
        asked(backend("raises", params={"at": [1], "kind": "KeyboardInterrupt"}), range(3))


def test_a_function_that_spoils_what_it_is_given_spoils_nothing_of_ours(module):
    assert asked(backend("spoils"), range(3)) == PLAIN[:3]


@pytest.mark.parametrize(
    ("name", "said"), [("gone", "gone"), ("number", "is a int"), ("told:x", ""), ("", ""), ("Captioner", "")]
)
def test_what_cannot_be_called_with_a_list_is_refused_before_any_work(module, name, said):
    with pytest.raises((RecipeError, ValueError), match=said):
        backend(name).check("curate.stages.0.backend")


@pytest.mark.parametrize("params", [{"wrod": "x"}, {"rows": []}])
def test_params_that_it_does_not_take_are_refused_before_any_work(module, params):
    with pytest.raises(RecipeError, match=r"curate\.stages\.0\.backend\.params"):
        backend("told", params=params).check("curate.stages.0.backend")
    backend("told", params={"word": "x"}).check("curate.stages.0.backend")


def test_a_module_that_fails_when_it_is_imported_is_refused_with_its_words(tmp_path, monkeypatch):
    (tmp_path / "fails_on_import.py").write_text("raise OSError('no weights here')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError, match="no weights here"):
        FunctionBackend(function="fails_on_import:f").check("curate.stages.0.backend")


def test_a_function_that_wants_a_gpu_gets_processes_of_its_own_and_others_none(module):
    stage = GenerateText(name="x", backend=backend("told"))
    wants, plain = PlacementSettings(gpus=1, batch=8), PlacementSettings()
    assert pool_of(stage.kept_digest(), wants, stage.actors) is not None and wants.gpus == 1
    assert pool_of(stage.kept_digest(), plain, stage.actors) is None
    other = GenerateText(name="x", backend=backend("yields"))
    assert pool_of(stage.kept_digest(), wants, False) != pool_of(other.kept_digest(), wants, False)
