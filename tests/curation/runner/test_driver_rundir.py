"""A curation that belongs to a run directory: its heartbeat, a stop that is asked for there, and its fence."""

import json
from pathlib import Path

import pytest

from curation.emit import swap
from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.cluster.rundir import RunDir, feed, lock
from pipeline.errors import Fenced, Stopped
from tests.helpers import small_crawl


@pytest.fixture
def settings(tmp_path) -> CurateSettings:
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(12), files=3)
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "e.json", stages=[{"kind": "image_decode"}])
    return CurateSettings.model_validate({**plain, "ray": {"address": "inline"}})


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.control.mkdir(parents=True)
    lock.take(run, 1, "a")
    monkeypatch.setenv("CLIPMILL_RUN_DIR", str(run.path))
    monkeypatch.setenv("CLIPMILL_RUN_ATTEMPT", "1")
    monkeypatch.setattr(feed, "LOOK_S", 0.0)
    return run


def made(settings: CurateSettings):
    return curate(settings, name="t", seed=0, quiet=True)


def manifest(settings: CurateSettings) -> Path:
    return Path(settings.output) / "manifest.json"


def test_it_tells_that_it_lives(settings, run):
    made(settings)
    found = json.loads(run.heartbeat.read_text())
    assert (
        (found["stage"], found["attempt"]) == ("curate", 1) and found["phase"] and 0 < found["step"] <= found["steps"]
    )


def test_a_stop_that_is_asked_for_keeps_what_is_done(settings, run):
    (run.control / "stop").touch()
    with pytest.raises(Stopped):
        made(settings)
    assert not manifest(settings).exists()
    (run.control / "stop").unlink()
    made(settings)
    assert manifest(settings).exists()


def test_an_attempt_that_was_overtaken_publishes_nothing(settings, run):
    lock.take(run, 2, "b")
    with pytest.raises((Fenced, Stopped)):
        made(settings)
    assert not manifest(settings).exists() and not list(Path(settings.output).glob("shard-*"))


def test_the_manifest_itself_is_fenced(settings, run, monkeypatch):
    """Overtaken after the last look, when all but the manifest is in its place."""
    look_again = swap._look_again
    monkeypatch.setattr(swap, "_look_again", lambda *args: (look_again(*args), lock.take(run, 2, "b")))
    with pytest.raises(Fenced, match="attempt 2"):
        made(settings)
    assert not manifest(settings).exists()
