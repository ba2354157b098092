"""An answer that is durable stays so: in a journal or in the columns, at every moment, however a share ends."""

import asyncio
import time
from contextlib import asynccontextmanager

import pyarrow as pa
import pytest

from curation.generation.backends.openai_server import OpenAiServer
from curation.generation.limits import ENDLESS
from curation.generation.request import Answer
from curation.methods.units import KEY, kept_schema
from curation.pool import journal
from curation.pool.columns import Columns
from curation.runner.closing import generating
from curation.runner.closing.served import share
from curation.runner.closing.served.fold import fold
from curation.stage import IMAGE, Context
from curation.stages.generate import GenerateText
from pipeline.errors import RecipeError

MANY = 300


class Session:
    """Answers in its turn of the loop; from the `wrong`th request on, no request can work."""

    def __init__(self, wrong: int) -> None:
        self.asked, self.wrong = 0, wrong

    async def ask(self, request):
        self.asked += 1
        number = self.asked
        await asyncio.sleep(0.0005 * (number % 5))
        if number >= self.wrong:
            raise RecipeError("generate.backend", "the key was taken back", "a key")
        return Answer(f"a text for {request.key}", tokens_in=5, tokens_out=5)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """(stage, columns, ask(wrong) -> what is told): every moment looked at, each answer kept as soon as it is there."""
    said: dict[str, int] = {}
    backend = OpenAiServer(url="http://host/v1", model="m")
    limits = {"in_flight": 32}
    stage = GenerateText(name="x", prompt="builtin:caption", backend=backend, limits=limits)
    columns = Columns(str(tmp_path), stage.kept_digest(), kept_schema(stage), 1)
    session = Session(10**9)

    @asynccontextmanager
    async def opened(self, most, timeout_s):
        yield session

    real = journal.Journal.add

    def add(self, lines):
        lines = list(lines)
        real(self, lines)
        said.update((line["key"], 1) for line in lines if "answer" in line)
        time.sleep(0.002)  # they are durable, and nobody knows yet

    monkeypatch.setattr(OpenAiServer, "session", opened)
    monkeypatch.setattr(journal.Journal, "add", add)
    monkeypatch.setattr(share, "_KEPT_ROWS", 1)
    monkeypatch.setattr(share, "_LOOK_S", 0)
    monkeypatch.setattr(share, "inputs_of", lambda stage, rows, reader: rows.drop_columns([KEY]))

    def there() -> set[str]:
        found = set(columns.read(0, 1).column(KEY).to_pylist())
        for name in journal.names(columns.folder):
            found |= {line["key"] for line in journal.lines_of(columns.folder, name) if "answer" in line}
        return found

    real_close = journal.Journal.close

    def close(self, *, remove):
        before = set(said)
        real_close(self, remove=remove)
        assert before <= there(), f"{len(before - there())} answers that were durable are gone"

    monkeypatch.setattr(journal.Journal, "close", close)

    def ask(wrong=10**9):
        session.wrong = wrong
        keys = [f"{number:032x}" for number in range(MANY)]
        todo = pa.table({KEY: keys, IMAGE: pa.array([b"x"] * MANY, pa.large_binary())})
        return generating.ask(stage, Context(), todo, columns, None, share.Part(ENDLESS))

    return stage, columns, ask, said, there


@pytest.mark.parametrize("turn", range(3))
def test_moving_answers_into_the_columns_loses_none(asked, turn):
    stage, columns, ask, said, _ = asked
    assert ask()["left"] == 0
    assert len(said) == MANY == columns.read(0, 1).num_rows and not journal.names(columns.folder)


@pytest.mark.parametrize("wrong", [40, 150, 299])
def test_a_share_that_ends_in_an_error_keeps_what_was_answered(asked, monkeypatch, wrong):
    stage, columns, ask, said, there = asked
    monkeypatch.setattr(share, "_KEPT_ROWS", 10**6)  # so that there is something to move at the end
    with pytest.raises(RecipeError):
        ask(wrong)
    assert set(said) <= there()
    fold(stage, columns)
    assert set(said) == set(columns.read(0, 1).column(KEY).to_pylist())
