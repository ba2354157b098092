"""Cut off at every write in turn, a stage that asks loses no answer and counts no attempt twice."""

import asyncio
from contextlib import asynccontextmanager

import pyarrow as pa
import pytest

from curation.generation.backends.backend import Later
from curation.generation.backends.openai_server import OpenAiServer
from curation.generation.limits import Amount
from curation.generation.request import Answer
from curation.methods.units import KEY, kept_schema
from curation.pool import accounts, journal
from curation.pool.columns import Columns
from curation.runner.closing import generating
from curation.runner.closing.served import share
from curation.runner.closing.served.fold import fold, spent_before
from curation.runner.closing.served.kept import is_whole
from curation.stage import IMAGE, Context
from curation.stages.generate import GenerateText
from tests.helpers.lanes import sampled

MANY, IN_FLIGHT = 12, 4


class Cut(Exception):
    """The process is dead: every later write of it fails, too."""


class Server:
    """Every third request is refused once, every fourth lost once; it counts what it was asked and what it bills."""

    def __init__(self):
        self.asked, self.billed, self.seen = 0, 0, dict[tuple[str, int], int]()

    async def ask(self, request):
        number, self.asked = int(request.key, 16), self.asked + 1
        times = self.seen[request.key, request.sample] = self.seen.get((request.key, request.sample), 0) + 1
        await asyncio.sleep(0)
        if times == 1 and number % 3 == 0:
            raise Later("http_503", 0.0)
        self.billed += 1
        if times == 1 and number % 4 == 1:
            raise Later("timeout", 0.0, may_cost=True)
        return Answer(f"a text for {request.key}", tokens_in=5, tokens_out=5)


@pytest.fixture
def world(tmp_path, monkeypatch):
    server, state = Server(), {"writes": 0, "cut": None}

    @asynccontextmanager
    async def opened(self, most, timeout_s):
        yield server

    def cut_off(real):
        def write(*args, **more):
            state["writes"] += 1
            if state["cut"] is not None and state["writes"] > state["cut"]:
                raise Cut
            return real(*args, **more)

        return write

    monkeypatch.setattr(OpenAiServer, "session", opened)
    for owner, name in (
        (journal.Journal, "add"), (journal, "remove"), (accounts.storage, "publish_state"),
        (accounts.storage, "remove"), (Columns, "publish"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, cut_off(getattr(owner, name)))
    monkeypatch.setattr(share, "_KEPT_ROWS", 1)
    monkeypatch.setattr(share, "_LOOK_S", 0)
    monkeypatch.setattr(share, "inputs_of", lambda stage, rows, reader: rows.drop_columns([KEY]))
    return server, state, str(tmp_path)


def stage_of(samples):
    limits = {"in_flight": IN_FLIGHT, "attempts": 9}
    return GenerateText(
        name="x", prompt="builtin:caption", backend=OpenAiServer(url="http://host/v1", model="m", max_tokens=9),
        limits=limits, samples=samples,
    )  # fmt: skip


def run(stage, folder, cut, state, left=None):
    """A start of the stage over what is not answered yet; whether it went through."""
    columns = Columns(folder, stage.kept_digest(), kept_schema(stage), 1)
    state.update(writes=0, cut=cut)
    try:
        fold(stage, columns)
        rows = columns.read(0, 1)
        known = set(rows.filter(is_whole(stage, rows)).column(KEY).to_pylist())
        keys = [key for number in range(MANY) if (key := f"{number:032x}") not in known]
        todo = pa.table({KEY: pa.array(keys, pa.string()), IMAGE: pa.array([b"x"] * len(keys), pa.large_binary())})
        told = generating.ask(stage, Context(), todo, columns, None, share.Part(left or Amount(1e9, 1e9, 1e9)))
        fold(stage, columns)
        return told["left"] == 0
    except Cut:
        return False
    finally:
        state["cut"] = None


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("cut", sampled(range(0, 60, 4), *range(0, 15, 2)))
def test_cut_off_at_any_write_again_and_again(world, cut, samples):
    server, state, folder = world
    stage, kills = stage_of(samples), 0
    while not run(stage, folder, cut + kills, state):  # later each time, so that it comes to an end
        kills += 1
        columns = Columns(folder, stage.kept_digest(), kept_schema(stage), 1)
        tally = accounts.total(columns.folder)
        assert tally.answers + sum(tally.unknown.values()) >= server.billed  # never less than what is billed
        assert kills < 200
    tally = accounts.total(
        columns.folder if kills else Columns(folder, stage.kept_digest(), kept_schema(stage), 1).folder
    )
    assert tally.finished == tally.answers == tally.answered == MANY * samples  # each answer was paid and counted once
    assert (tally.tokens_in, tally.tokens_out) == (5 * MANY * samples, 5 * MANY * samples)
    assert server.asked <= tally.attempts <= server.asked + IN_FLIGHT * kills
    spent = spent_before(stage, Columns(folder, stage.kept_digest(), kept_schema(stage), 1))
    assert spent.requests == tally.answers + sum(tally.unknown.values()) >= server.billed
    if not kills:
        lost = sum(number % 3 != 0 and number % 4 == 1 for number in range(MANY)) * samples
        assert tally.unknown == {"timeout": lost} and tally.attempts == server.asked


@pytest.mark.parametrize("cut", [5, 8])
def test_what_was_under_way_when_a_process_died_is_told_and_counted_once(world, cut):
    _, state, folder = world
    stage = stage_of(1)
    columns = Columns(folder, stage.kept_digest(), kept_schema(stage), 1)
    assert fold(stage, columns) == 0
    assert not run(stage, folder, cut, state)
    lost = fold(stage, columns)
    assert 0 < lost == accounts.total(columns.folder).unknown.get(accounts.CUT_OFF, 0) <= IN_FLIGHT
    assert fold(stage, columns) == 0


def test_whoever_takes_a_share_over_from_a_dead_process_has_no_more_to_spend_than_that_left(world):
    server, state, folder = world
    stage = stage_of(1)
    columns = Columns(folder, stage.kept_digest(), kept_schema(stage), 1)
    keys = [f"{number:032x}" for number in range(MANY)]
    todo = pa.table({KEY: keys, IMAGE: pa.array([b"x"] * MANY, pa.large_binary())})
    part, left = share.Part(Amount(6, 1e9, 1e9), "round-3"), MANY
    for cut in (9, 14, 10**6, 10**6):
        state.update(writes=0, cut=cut)
        try:
            told = generating.ask(stage, Context(), todo, columns, None, part, again=cut != 9)
            left = told["left"]
        except Cut:
            pass
    assert 0 < server.billed <= 6 and left > 0 and told["spent"][0] <= 6
