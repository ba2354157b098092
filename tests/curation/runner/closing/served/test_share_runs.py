"""Whole runs that ask a server, held against what the server has written down: figures, stops, two runs on one pool."""

import json
import signal
import time
from pathlib import Path

import pytest

from curation.runner.driver import curate
from curation.runner.ending.dry_run import dry_run
from curation.settings import CurateSettings
from pipeline.errors import Stopped
from tests.curation.runner.closing.test_generating import made, recipe, run
from tests.helpers import chat_server

PRICES = {"price_in": 1000.0, "price_out": 2000.0}


def asked(output) -> dict:
    [found] = json.loads(Path(output, "summary.json").read_text())["asked"]
    return found


@pytest.mark.exhaustive
def test_the_figures_are_those_of_the_server_through_a_kill_and_another_recipe_finds_all_of_it_in_the_pool(tmp_path):
    faults = ("http_500", "429", "bad_json", "closed", "half")
    with chat_server.running(tmp_path / "s", faults=faults, share=0.15, delay=0.1) as server:
        settings = recipe(tmp_path, server.url, budget={"money": 1e3, **PRICES}, records=200)
        first, end = run(tmp_path, settings), time.monotonic() + 90
        while len(server.answered()) < 40 and time.monotonic() < end:
            time.sleep(0.05)
        first.kill()
        first.wait()
        made(tmp_path, settings)
        made(tmp_path, settings)  # finished: nothing is counted again
        attempts, answered = sum(server.asked().values()), len(server.answered())
    found = asked(settings.output)
    mine = found["run"]
    assert found["inputs"] == answered and found["known"] == 0 and found["used"]["answers"] == answered
    assert mine["finished"] == mine["answers"] == answered and mine["tokens_in"] == 50 * answered
    assert attempts <= mine["attempts"] <= attempts + 16 and mine["sent_again"] == mine["attempts"] - answered
    assert {"http_500", "http_429"} == set(mine["failed"])
    assert {"bad_json", "half_an_answer", "connection_lost"} <= set(mine["unknown"])
    tokens_in, tokens_out = mine["tokens_in"] + mine["unknown_in"], mine["tokens_out"] + mine["unknown_out"]
    assert mine["money"] == pytest.approx((1000 * tokens_in + 2000 * tokens_out) / 1e6)
    assert mine["of_budget"] == {"money": pytest.approx(mine["money"] / 1e3)} and found["pool"] == mine

    gone = recipe(tmp_path, "http://127.0.0.1:9/v1", checks={"max_words": 30}, records=200)
    other = gone.model_copy(update={"output": str(tmp_path / "other")})
    made(tmp_path, other)
    again = asked(other.output)
    assert (again["inputs"], again["known"], again["used"]) == (answered, answered, found["used"])
    assert again["run"]["attempts"] == 0 and again["pool"]["attempts"] == mine["attempts"]


def test_a_server_that_counts_nothing_is_estimated_and_the_budget_ends_all_the_same(tmp_path):
    with chat_server.running(tmp_path / "s", uncounted=True) as server:
        with pytest.raises(Stopped, match="the budget is spent"):
            made(tmp_path, recipe(tmp_path, server.url, budget={"tokens": 30_000}))
        assert 0 < len(server.answered()) < 30
        settings = recipe(tmp_path, server.url)
        made(tmp_path, settings)
        number = len(server.answered())
    found = asked(settings.output)["run"]
    assert found["estimated"] == found["answers"] == number and found["tokens_in"] == 0 < found["estimated_in"]


def test_a_signal_ends_a_run_though_the_server_hangs_and_what_was_under_way_is_counted(tmp_path):
    with chat_server.running(tmp_path / "s", faults=["hang"], share=1.0) as server:
        limits = {"timeout_s": 3600, "in_flight": 8, "stop_after_s": 1.0}
        settings, end = recipe(tmp_path, server.url, limits=limits), time.monotonic() + 90
        process = run(tmp_path, settings)
        while sum(server.asked().values()) < 8 and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == 75
        assert sum(server.asked().values()) == 8
        mine = [json.loads(p.read_text()) for p in (tmp_path / "pool-out/columns").glob("*/accounts/*.json")]
        assert mine == []  # nothing is closed; the journal says what was sent
        with pytest.raises(Stopped, match="the budget is spent"):
            made(tmp_path, recipe(tmp_path, server.url, budget={"requests": 8}))
        assert sum(server.asked().values()) == 8
        small = recipe(tmp_path, server.url, budget={"requests": 12}, limits={"timeout_s": 0.5, "attempts": 1})
        with pytest.raises(Stopped, match="the budget is spent"):
            made(tmp_path, small)
        assert sum(server.asked().values()) == 12  # those that hang are billed, for all we know


def test_two_runs_on_one_pool_pay_for_one(tmp_path):
    with chat_server.running(tmp_path / "s", delay=0.1) as server:
        one = recipe(tmp_path, server.url, "one", records=200)
        two = recipe(tmp_path, server.url, "two", records=200, checks={"max_words": 30})
        processes = [run(tmp_path, each.model_copy(update={"pool": str(tmp_path / "pool")})) for each in (one, two)]
        assert [each.wait(timeout=200) for each in processes] == [0, 0]
        assert set(server.asked().values()) == {1}


@pytest.mark.parametrize("buckets", [1, 8])
def test_an_answer_that_pairs_share_is_counted_once_and_for_each_of_them(tmp_path, buckets):
    with chat_server.running(tmp_path / "s", for_good=["refusal", "length"], share=0.2) as server:
        settings = recipe(tmp_path, server.url).model_copy(update={"buckets": buckets})
        made(tmp_path, settings)
        number = len(server.answered())
    [stage] = [
        each for each in json.loads(Path(settings.output, "summary.json").read_text())["stages"] if each["others"]
    ]
    once = {name[5:]: n for name, n in stage["others"].items() if name.startswith("once:")}
    whole = {name: n for name, n in stage["others"].items() if not name.startswith("once:")}
    assert set(once) == set(whole) == {"answered", "refusal", "truncated"}
    assert sum(once.values()) == number < sum(whole.values()) == stage["pairs_in"]


def test_the_dry_run_knows_answers_of_inputs_that_lack_others(tmp_path):
    with chat_server.running(tmp_path / "s", delay=0.01) as server:
        with pytest.raises(Stopped):
            made(tmp_path, recipe(tmp_path, server.url, samples=3, budget={"requests": 20}))
        paid = len(server.answered())
        more = recipe(tmp_path, server.url, samples=3)
        [told] = dry_run(more, name="x", seed=0, quiet=True)
        assert paid == 20 and told["known"] == paid and (told["requests"] + paid) % 3 == 0
        assert told["spent"]["answers"] == paid
        made(tmp_path, more)
        assert len(server.answered()) == paid + told["requests"]
        after = CurateSettings.model_validate(json.loads(more.model_dump_json()) | {"output": str(tmp_path / "after")})
        [told] = dry_run(after, name="x", seed=0, quiet=True)
        assert (told["requests"], told["known"]) == (0, len(server.answered()))
        assert curate(after, name="x", seed=0, quiet=True).num_pairs
