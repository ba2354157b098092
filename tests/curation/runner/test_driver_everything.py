"""A recipe of every stage over every source: neither the cut of its inputs, nor buckets, workers, nodes, kills show."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages import STAGES
from tests.helpers import everything, small_crawl
from tests.helpers.forks import Forks
from tests.helpers.lanes import KILLS, sampled
from tests.helpers.places import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(sources, stages): written once, so that all runs name the same files."""
    folder = tmp_path_factory.mktemp("everything")
    return everything.write(folder / "in"), everything.stages(folder / "files")


def made(sources, stages, folder, **more):
    plain = everything.recipe(sources, stages, folder / "out", **more)
    manifest = curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    return manifest, small_crawl.outcome(folder / "out")


@pytest.fixture(scope="module")
def reference(place, tmp_path_factory):
    return made(*place, tmp_path_factory.mktemp("reference"))


def test_every_stage_has_something_to_do_and_leaves_something(reference):
    """Else the rest of this file would say nothing of it."""
    manifest, _ = reference
    counts = {stage.kind: stage for stage in manifest.stages}
    assert set(STAGES) <= set(counts) and manifest.num_pairs >= 12
    idle = [kind for kind, stage in counts.items() if not stage.pairs_in]
    assert idle == []
    takes = {kind for kind, stage in counts.items() if stage.drops or stage.caption_drops}
    assert takes >= {
        "opt_out", "block_list", "image_decode", "image_size", "exact_duplicates", "perceptual_duplicates",
        "caption_frequency", "top_fraction", "cluster_quota", "quota", "sample", "decontaminate", "balance",
    }  # fmt: skip


CUTS = [
    (3, 7, {"buckets": 16}),
    (1, 5, {"buckets": 1}),
    (7, None, {"buckets": 64}),
]


@pytest.mark.parametrize(("cut", "shuffled", "more"), sampled(CUTS, 0, timeout_s=900))
def test_neither_files_nor_order_nor_buckets_show(place, reference, tmp_path, cut, shuffled, more):
    _, stages = place
    manifest, outcome = made(everything.write(tmp_path / "in", cut, shuffled), stages, tmp_path, **more)
    assert manifest.digest() == reference[0].digest()
    assert outcome == reference[1]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("address", "workers"), [("local", 1), ("local", 2), ("processes", 3)])
def test_where_tasks_run_does_not_show(place, reference, tmp_path, address, workers):
    sources, stages = place
    manifest, outcome = made(sources, stages, tmp_path, ray={"address": address, "num_cpus": workers})
    assert manifest.digest() == reference[0].digest() and outcome == reference[1]


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("nodes", "changes"), [(1, ()), (3, ("kill", "add"))])
def test_nodes_that_are_lost_and_that_join_do_not_show(place, reference, tmp_path, nodes, changes):
    plain = everything.recipe(everything.write(tmp_path / "in", 7), place[1], tmp_path / "out", buckets=16)
    (tmp_path / "settings.json").write_text(json.dumps(plain))
    command = [sys.executable, "-m", "tests.helpers.cluster_child", str(tmp_path / "settings.json"), str(nodes)]
    done = subprocess.run([*command, *changes], cwd=ROOT, capture_output=True, text=True, timeout=800)
    said = [line for line in done.stdout.splitlines() if line.startswith(("said ", "late ", "did "))]
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert said == [*(f"did {change}" for change in changes), f"said {reference[0].digest()}"], done.stderr
    assert small_crawl.outcome(tmp_path / "out") == reference[1]


@pytest.mark.exhaustive
@pytest.mark.timeout(1500 + 60 * KILLS)
def test_kill_9_at_random_moments_does_not_show(place, reference, tmp_path, kills=KILLS):
    """Each trial is a whole run, killed up to ten times on its way."""
    sources, stages = place
    server, rng = Forks("tests.helpers.everything_preload"), random.Random(time.time())

    def settings(number: object):
        folder = tmp_path / str(number)
        folder.mkdir()
        plain = everything.recipe(sources, stages, folder / "out")
        (folder / "settings.json").write_text(json.dumps(plain))
        return folder

    began = time.monotonic()
    assert server.live(settings("trial") / "settings.json", None) == 0
    whole_s = time.monotonic() - began
    killed = trials = 0
    while killed < kills:
        folder, trials = settings(trials), trials + 1
        for _ in range(10):
            killed += server.live(folder / "settings.json", rng.uniform(0, whole_s / 4)) == -signal.SIGKILL
        assert server.live(folder / "settings.json", None) == 0
        assert small_crawl.outcome(folder / "out") == reference[1]
        assert trials < kills, f"only {killed} runs were killed in time"
    server.close()
    print(f"{killed} runs killed in {trials} trials, all of which came to {reference[0].digest()}")
