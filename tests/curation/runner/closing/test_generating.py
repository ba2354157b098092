"""Asking a server: all is answered, nothing is paid twice whatever is killed, and a budget is never overrun."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from curation.generation.asking import plain_of
from curation.generation.request import Answer
from curation.methods.units import kept_schema
from curation.pool.columns import Columns
from curation.pool.journal import Journal
from curation.runner.closing.served.fold import fold, spent_before
from curation.runner.closing.served.kept import is_whole, rows_of
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages.generate import GenerateText
from pipeline.contract.manifest import Manifest
from pipeline.errors import RecipeError, Stopped
from tests.helpers import chat_server, small_crawl
from tests.helpers.lanes import sampled
from tests.helpers.places import ROOT

MANY = 96


def recipe(folder: Path, url: str, name: str = "out", *, records: int = MANY, **stage) -> CurateSettings:
    paths = small_crawl.write(folder / "crawl", small_crawl.records(records))
    backend = {"kind": "openai", "url": url, "model": "tiny-vlm", "max_tokens": 40} | stage.pop("backend", {})
    limits = {"timeout_s": 60, "in_flight": 16, "attempts": 12} | stage.pop("limits", {})
    asked = {"kind": "generate", "name": "recap", "prompt": "builtin:caption", "backend": backend, "limits": limits}
    return CurateSettings.model_validate({
        "sources": [{"kind": "warc", "paths": paths}], "stages": [asked | stage],
        "output": str(folder / name), "pool": str(folder / f"pool-{name}"), "ray": {"address": "inline"},
    })  # fmt: skip


def made(folder: Path, settings: CurateSettings) -> Manifest:
    return curate(settings, name="x", seed=0, quiet=True)


def captions(output: str) -> list[dict]:
    import pyarrow.parquet as pq

    found = []
    for path in sorted(Path(output, "index").glob("*.parquet")):
        found += [json.loads(row) if isinstance(row, str) else row for row in pq.read_table(path).to_pylist()]
    return found


def counts(output: str) -> dict[str, int]:
    stages = json.loads(Path(output, "summary.json").read_text())["stages"]
    return next(each["others"] for each in stages if each["kind"] == "generate")


def test_every_fault_that_passes_is_asked_again_until_it_is_answered_and_the_bytes_are_those_of_a_good_server(tmp_path):
    with chat_server.running(tmp_path / "bad", faults=chat_server.FAULTS, share=0.12) as bad:
        # Long enough for a busy machine to take an answer that is there, as one given up on is asked for again.
        first = made(tmp_path, recipe(tmp_path, bad.url, "one", limits={"timeout_s": 4}))
        assert set(bad.answered().values()) == {1} and len(bad.answered()) > 40
        assert set(bad.asked()) == set(bad.answered()) and sum(bad.asked().values()) > len(bad.answered())
    with chat_server.running(tmp_path / "good") as good:
        again = made(tmp_path, recipe(tmp_path, good.url, "two"))
        assert again.digest() == first.digest() and good.answered() == bad.answered()
    assert counts(str(tmp_path / "one"))["answered"] >= len(good.answered())


def test_what_no_retry_helps_is_counted_by_its_reason_and_the_pair_stays(tmp_path):
    with chat_server.running(tmp_path / "s", for_good=chat_server.FOR_GOOD, share=0.12) as server:
        manifest = made(tmp_path, recipe(tmp_path, server.url))
        assert set(server.asked().values()) == {1}
    found = counts(str(tmp_path / "out"))
    assert {"http_400", "wrong_model", "truncated", "filtered", "refusal", "empty", "answered"} <= set(found)
    with chat_server.running(tmp_path / "t") as server:
        assert made(tmp_path, recipe(tmp_path, server.url, "all")).num_pairs == manifest.num_pairs


def test_other_checks_other_limits_and_another_url_ask_nobody(tmp_path):
    with chat_server.running(tmp_path / "s") as server:
        made(tmp_path, recipe(tmp_path, server.url))
        asked = sum(server.asked().values())
        strict = recipe(tmp_path, server.url, checks={"min_words": 50}, limits={"in_flight": 3})
        made(tmp_path, strict.model_copy(update={"output": str(tmp_path / "strict")}))
        assert sum(server.asked().values()) == asked and counts(str(tmp_path / "strict"))["too_short"] >= asked
    gone = recipe(tmp_path, "http://127.0.0.1:9/v1", checks={"max_words": 3})
    made(tmp_path, gone.model_copy(update={"output": str(tmp_path / "gone")}))
    assert counts(str(tmp_path / "gone"))["too_long"] >= asked


def test_more_samples_pay_only_for_those_that_are_new(tmp_path):
    with chat_server.running(tmp_path / "s") as server:
        made(tmp_path, recipe(tmp_path, server.url))
        one = len(server.answered())
        more = recipe(tmp_path, server.url, samples=3).model_copy(update={"output": str(tmp_path / "more")})
        made(tmp_path, more)
        assert len(server.answered()) == 3 * one and set(server.asked().values()) == {1}
    assert counts(str(tmp_path / "more"))["answered"] >= 3 * one


@pytest.mark.parametrize(("status", "said"), [("http_404", "check url"), ("http_403", "may use this model")])
def test_a_server_that_can_answer_nothing_ends_the_run_at_once_and_says_what_to_type(tmp_path, status, said):
    with chat_server.running(tmp_path / "s", faults=[status], share=1.0) as server:
        with pytest.raises(RecipeError, match=said):
            made(tmp_path, recipe(tmp_path, server.url))
        assert sum(server.asked().values()) <= 32


def test_the_key_comes_from_the_environment_and_stands_in_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-very-secret")
    with chat_server.running(tmp_path / "s", key="sk-very-secret") as server:
        settings = recipe(tmp_path, server.url, backend={"api_key_env": "OUR_KEY"})
        made(tmp_path, settings)
        monkeypatch.delenv("OUR_KEY")
        with pytest.raises(RecipeError, match="set OUR_KEY to a key"):
            made(tmp_path, recipe(tmp_path, server.url, "two", backend={"api_key_env": "OUR_KEY"}))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "says.json"]
    assert not [path for path in files if b"sk-very-secret" in path.read_bytes()]


def test_a_server_that_is_silent_for_long_ends_the_run_which_goes_on_later(tmp_path):
    with chat_server.running(tmp_path / "s", faults=["http_503"] * 1, share=1.0) as server:
        port = server.port
    settings = recipe(tmp_path, f"http://127.0.0.1:{port}/v1", limits={"patience_s": 1.0})
    with pytest.raises(Stopped, match="answered nothing for"):
        made(tmp_path, settings)
    with chat_server.running(tmp_path / "t", port=port) as server:
        made(tmp_path, settings)
        assert set(server.answered().values()) == {1}


@pytest.mark.parametrize(
    ("budget", "most"),
    [
        ({"requests": 20}, 20),
        ({"tokens": 5000}, 5000 // 60),
        ({"money": 0.4, "price_in": 100.0, "price_out": 500.0}, 40),
    ],
)
def test_a_budget_is_never_overrun_and_a_larger_one_goes_on_where_it_ended(tmp_path, budget, most):
    with chat_server.running(tmp_path / "s") as server:
        with pytest.raises(Stopped, match="the budget is spent"):
            made(tmp_path, recipe(tmp_path, server.url, budget=budget))
        first = len(server.answered())
        assert 0 < first <= most and set(server.asked().values()) == {1}
        with pytest.raises(Stopped, match="the budget is spent"):
            made(tmp_path, recipe(tmp_path, server.url, budget=budget))
        assert len(server.answered()) == first
        made(tmp_path, recipe(tmp_path, server.url))
        assert set(server.asked().values()) == {1}


def test_as_many_requests_are_under_way_as_the_limit_says_and_no_more(tmp_path):
    with chat_server.running(tmp_path / "s", delay=0.1) as server:
        made(tmp_path, recipe(tmp_path, server.url, limits={"in_flight": 24}))
        assert server.most_at_a_time() == 24


def run(folder: Path, settings: CurateSettings) -> subprocess.Popen:
    plain = json.loads(settings.model_dump_json())
    path = folder / f"{Path(settings.output).name}.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "seed": 0, "curate": plain}))
    command = [sys.executable, "-m", "pipeline.cli", "curate", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed_at_random(tmp_path: Path, kills: int, seed: int = 0, *, server_too: bool = False) -> None:
    """Repeats are at most what was under way at each kill; what the journal had is never asked again."""
    draws, in_flight = random.Random(seed), 16
    with chat_server.running(tmp_path / "s", delay=0.15) as server:
        settings = recipe(tmp_path, server.url, limits={"in_flight": in_flight, "patience_s": 60}, records=400)
        done = server_kills = 0
        while done < kills:
            process = run(tmp_path, settings)
            try:
                if server_too and draws.random() < 0.5:
                    time.sleep(draws.uniform(1.2, 2.5))
                    server.restart()
                    server_kills += 1
                process.wait(timeout=draws.uniform(1.2, 3.5))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            done += 1
            if process.returncode == 0:
                break
        assert run(tmp_path, settings).wait(timeout=240) == 0
        asked, answered = server.asked(), server.answered()
        assert set(asked) == set(answered)
        assert sum(answered.values()) - len(answered) <= in_flight * (done + server_kills)
    with chat_server.running(tmp_path / "t") as server:
        whole = recipe(tmp_path, server.url, "whole", records=400)
        assert made(tmp_path, whole).digest() == Manifest.load(settings.output).digest()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_killed_at_random_nothing_that_was_answered_is_asked_again(tmp_path):
    killed_at_random(tmp_path, 3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("trial", range(8))
def test_killed_more_than_fifty_times(tmp_path, trial):
    killed_at_random(tmp_path, 8, seed=trial + 1, server_too=True)


@pytest.mark.slow
def test_a_server_that_dies_half_way_and_comes_back_is_gone_on_with(tmp_path):
    with chat_server.running(tmp_path / "s", delay=0.1) as server:
        port = server.port
        settings = recipe(tmp_path, server.url, limits={"patience_s": 60, "attempts": 40}, records=200)
        process = run(tmp_path, settings)
        end = time.monotonic() + 60
        while len(server.answered()) < 40 and time.monotonic() < end:
            time.sleep(0.05)
        first = server.answered()
    with chat_server.running(tmp_path / "t", port=port) as server:
        assert process.wait(timeout=120) == 0
        second = server.answered()
    assert len(set(first) & set(second)) <= 16 and max(first.values()) == max(second.values()) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("actors", sampled([1, 2], 1))
def test_on_ray_one_or_two_processes_ask_each_thing_once_and_the_bytes_are_the_same(tmp_path, actors):
    with chat_server.running(tmp_path / "s", faults=["429_after", "http_500"], share=0.2, delay=0.02) as server:
        alone = made(tmp_path, recipe(tmp_path, server.url, "alone"))
        asked = server.answered()
        plain = json.loads(recipe(tmp_path, server.url, "ray").model_dump_json())
        plain |= {"ray": {"address": "local", "num_cpus": 2}, "placement": {"generate": {"actors": actors}}}
        both = made(tmp_path, CurateSettings.model_validate(plain))
        assert both.digest() == alone.digest()
        assert server.answered() == asked + asked and server.most_at_a_time() <= 16


def _asking(folder: Path) -> set[int]:
    """The processes that hold a journal below `folder` open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            place = os.readlink(link)
            if place.startswith(str(folder)) and "/journal/" in place:
                found.add(int(link.parts[2]))
    return found


