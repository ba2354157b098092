"""Small crawls curated in this process, with a count of the tasks that read inputs."""

import json
from collections import Counter
from pathlib import Path

import pytest

from curation.runner import tasks
from curation.runner.driver import curate
from curation.runner.inputs import reading
from curation.settings import CurateSettings
from pipeline.contract.manifest import Manifest
from tests.helpers import small_crawl


def settings_of(folder: Path, paths: list[str], **more) -> CurateSettings:
    folder.mkdir(exist_ok=True)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", buckets=2, **more)
    return CurateSettings.model_validate(plain)


def made(settings: CurateSettings) -> Manifest:
    return curate(settings, name="t", seed=3, quiet=True)


def cut(settings: CurateSettings, size: int) -> CurateSettings:
    """In ranges that no recipe may ask for, so that small files have many."""
    sources = [source.model_copy(update={"range_bytes": size}) for source in settings.sources]
    return settings.model_copy(update={"sources": sources})


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often the tasks that read inputs are called."""
    count: Counter = Counter()

    def counted(home, name: str):
        real = getattr(home, name)

        def call(job, *args):
            count[name] += 1
            count["from a place"] += name == "ingest_range" and args[-1] is not None
            return real(job, *args)

        return call

    for name in ("hash_pieces", "ingest", "ingest_range"):
        monkeypatch.setattr(reading, name, counted(reading, name))
    monkeypatch.setattr(tasks, "segment", counted(tasks, "segment"))
    return count


def job_digest(folder: Path) -> str:
    return json.loads((folder / "out/_clipmill.json").read_text())["job_digest"]
