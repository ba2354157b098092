"""Runs that leave patches out: FLIP's two stages, and a masked view beside the whole picture."""

import shutil

import pytest

from tests.helpers.tiny_run import MODEL, metrics, train_here, write_recipe
from training.checkpoint.layout import step_name
from training.checkpoint.save import open_checkpoint
from training.checkpoint.tensors import TensorReader
from training.ranks.peers import Peers

FINE = {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "patch_size": 2}}  # sixteen patches
MASKED = {"loss": [{"kind": "softmax"}, {"kind": "masked_view", "share": 0.75, "weight": 0.5}],
          "companions": [{"kind": "momentum", "decay": 0.9}]}  # fmt: skip


def losses(output):
    rows = metrics(output)
    assert not any(row["skipped"] for row in rows)
    return [row["loss"] for row in rows]


def weights(output, step):
    reader = TensorReader(
        open_checkpoint(output / "checkpoints" / step_name(step), Peers.alone()).complete.tensor_files
    )
    return {name: reader.get(name) for name in reader.names() if name.startswith("param/")}


@pytest.mark.exhaustive
def test_flips_plan_drops_patches_and_then_tunes_on_all(tmp_path):
    """The preset is the stages written out; each stage is a run with and without dropping, and a restart in either goes
    on with it."""
    short = {"model": {"config": FINE}, "steps": 6, "checkpoint": {"every_steps": 1, "keep_last": 9},
             "schedule": {"kind": "constant"}}  # fmt: skip
    preset = {"kind": "flip", "patch_dropout": 0.5, "share": 0.67, "tuning_lr": 0.1}
    recipe = write_recipe(tmp_path, **short, preset=preset, output=str(tmp_path / "flip"))
    assert train_here(recipe, 1) == [""]
    rows = metrics(tmp_path / "flip")
    assert [row["step"] for row in rows] == list(range(6))
    assert [row["lr"] for row in rows] == pytest.approx([0.003] * 4 + [0.0003] * 2)
    for name, dropped, start, stop in (("first", 0.5, 0, 4), ("whole", 0.0, 0, 1), ("tuned", 0.5, 4, 6)):
        model = {"config": FINE, "patch_dropout": dropped}
        recipe = write_recipe(tmp_path, **{**short, "steps": stop, "model": model}, output=str(tmp_path / name))
        if start:  # goes on with dropping where the plan tunes without
            (tmp_path / name).mkdir()
            for kept in ("checkpoints", "saved.json", "metrics.jsonl"):
                (shutil.copytree if kept == "checkpoints" else shutil.copy)(
                    tmp_path / "first" / kept, tmp_path / name / kept
                )
        assert train_here(recipe, 1) == [""]
    assert losses(tmp_path / "first") == losses(tmp_path / "flip")[:4]
    assert abs(losses(tmp_path / "whole")[0] - losses(tmp_path / "flip")[0]) > 1e-4
    assert abs(losses(tmp_path / "tuned")[4] - losses(tmp_path / "flip")[4]) > 1e-4
    for step in (2, 5):
        shutil.copytree(tmp_path / "flip", tmp_path / f"from-{step}")
        for later in range(step + 1, 7):
            shutil.rmtree(tmp_path / f"from-{step}/checkpoints" / step_name(later))
        recipe = write_recipe(tmp_path, **short, preset=preset, output=str(tmp_path / f"from-{step}"))
        assert train_here(recipe, 2, "train.batch.chunk=3", "train.engine.zero_stage=2") == ["", ""]
        assert losses(tmp_path / f"from-{step}") == pytest.approx(losses(tmp_path / "flip"), abs=2e-5)
        for name, want in weights(tmp_path / "flip", 6).items():
            assert (weights(tmp_path / f"from-{step}", 6)[name] - want).abs().max() < 2e-4, name


def test_a_masked_view_is_the_same_in_any_chunk_and_world_and_after_a_restart(tmp_path):
    given = {"model": {"config": FINE}, "steps": 4, "checkpoint": {"every_steps": 2}, **MASKED}
    recipe = write_recipe(tmp_path, **given, output=str(tmp_path / "one"))
    assert train_here(recipe, 1, "train.batch.chunk=16", "train.engine.check_cache=true") == [""]
    recipe = write_recipe(tmp_path, **given, output=str(tmp_path / "two"))
    cut = ["train.batch.chunk=3", "train.engine.check_cache=true"]
    assert train_here(recipe, 2, "train.engine.zero_stage=2", *cut) == ["", ""]
    shutil.rmtree(tmp_path / "two/checkpoints" / step_name(4))
    assert train_here(recipe, 1, *cut) == [""]
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=2e-5)
    for row in one:
        assert row["loss"] == pytest.approx(row["softmax/loss"] + 0.5 * row["masked_view/loss"], rel=1e-5)
        assert row["masked_view/cosine"] == pytest.approx(1 - row["masked_view/loss"] / 2, rel=1e-5)
    # At the first step the momentum towers are the towers: what a view lacks to the whole picture is its patches.
    assert 1e-3 < one[0]["masked_view/loss"] < 2 and two[0]["masked_view/loss"] == pytest.approx(
        one[0]["masked_view/loss"], abs=1e-5
    )
