"""The lanes of the suite: what runs with every change, and what `make exhaustive` runs besides."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import settings

KILLS = int(os.environ.get("CLIPMILL_KILLS", "30"))
"""How often a test of the exhaustive lane kills what it kills at random moments; `CLIPMILL_KILLS=200` takes minutes."""


def sampled(cases: Iterable[Any], *kept: int, timeout_s: int | None = None) -> list[Any]:
    """The cases to parametrise by: those at the places `kept` in the default lane, the others in the exhaustive one."""
    marks = [pytest.mark.exhaustive, *([pytest.mark.timeout(timeout_s)] if timeout_s else [])]
    found = list(cases)
    assert kept and max(kept) < len(found), "a claim keeps a case in the default lane"
    return [case if at in kept else _rest(case, marks) for at, case in enumerate(found)]


def _rest(case: Any, marks: list[Any]) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks)


def examples(most: int) -> settings:
    """For a test of hypothesis whose examples are dear or many: a fifth of `most`, all in the exhaustive lane."""
    return settings(max_examples=max(10, most * settings.default.max_examples // 200))


@contextlib.contextmanager
def told(case: str) -> Iterator[None]:
    """What fails in it says which case it was, where one test goes through many."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {case}")
        raise
