"""Resuming: after any end of a run, on any number of ranks, the same pairs in the same steps and the same losses.

The tolerance is for the order in which sums over ranks are taken; on the same number of ranks there is none.
"""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_run import (
    MODEL,
    _train_as,
    finish,
    kill,
    metrics,
    ranks_of,
    start,
    train_here,
    wait_for_step,
    write_recipe,
)

pytestmark = pytest.mark.slow
LOSS_TOLERANCE = 5e-6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and recipe."""
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> list[dict[str, Any]]:
    """What one rank logs when nothing happens."""
    recipe = write_recipe(home, output=str(home / "undisturbed"))
    assert train_here(recipe, 1) == [""]
    rows = metrics(home / "undisturbed")
    assert [row["step"] for row in rows] == list(range(12))
    return rows


def assert_same_run(output: Path, wanted: list[dict[str, Any]], tolerance: float = LOSS_TOLERANCE) -> None:
    rows = metrics(output)
    assert [row["step"] for row in rows] == [row["step"] for row in wanted]  # each step once, none twice
    assert [row["digest"] for row in rows] == [row["digest"] for row in wanted]
    assert [row["samples"] for row in rows] == [row["samples"] for row in wanted]
    worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(rows, wanted, strict=True))
    print(f"largest difference of a loss: {worst:.2g}")
    assert worst <= tolerance


def steps_kept(output: Path) -> list[int]:
    return sorted(int(folder.name[5:]) for folder in (output / "checkpoints").glob("step-*"))


@pytest.mark.exhaustive
def test_killed_with_9_and_resumed_on_1_2_and_3_ranks_the_run_is_the_undisturbed_one(home: Path) -> None:
    recipe = write_recipe(home, output=str(home / "killed"), schedule={"kind": "constant"}, steps=100_000)
    launcher = start(recipe, "launch.processes=2", "train.checkpoint.every_steps=5")
    wait_for_step(home / "killed", 7)
    kill(ranks_of(launcher)[1])
    code, words = finish(launcher)
    assert code == 1 and "rank 1 of 2: was killed by SIGKILL" in words, words
    lost = len(metrics(home / "killed"))
    saved = steps_kept(home / "killed")[-1]
    assert 5 <= saved <= lost
    steps = lost + 3
    changes = [f"train.steps={steps}", "train.checkpoint.every_steps=1000"]
    assert train_here(recipe, 2, *changes, f"train.output={home / 'whole'}") == ["", ""]
    whole = metrics(home / "whole")
    for world in (1, 2, 3):
        shutil.copytree(home / "killed", home / f"on-{world}")
        assert train_here(recipe, world, *changes, f"train.output={home / f'on-{world}'}") == [""] * world
        assert_same_run(home / f"on-{world}", whole, 0.0 if world == 2 else LOSS_TOLERANCE)
        assert steps_kept(home / f"on-{world}")[-1] == steps


CONSTANT = ("train.schedule.kind=constant",)
"""With it a run of few steps is the first part of a longer one."""


@pytest.mark.parametrize(
    "parts", sampled([[(2, 1, 4), (1, 0, 7), (3, 3, 12)], [(2, 1, 4), (1, 0, 7), (3, 3, 9), (2, 2, 12)]], 0)
)
def test_each_part_of_a_run_may_have_its_own_world_size_and_zero_stage(home: Path, parts) -> None:
    shutil.rmtree(home / "parts", ignore_errors=True)
    shutil.rmtree(home / "constant", ignore_errors=True)
    recipe = write_recipe(home, output=str(home / "parts"))
    for world, stage, steps in parts:
        said = train_here(recipe, world, f"train.engine.zero_stage={stage}", f"train.steps={steps}", *CONSTANT)
        assert said == [""] * world, said
    assert train_here(recipe, 1, f"train.output={home / 'constant'}", *CONSTANT) == [""]
    assert_same_run(home / "parts", metrics(home / "constant"))


def test_a_term_signal_saves_exits_75_and_the_same_command_finishes(home: Path) -> None:
    recipe = write_recipe(home, output=str(home / "stopped"), checkpoint={"every_steps": 100_000}, steps=100_000)
    launcher = start(recipe, *CONSTANT, "launch.processes=2")
    wait_for_step(home / "stopped", 2)
    launcher.terminate()
    code, words = finish(launcher)
    done = len(metrics(home / "stopped"))
    assert code == 75, words
    assert steps_kept(home / "stopped") == [done]  # the step in hand was finished and nothing is lost
    assert train_here(recipe, 2, *CONSTANT, f"train.steps={done + 2}") == ["", ""]
    assert [row["step"] for row in metrics(home / "stopped")] == list(range(done + 2))
    log = (home / "stopped" / "metrics.jsonl").read_bytes()
    assert train_here(recipe, 1, *CONSTANT, f"train.steps={done + 2}") == [""]  # finished: nothing to do
    assert (home / "stopped" / "metrics.jsonl").read_bytes() == log


def test_a_damaged_newest_checkpoint_is_named_and_the_run_still_the_undisturbed_one(home: Path, undisturbed) -> None:
    draw = random.Random(3)
    for trial in range(2):
        output = home / f"damaged-{trial}"
        recipe = write_recipe(home, output=str(output))
        shutil.copytree(home / "undisturbed", output)
        files = sorted((output / "checkpoints" / "step-00000012").iterdir())
        path = files[trial % len(files)]
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        assert train_here(recipe, 2) == ["", ""]
        assert_same_run(output, undisturbed)
        assert steps_kept(output) == [6, 9, 12]


def test_changed_data_batch_seed_or_model_is_refused_with_both_values(home: Path, undisturbed) -> None:
    output = home / "changed"
    shutil.copytree(home / "undisturbed", output)
    recipe = write_recipe(home, output=str(output), steps=20)
    other = home / "other"
    write_recipe_data(other)
    for change, words in (
        (f"train.data=['{other}']", "data is"),
        ("train.batch.global=32", "global_batch is 32; the checkpoint was made with global_batch 16"),
        ("seed=8", "seed is 8; the checkpoint was made with seed 7"),
        ("train.reader.window=16", "window is 16"),
        ("train.model.config.embed_dim=8", "was made with model"),
    ):
        (said,) = train_here(recipe, 1, change)
        assert said.startswith("DataError") and words in said and "hint:" in said, said
    assert len(metrics(output)) == 12


def write_recipe_data(folder: Path) -> None:
    from tests.helpers.datasets import make_dataset

    make_dataset(str(folder), shards=3, pairs=32, first=500)


def test_no_verifying_checkpoint_stops_the_run_until_fresh_is_said(home: Path, undisturbed) -> None:
    output = home / "hopeless"
    shutil.copytree(home / "undisturbed", output)
    recipe = write_recipe(home, output=str(output))
    for folder in (output / "checkpoints").glob("step-*"):
        (folder / "state.json").unlink()
    log = (output / "metrics.jsonl").read_bytes()
    (said,) = train_here(recipe, 1)
    assert said.startswith("DataError") and "none of 3 checkpoints verifies" in said and "train.fresh=true" in said
    assert (output / "metrics.jsonl").read_bytes() == log
    assert train_here(recipe, 1, "train.fresh=true") == [""]
    assert_same_run(output, undisturbed, 0.0)
    assert len(list((output / "checkpoints.old-1").glob("step-*"))) == 3


def test_a_job_started_again_by_its_scheduler_goes_on_although_its_recipe_says_fresh(home: Path, undisturbed) -> None:
    output = home / "again"
    recipe = write_recipe(home, output=str(output), fresh=True)
    for job, steps in (("17", 4), ("17", 8), ("18", 3)):
        named = {"CLIPMILL_JOB_ID": job}
        assert train_here(recipe, 1, f"train.steps={steps}", *CONSTANT, environment=named) == [""]
        assert (output / "checkpoints.old-1").exists() == (job == "18") and len(metrics(output)) == steps


DROPPING = {"timm_model_name": "vit_tiny_patch16_224", "image_size": 32, "timm_pool": "avg", "timm_drop": 0.1,
            "timm_drop_path": 0.2}  # fmt: skip


@pytest.mark.parametrize(("world", "stage"), sampled([(1, 0), (2, 1), (2, 3)], 0))
def test_towers_with_dropout_resume_to_the_bit(tmp_path: Path, world: int, stage: int) -> None:
    """timm's dropout and stochastic depth draw from torch's generators, which hold other states after a restart."""
    model = {"config": {**MODEL, "vision_cfg": DROPPING}}
    recipe = write_recipe(tmp_path, model=model, steps=4, checkpoint={"every_steps": 2})
    changes = [f"train.engine.zero_stage={stage}", "train.engine.check_cache=true"]
    assert train_here(recipe, world, *changes) == [""] * world
    wanted = _files(tmp_path / "train", 4)
    losses = [row["loss"] for row in metrics(tmp_path / "train")]
    shutil.copytree(tmp_path / "train", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000004")
    output = f"train.output={tmp_path / 'again'}"
    (said, *_) = train_here(recipe, world, *changes, output, "train.batch.chunk=2")
    assert said.startswith("RecipeError") and "train.batch.chunk 4 -> 2 (dropout is drawn by the chunk)" in said
    assert run_ranks(_with_other_draws, world, str(recipe), [*changes, output]) == [""] * world
    assert [row["loss"] for row in metrics(tmp_path / "again")] == losses and _files(tmp_path / "again", 4) == wanted


def _with_other_draws(peers: Any, recipe: str, overrides: list[str]) -> str:
    import torch

    torch.manual_seed(1000 + peers.rank)
    return _train_as(peers, recipe, overrides, {})


def _files(output: Path, step: int) -> dict[str, bytes]:
    folder = output / "checkpoints" / f"step-{step:08d}"
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
