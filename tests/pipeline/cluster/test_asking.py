"""The plan is shown before anything is handed over, and a person at a terminal may say no."""

import io
import sys

import pytest

from pipeline.cluster import asking
from pipeline.cluster.schedulers import Request
from pipeline.errors import UsageError
from pipeline.recipe import load
from tests.helpers.tiny_run import write_recipe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(tmp_path, monkeypatch, answer: str | None, **more) -> str:
    """What is shown; `answer`: typed at a terminal, None: there is none."""
    monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Terminal(answer))
    shown = io.StringIO() if answer is None else Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    request = Request(("train",), 2, 0, {})
    try:
        asking.agreed(load(str(write_recipe(tmp_path))), request, **{"device": None, "yes": False, **more})
    finally:
        monkeypatch.undo()
    return shown.getvalue()


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_who_agrees_sees_the_plan_and_goes_on(tmp_path, monkeypatch, answer):
    shown = told(tmp_path, monkeypatch, answer)
    assert "tiny on 2 nodes of 1 x cpu" in shown and "time of a step" in shown and "submit it? [y/N]" in shown


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_who_does_not_agree_ends_it(tmp_path, monkeypatch, answer):
    with pytest.raises(UsageError, match="was not agreed to"):
        told(tmp_path, monkeypatch, answer)


def test_scripts_are_told_and_not_asked(tmp_path, monkeypatch):
    for answer, more in ((None, {}), ("", {"yes": True})):
        shown = told(tmp_path, monkeypatch, answer, **more)
        assert "time of a step" in shown and "submit it?" not in shown


def test_what_cannot_be_foretold_is_said_and_holds_nothing_back(tmp_path, monkeypatch):
    recipe = load(str(write_recipe(tmp_path)), ["train.model={name: local-dir:nowhere}"])
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    asking.agreed(recipe, Request(("train",), 1, 0, {}), None, yes=True)
    monkeypatch.undo()
    assert "not foretold" in shown.getvalue()
    with pytest.raises(UsageError):
        asking.agreed(load(str(write_recipe(tmp_path))), Request(("train",), 1, 0, {}), "abacus", yes=True)