@pytest.mark.exhaustive
def test_workers_on_ray_that_die_are_gone_on_for_and_nothing_answered_is_asked_again(tmp_path):
    kills = 0
    with chat_server.running(tmp_path / "s", delay=0.2) as server:
        plain = json.loads(recipe(tmp_path, server.url, "ray", records=400).model_dump_json())
        plain |= {"ray": {"address": "local", "num_cpus": 2}, "placement": {"generate": {"actors": 2}}}
        process = run(tmp_path, CurateSettings.model_validate(plain))
        end = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < end:
            for worker in _asking(tmp_path) if len(server.answered()) > 60 * (kills + 1) and kills < 3 else ():
                os.kill(worker, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.1)
        assert process.wait(timeout=60) == 0 and kills >= 2
        asked, answered = server.asked(), server.answered()
        assert set(asked) == set(answered)
        assert sum(answered.values()) - len(answered) <= 8 * kills  # of two that ask, each has eight under way
        assert sum(asked.values()) - len(asked) <= 8 * kills
    with chat_server.running(tmp_path / "t") as server:
        whole = recipe(tmp_path, server.url, "whole", records=400)
        assert made(tmp_path, whole).digest() == Manifest.load(plain["output"]).digest()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_recipe_recaption_gives_every_picture_its_caption_though_the_server_is_as_bad_as_they_come(tmp_path):
    bad = {"faults": ("429", "429_after", "http_500", "half", "bad_json", "closed", "hang"), "share": 0.05,
           "for_good": ("http_400", "wrong_model", "length", "refusal"), "delay": 0.03}  # fmt: skip
    with chat_server.running(tmp_path / "s", **bad) as server:
        env = {"CHAT_URL": server.url, "CHAT_MODEL": "tiny-vlm"}
        command = [sys.executable, "-m", "pipeline.cli", "curate", "recaption", f"curate.output={tmp_path / 'out'}"]
        command += ["curate.stages.8.limits.timeout_s=2"]
        first = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=-3, stderr=-3)
        end = time.monotonic() + 90
        while len(server.answered()) < 200 and time.monotonic() < end:
            time.sleep(0.05)
        first.kill()
        first.wait()
        assert subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True).returncode == 0
        assert sum(server.answered().values()) - len(server.answered()) <= 32
    found = counts(str(tmp_path / "out"))
    assert found["answered"] > 500 and {"http_400", "wrong_model", "truncated", "refusal"} <= set(found)
    page = (tmp_path / "out/report.html").read_text()
    assert "Generated captions" in page and "rewrite:fused" in page


