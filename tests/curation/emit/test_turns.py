"""Two runs on one output that nothing can lock: whatever is cut off or held up, no manifest describes other bytes.

Run A and run B make other shards of the same pairs. Cut off: killed before one of its writes, and perhaps started
again. Held up: one of its writes lands only when the other run has ended.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.runner import driver
from curation.runner.driver import curate
from curation.runner.ending import summing
from curation.settings import CurateSettings
from pipeline.errors import StorageError
from tests.helpers import object_store, small_crawl
from tests.helpers.object_store import Cut, lie, restore, snapshot, watched

OUTPUT = "two-runs/out"
NEVER = 10**9
PARTS = 8


class Runs:
    """Both runs, brought to where the first file of the dataset is about to be made."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        paths = small_crawl.write(folder / "in", small_crawl.records(12))
        plain = small_crawl.recipe(paths, folder, folder / "e.json", stages=[{"kind": "image_decode"}], buckets=1)
        plain |= {"output": f"memory://{OUTPUT}", "pool": str(folder / "pool")}
        self.settings = {
            name: CurateSettings.model_validate({**plain, "emit": {"pairs_per_shard": most}})
            for name, most in (("A", 4), ("B", 100))
        }
        empty = snapshot()
        self.whole = {}
        for name in self.settings:
            restore(empty)
            self.run(name)
            self.whole[name] = object_store.files(OUTPUT)["manifest.json"]
        restore(empty)
        for name in self.settings:
            with patch.context() as broken:
                broken.setattr(driver.shards, "slices", None)
                with pytest.raises(TypeError):
                    self.run(name)
        self.start = snapshot()
        self.writes = {}
        for name in self.settings:
            restore(self.start)
            names: list[str] = []
            with watched(lambda _, at, names=names: names.append(at)):
                self.run(name)
            self.writes[name] = len(names)

    def run(self, name: str) -> None:
        curate(self.settings[name], name="t", seed=0, quiet=True)

    def cut(self, name: str, at: int) -> None:
        """Runs until before the write `at`; the oracle looks after every write."""

        def before(number: int, _: str) -> None:
            if number == at:
                raise Cut

        def after(written: str) -> None:
            assert not lie(OUTPUT), f"{name}, after {written}: {lie(OUTPUT)}"

        with contextlib.suppress(Cut), watched(before, after):
            self.run(name)

    def ends_well(self, name: str) -> None:
        """The same command makes the whole dataset, whatever lies there."""
        self.cut(name, NEVER)
        assert object_store.files(OUTPUT)["manifest.json"] == self.whole[name] and not lie(OUTPUT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[Runs]:
    before = snapshot()
    with pytest.MonkeyPatch.context() as patch:
        if Path("/dev/shm").is_dir():
            patch.setattr(tempfile, "tempdir", "/dev/shm")  # thousands of small files
        patch.setattr(summing.thumbnails, "batches", lambda rows: [])
        yield Runs(tmp_path_factory.mktemp("runs"), patch)
    restore(before)


def cut_after_each_other(runs: Runs, places: range, every: int) -> None:
    """A is cut off before each of the writes `places`, B then before every so manieth."""
    for a in places:
        restore(runs.start)
        runs.cut("A", a)
        between = snapshot()
        for b in range(a % every, runs.writes["B"] + 1, every):
            restore(between)
            runs.cut("B", b)
            runs.ends_well("A")


def held_up(runs: Runs, a: int, b: int) -> None:
    """The write `a` of A lands after B has come and was cut off before its write `b`."""
    restore(runs.start)

    def before(number: int, _: str) -> None:
        if number == a:
            runs.cut("B", b)

    told = ""
    try:
        with watched(before):
            runs.run("A")
    except StorageError as error:
        told = str(error)
    assert not lie(OUTPUT), (a, b, lie(OUTPUT))
    assert not told or "has taken over" in told or "run the same command again" in told, told


def test_cut_off_one_after_the_other_neither_publishes_what_the_other_wrote(runs):
    cut_after_each_other(runs, range(runs.writes["A"] + 1), runs.writes["B"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_cut_off_anywhere_neither_publishes_what_the_other_wrote(runs, part):
    cut_after_each_other(runs, range(part, runs.writes["A"] + 1, PARTS), 1)


def test_a_run_held_up_while_another_came_and_ended_gives_way(runs):
    for a in range(runs.writes["A"]):
        held_up(runs, a, NEVER)
        runs.ends_well("B")


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_held_up_while_another_came_and_was_cut_off_gives_way(runs, part):
    for a in range(part, runs.writes["A"], PARTS):
        for b in range(runs.writes["B"]):
            held_up(runs, a, b)
        runs.ends_well("A")


def test_the_run_before_is_told_who_took_over(runs, caplog):
    restore(runs.start)

    def before(_: int, name: str) -> None:
        if name.endswith("shard-000001.tar"):
            runs.cut("B", NEVER)

    with watched(before), pytest.raises(StorageError, match="another run.*has taken over; one run at a time\nhint: "):
        runs.run("A")
    assert "has not ended here; this run takes over" in caplog.text
