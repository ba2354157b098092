"""A job runs the tasks, writes the files and opens the packs and tables that the formulae say."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from curation.runner import cluster, costs, driver, exchange
from curation.runner.closing import grouping, measuring, reducing
from curation.settings import CurateSettings
from curation.stage import Group, Measure, Reduce
from curation.table import packs
from pipeline import storage
from pipeline.storage import files
from tests.helpers import small_crawl


@pytest.fixture
def seen(monkeypatch):
    """What is counted while a job runs; by the kind of file, those of other rooms (pool, emit) left out."""
    counted = Counter()
    told = {}
    run, replace, opened, table = cluster.Inline.run, os.replace, packs.read_slots, storage.read_parquet

    def counting_run(self, calls, *more):
        for call, result in run(self, calls, *more):
            if call.function.__module__.startswith(
                ("curation.runner.closing", "curation.runner.tasks", "curation.runner.exchange")
            ):
                counted["task", call.function.__name__] += 1
            yield call, result

    def counting_replace(source, target):
        place = Path(target)
        worked = place.parent.parent.name == "_work" and place.parent.name[0].isdigit()
        counted["file"] += worked or place.parent.name == "claims" or "columns" in place.parts
        replace(source, target)

    def counting_open(url, first, stop):
        counted["pack"] += "runs-" not in url
        return opened(url, first, stop)

    def counting_table(url, *more, **others):
        counted["table"] += 1
        return table(url, *more, **others)

    monkeypatch.setattr(cluster.Inline, "run", counting_run)
    monkeypatch.setattr(files.os, "replace", counting_replace)
    monkeypatch.setattr(packs, "read_slots", counting_open)
    monkeypatch.setattr(storage, "read_parquet", counting_table)
    real_emit = driver.Driver._emit

    def before_emit(self, *args):  # what follows is not counted here
        told.update(counted)
        told["job"] = self.job
        told["units"] = self._told
        return real_emit(self, *args)

    monkeypatch.setattr(driver.Driver, "_emit", before_emit)
    return told


def closed(folder: Path, job, segment) -> dict:
    return json.loads((folder / "_work" / segment.closing_folder / "closed.json").read_text())


def expected(folder: Path, job, units, calls: Counter) -> costs.Cost:
    """By the formulae, from what the states say of notes, inputs and rounds."""
    whole, told, state = costs.Cost(), 0, False
    for segment in job.segments:
        last = segment.closer is not None
        whole += costs.segment(job.buckets, is_first=not segment.index, is_closed=last, told=told, state=state)
        told, state = 0, False
        if not last:
            continue
        stage, said = job.stage(segment.closer), closed(folder, job, segment)
        asked = units[segment.index]
        if isinstance(stage, Measure):
            inputs = sum(asked[bucket]["inputs"] for bucket in range(job.buckets))
            whole += costs.measure(job.buckets, inputs, 0, calls["task", "share"], 0, of_images=False)
            told = said["packs"]
        elif isinstance(stage, Group):
            first = sum(asked[bucket]["notes"] for bucket in range(job.buckets))
            rounds = _rounds(folder, segment, stage, first)
            ctx = job.context(segment.closer)
            by = [job.buckets * (1 << (stage.notes_per_pair(step, ctx) - 1).bit_length()) for step, _, _ in rounds]
            whole += costs.group(job.buckets, [(s, *each[1:]) for s, each in zip(by, rounds, strict=True)])
            told = sum(number for _, _, number, _ in said["rounds"])
        elif isinstance(stage, Reduce):
            whole += costs.reduce(job.buckets, said["rounds"])
            state = True
    return whole


def _rounds(folder: Path, segment, stage, first: int) -> list[tuple[str, int, int]]:
    """(step, buckets asked, notes) of every round, those that had none too."""
    found: dict[tuple[int, str, int], list[int]] = {}
    times = {}
    for path in (folder / "_work" / segment.closing_folder).glob("*-notes-*.json"):
        if "merged" in path.name:
            continue
        step, number, _, _ = path.stem.split("-")
        found.setdefault((step, int(number)), []).append(json.loads(path.read_text())["notes"])
        times[step, int(number)] = min(times.get((step, int(number)), 1e99), path.stat().st_mtime_ns)
    ordered = sorted(found, key=lambda key: times[key])
    return [(stage.steps[0], 0, first), *((key[0], len(found[key]), sum(found[key])) for key in ordered)]


@pytest.mark.parametrize(("buckets", "fan", "tree"), [(4, 256, 64), (8, 3, 2)])
def test_tasks_files_packs_and_tables_are_those_of_the_formulae(tmp_path, monkeypatch, seen, buckets, fan, tree):
    monkeypatch.setattr(exchange, "FAN", fan)
    monkeypatch.setattr(reducing, "FAN", tree)
    monkeypatch.setattr(exchange, "READ", 3)
    monkeypatch.setattr(grouping, "ROWS", 40)
    monkeypatch.setattr(measuring, "RUN_ROWS", 50)
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(), 2, None)
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json", buckets=buckets, keep=64)
    near = [{"kind": "perceptual_duplicates"}, {"kind": "caption_frequency", "max_pairs": 3}]
    plain["stages"] = [*plain["stages"][:-2], *near, *plain["stages"][-2:]]
    plain["stages"][-1] = {"kind": "balance", "target_pairs": 9}
    driver.curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)
    calls = Counter({key: number for key, number in seen.items() if isinstance(key, tuple)})
    wanted = expected(tmp_path / "out", seen["job"], seen["units"], calls)
    freed = calls["task", "free"] + calls["task", "recheck"] + calls["task", "ingest"] + calls["task", "ingest_range"]
    assert sum(calls.values()) - freed == wanted.tasks
    assert seen["pack"] == wanted.packs
    assert seen["table"] == wanted.tables
    assert seen["file"] == wanted.files
