"""Notes of a Group go when their round is settled; a job that is cut off anywhere goes on from what came of them."""

import json
from pathlib import Path

import pytest

from curation.emit import swap
from curation.runner import exchange
from curation.runner.closing import grouping, pieces
from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import small_crawl

BUCKETS = 8


def run(folder: Path) -> None:
    plain = small_crawl.recipe([str(folder / "in" / "*.gz")], folder / "out", folder / "e.json", buckets=BUCKETS)
    at = [stage["kind"] for stage in plain["stages"]].index("caption_frequency")
    plain["stages"].insert(at, {"kind": "perceptual_duplicates"})
    curate(CurateSettings.model_validate(json.loads(json.dumps(plain))), name="t", seed=3, quiet=True)


def write(folder: Path) -> None:
    small_crawl.write(folder / "in", small_crawl.records(36), 2)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """In one pass."""
    folder = tmp_path_factory.mktemp("reference")
    write(folder)
    run(folder)
    return small_crawl.outcome(folder / "out")


@pytest.fixture
def in_passes(monkeypatch):
    monkeypatch.setattr(grouping, "FEW", 1)
    monkeypatch.setattr(grouping, "ROWS", 40)


class Cut(BaseException):
    pass


def cut_off(folder: Path, monkeypatch, home, name: str, calls: int) -> None:
    left, real = [calls], getattr(home, name)

    def dying(*args, **keywords):
        if not left[0]:
            raise Cut
        left[0] -= 1
        return real(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, dying)
        with pytest.raises(Cut):
            run(folder)


def counting(monkeypatch, name: str) -> list[tuple]:
    calls, real = [], getattr(grouping, name)

    def counted(job, index, *args):
        calls.append(args)
        return real(job, index, *args)

    monkeypatch.setattr(grouping, name, counted)
    return calls


def notes_in(folder: Path) -> list[Path]:
    return list((folder / "out" / "_work").rglob("*-notes-*"))


def test_settled_rounds_leave_no_notes_and_are_not_asked_again(reference, tmp_path, monkeypatch, in_passes):
    write(tmp_path)
    surveyed = counting(monkeypatch, "survey")
    cut_off(tmp_path, monkeypatch, swap, "_swap", 0)
    assert {args[1] for args in surveyed if args[0] == "compare"} == set(range(grouping.PASSES))
    assert notes_in(tmp_path) == []
    settled = list((tmp_path / "out" / "_work").rglob("*-settled.json"))
    assert len(settled) > grouping.PASSES
    for path in (tmp_path / "out" / "_work").rglob("closed.json"):
        path.unlink()
    surveyed.clear()
    again = counting(monkeypatch, "settle")
    run(tmp_path)
    assert (surveyed, again) == ([], [])
    assert small_crawl.outcome(tmp_path / "out") == reference


@pytest.mark.parametrize("fan", [3, 512])
def test_notes_settled_a_few_at_a_time_come_to_the_same(reference, tmp_path, monkeypatch, fan):
    write(tmp_path)
    monkeypatch.setattr(exchange, "FAN", fan)
    monkeypatch.setattr(grouping, "AT_ONCE", 3)
    settled, real = [], grouping._settled
    monkeypatch.setattr(grouping, "_settled", lambda *args: settled.append(args[-1].num_rows) or real(*args))
    run(tmp_path)
    assert sum(rows > 0 for rows in settled) > 60
    assert small_crawl.outcome(tmp_path / "out") == reference


@pytest.mark.parametrize(
    ("home", "name", "calls"),
    [(grouping, "survey", 30), (grouping, "settle", 5), (grouping, "_free", 3), (pieces, "remove", 2)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_job_cut_off_between_rounds_ends_the_same_and_clears_up(
    reference, tmp_path, monkeypatch, in_passes, home, name, calls
):
    write(tmp_path)
    cut_off(tmp_path, monkeypatch, home, name, calls)
    assert notes_in(tmp_path) != [], "cut off in the middle of a round"
    cut_off(tmp_path, monkeypatch, swap, "_swap", 0)
    assert notes_in(tmp_path) == []
    run(tmp_path)
    assert small_crawl.outcome(tmp_path / "out") == reference


def test_a_settled_round_whose_results_are_gone_is_gone_through_again(reference, tmp_path, monkeypatch, in_passes):
    write(tmp_path)
    cut_off(tmp_path, monkeypatch, swap, "_swap", 0)
    work = tmp_path / "out" / "_work"
    for path in (*work.rglob("closed.json"), *work.rglob("compare-2-told-*"), *work.rglob("look-0-told-*")):
        path.unlink()
    run(tmp_path)
    assert small_crawl.outcome(tmp_path / "out") == reference


@pytest.mark.parametrize("each", [1, 3, 48, 1000])
@pytest.mark.parametrize("buckets", [1 << at for at in range(0, 17, 2)])
def test_notes_are_spread_over_no_more_slots_than_full_buckets_have_runs(buckets, each):
    over = grouping.spread_of(buckets, each, is_first=False)
    slots = over.slots * over.passes
    assert slots & (slots - 1) == 0 and over.passes in (1, grouping.PASSES)
    rows = buckets * grouping.ROWS * each
    assert slots <= min(buckets, 256) or rows / slots > grouping.ROWS / 2, "a slot is worth its place"
    assert rows / slots <= 2 * exchange.MOST * grouping.ROWS, "a slot is no more than two runs"
    assert grouping.spread_of(buckets, each, is_first=True) == (slots, 1)
