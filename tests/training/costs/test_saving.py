"""Checkpoints foretold, against real ones."""

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.devices import cluster_of
from pipeline.recipe import load
from tests.helpers.tiny_run import train_here, write_recipe
from training.costs import saving
from training.costs.model import Group, Weights
from training.costs.stage import beside, shape_of
from training.settings import TrainSettings

HEAD = {"kind": "label_head", "classes": 500}
CASES: list[dict[str, Any]] = [
    {},
    {"companions": [{"kind": "ema"}], "optimizer": {"kind": "lion"}},
    {"companions": [{"kind": "momentum", "queue": 16}], "loss": [{"kind": "softmax", "queue": "momentum"}, HEAD]},
    {
        "companions": [{"kind": "momentum"}],
        "loss": [{"kind": "softmax"}, {"kind": "feature_distill", "teacher": "momentum", "project": True}],
    },
]


@pytest.mark.parametrize("given", CASES, ids=["alone", "average", "queue and label head", "a map"])
def test_a_checkpoint_has_the_size_that_was_foretold(tmp_path: Path, given: dict[str, Any]) -> None:
    recipe = write_recipe(tmp_path, steps=2, **given)
    assert train_here(recipe, 1) == [""]
    written = sum(path.stat().st_size for path in (tmp_path / "train/checkpoints/step-00000002").iterdir())
    settings = load(str(recipe)).section("train", TrainSettings)
    shape = shape_of(settings, 1)
    assert saving.checkpoint_bytes(shape.weights, beside(shape, 1)) == pytest.approx(written, rel=0.01)


def settings_of(**checkpoint: Any) -> TrainSettings:
    plain = {"data": ["x"], "output": "y", "steps": 1000, "model": {"name": "ViT-B-32"}, "batch": {"global": 64}}
    return TrainSettings.model_validate({**plain, "checkpoint": checkpoint, "engine": {"zero_stage": 1}})


WEIGHTS = Weights((Group((10**9,), 2),))


def test_the_interval_is_youngs_with_the_cost_that_was_reckoned() -> None:
    """12 GB: gathered over 4 GB/s of ring, copied at 6, written by 2 nodes at 2 GB/s each."""
    cluster = cluster_of("h100", 2, 8, network_gbit=8 * 8 * 4)
    size = 12 * 10**9 + saving._STATE
    cost = 2 * size * 15 / 16 / (0.6 * 4e9) + size / 6e9 + size / 2 / 2e9
    found = saving.saves(settings_of(failures_per_gpu_day=0.1), cluster, WEIGHTS, saving.Beside(), 50_000.0)
    assert found.bytes == size and found.seconds == pytest.approx(cost)
    assert found.every_s == pytest.approx(math.sqrt(2 * cost * 86_400 / (0.1 * 16)))
    assert found.number == 1 + int(50_000 // found.every_s)
    assert found.failures == pytest.approx(0.1 * 16 * 50_000 / 86_400)
    assert found.lost_s == pytest.approx(found.failures * found.every_s / 2)
    assert found.kept_bytes == 4 * size


def test_steps_and_minutes_count_where_they_are_given() -> None:
    cluster = cluster_of()
    by_steps = saving.saves(settings_of(every_steps=100), cluster, WEIGHTS, saving.Beside(), 5000.0)
    assert by_steps.every_s is None and by_steps.number == 1 + 10
    by_minutes = saving.saves(settings_of(every_minutes=10), cluster, WEIGHTS, saving.Beside(), 5000.0)
    assert by_minutes.every_s == 600 and by_minutes.number == 1 + 8
    both = saving.saves(settings_of(every_minutes=10, every_steps=10), cluster, WEIGHTS, saving.Beside(), 5000.0)
    assert both.number == 1 + 100
