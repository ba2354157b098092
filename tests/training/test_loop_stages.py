"""Runs in stages: sizes, locks, batches and optimizers change between them; resuming inside any of them is exact."""

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.recipe import load
from tests.helpers.lanes import sampled
from tests.helpers.tiny_run import metrics, train_here, write_recipe
from training.checkpoint.layout import step_name
from training.checkpoint.save import open_checkpoint
from training.checkpoint.tensors import TensorReader
from training.export import export
from training.ranks.peers import Peers
from training.replay import verify
from training.settings import TrainSettings

STAGES = [
    {"until": 4, "model": {"image_size": 4, "context_length": 6}, "batch": {"global": 8}},
    {"until": 7, "model": {"lock_image": True}, "clock": "stage"},
    {"until": 10, "moments": "fresh", "optimizer": {"kind": "muon", "lr": 0.001}, "batch": {"global": 32, "chunk": 8}},
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three stages on one rank, with a checkpoint of every step."""
    home = tmp_path_factory.mktemp("stages")
    checkpoint = {"every_steps": 1, "keep_last": 99}
    recipe = write_recipe(home, steps=10, stages=STAGES, checkpoint=checkpoint, output=str(home / "whole"))
    assert train_here(recipe, 1) == [""]
    return home


def _tensors(output: Path, step: int) -> TensorReader:
    return TensorReader(open_checkpoint(output / "checkpoints" / step_name(step), Peers.alone()).complete.tensor_files)


def test_pairs_rates_and_sizes_are_those_of_each_stage(whole: Path) -> None:
    rows = metrics(whole / "whole")
    assert [row["step"] for row in rows] == list(range(10))
    assert [row["samples"] for row in rows] == [8, 16, 24, 32, 48, 64, 80, 112, 144, 176]
    assert [int(row["digest"].split("-")[1]) for row in rows] == [8] * 4 + [16] * 3 + [32] * 3
    settings = load(str(whole / "recipe.yaml")).section("train", TrainSettings)
    assert [row["lr"] for row in rows] == pytest.approx([settings.plan.lr_at(step) for step in range(10)])
    assert verify(settings, 7).wrong == []
    positions = "param/image.positional_embedding"
    assert [_tensors(whole / "whole", step).shape(positions)[0] for step in (4, 5, 10)] == [2, 5, 5]
    text = [_tensors(whole / "whole", step).get("param/text.positional_embedding") for step in (4, 5)]
    assert [len(one) for one in text] == [6, 8]
    before, after = (_tensors(whole / "whole", step) for step in (5, 7))
    for name in before.of_part("param"):
        same = torch.equal(before.get(f"param/{name}"), after.get(f"param/{name}"))
        assert same == name.startswith("image."), name
    assert "momentum_buffer/image.transformer.resblocks.0.mlp.c_fc.weight" in _tensors(whole / "whole", 8)


@pytest.mark.parametrize(("world", "stage"), sampled([(1, 0), (2, 3)], 1))
def test_resuming_inside_and_between_stages_gives_the_undisturbed_run(whole: Path, world: int, stage: int) -> None:
    wanted = metrics(whole / "whole")
    for step in (2, 4, 8) if world == 1 else (4, 6):
        output = whole / f"from-{step}-on-{world}"
        shutil.copytree(whole / "whole", output)
        for later in range(step + 1, 11):
            shutil.rmtree(output / "checkpoints" / step_name(later))
        overrides = [f"train.output={output}", f"train.engine.zero_stage={stage}"]
        assert train_here(whole / "recipe.yaml", world, *overrides) == [""] * world
        rows = metrics(output)
        assert [row["digest"] for row in rows] == [row["digest"] for row in wanted]
        worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(rows, wanted, strict=True))
        assert worst <= (0 if world == 1 else 5e-5), f"from step {step}"
        if world == 1:
            ours, theirs = _tensors(output, 10), _tensors(whole / "whole", 10)
            assert all(torch.equal(ours.get(name), theirs.get(name)) for name in theirs.names())


def test_checkpoints_of_every_stage_are_exported_in_their_size(whole: Path) -> None:
    for step, side in ((3, 4), (10, 8)):
        export(str(whole / "whole" / "checkpoints" / step_name(step)), str(whole / f"model-{step}"))
        assert f'"image_size": {side}' in (whole / f"model-{step}" / "open_clip_config.json").read_text()


def test_a_finished_run_in_stages_says_so(whole: Path) -> None:
    before = (whole / "whole" / "metrics.jsonl").read_bytes()
    assert train_here(whole / "recipe.yaml", 1) == [""]
    assert (whole / "whole" / "metrics.jsonl").read_bytes() == before


LOSSES = [
    {"until": 4},
    {"until": 8, "moments": "fresh", "loss": [{"kind": "softmax"}, {"kind": "views", "hidden": 8, "width": 4}]},
    {"until": 10, "loss": {"kind": "softmax"}},  # what is left out asks for nothing fresh
    {"until": 12, "moments": "fresh", "loss": {"kind": "sigmoid"}},
]


@pytest.mark.exhaustive
def test_what_a_loss_has_beside_the_towers_comes_and_goes_with_its_stage(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, stages=LOSSES, checkpoint={"every_steps": 2, "keep_last": 99})
    assert train_here(recipe, 1) == [""]
    has = {step: set(_tensors(tmp_path / "train", step).of_part("param")) for step in (4, 6, 10, 12)}
    assert {name.split(".")[0] for name in has[6] - has[4]} == {"heads"} and has[10] == has[4]
    assert has[12] - has[10] == {"bias"}
    wanted = metrics(tmp_path / "train")
    assert wanted[8]["logit_scale"] == pytest.approx(wanted[7]["logit_scale"], rel=0.1)  # goes on, does not begin anew
    assert wanted[10]["bias"] == pytest.approx(-10, abs=0.1)
    for step, world, stage in ((4, 1, 0), (6, 1, 0), (10, 2, 3)):
        output = tmp_path / f"from-{step}"
        shutil.copytree(tmp_path / "train", output)
        for later in range(step + 2, 13, 2):
            shutil.rmtree(output / "checkpoints" / step_name(later))
        overrides = [f"train.output={output}", f"train.engine.zero_stage={stage}"]
        assert train_here(recipe, world, *overrides) == [""] * world
        rows = metrics(output)
        worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(rows, wanted, strict=True))
        assert worst <= (0 if world == 1 else 5e-5), f"from step {step}"