def _kept(folder: Path, **settings) -> tuple[GenerateText, Columns]:
    backend = {"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"}
    stage = GenerateText(name="x", prompt="builtin:caption", backend=backend, **settings)
    return stage, Columns(str(folder), stage.kept_digest(), kept_schema(stage), 1)


def _left_behind(columns: Columns, *lines: dict) -> None:
    """What a killed writer leaves."""
    dead = Journal(columns.folder)
    dead.add(lines)
    dead.close(remove=False)


def test_what_was_asked_again_and_answered_before_a_kill_takes_the_place_of_the_failure(tmp_path):
    stage, columns = _kept(tmp_path, ask_again=1)
    keys, good = [f"{n:032x}" for n in range(40)], plain_of(Answer("a cat", tokens_in=50, tokens_out=10))
    failed = plain_of(Answer(failed="http_503", passing=True))
    for key in keys:
        columns.publish(rows_of(stage, [(key, [failed])], 0))
    _left_behind(columns, *({"key": key, "sample": 0, "answer": good} for key in keys))
    assert fold(stage, columns) == 0
    rows = columns.read(0, 1)
    assert [row[0]["text"] for row in rows.column("answers").to_pylist()] == ["a cat"] * 40
    assert is_whole(stage, rows).to_pylist() == [True] * 40


def test_answers_of_inputs_that_lack_others_count_into_what_was_spent(tmp_path):
    stage, columns = _kept(tmp_path, samples=2)
    good = plain_of(Answer("a cat", tokens_in=50, tokens_out=10))
    _left_behind(
        columns,
        {"sent": "0" * 32, "sample": 0, "try": 0, "most": [70, 40]},
        {"sent": "0" * 32, "sample": 1, "try": 1, "most": [70, 40]},
        {"key": "0" * 32, "sample": 0, "answer": good, "try": 0},
    )
    for _ in range(3):  # however often it is started
        assert spent_before(stage, columns)[:2] == (2, 60 + 110)
        fold(stage, columns)
    assert columns.read(0, 1).num_rows == 0
