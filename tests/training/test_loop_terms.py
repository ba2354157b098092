"""Every term of the table trains from one line of a recipe, over real towers and the reader, resumed and exported."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_run import metrics, train_here, write_recipe
from training.export import export
from training.terms import TERMS

OTHERS = (
    "feature_distill",
    "similarity_distill",
    "masked_view",
    "label_head",
    "caption",
)  # of teachers, labels, a decoder: test_loop_*.py, terms/
KINDS = [kind for kind in TERMS if kind not in ("softmax", "sigmoid", *OTHERS)]  # rivals: their log scales start apart
SMALL = {"views": {"hidden": 12, "width": 6}}


@pytest.mark.parametrize("kind", sampled(KINDS, KINDS.index("views")))
def test_a_term_beside_clip_trains_resumes_and_leaves_an_export(tmp_path, kind):
    term = {"kind": kind, "weight": 0.25, "name": "it", **SMALL.get(kind, {})}
    recipe = write_recipe(tmp_path, loss=[{"kind": "softmax"}, term], steps=4, checkpoint={"every_steps": 2})
    assert train_here(recipe, 2, "train.engine.zero_stage=2", "train.steps=2") == ["", ""]
    assert train_here(recipe, 1) == [""]
    rows = metrics(tmp_path / "train")
    assert [row["step"] for row in rows] == [0, 1, 2, 3] and not any(row["skipped"] for row in rows)
    for row in rows:
        assert row["loss"] == pytest.approx(row["softmax/loss"] + 0.25 * row["it/loss"], rel=1e-5)
    state = torch.load(export(str(tmp_path / "train"), str(tmp_path / "model.pt")), weights_only=True)["state_dict"]
    assert all(name.startswith(("visual.", "logit_scale", "token_", "positional", "transformer.", "ln_", "text"))
               for name in state)  # fmt: skip


def test_dropped_patches_are_the_same_in_both_passes_any_chunk_and_any_world(tmp_path):
    recipe, losses = write_recipe(tmp_path, steps=3), []
    for world, chunk in ((1, 16), (2, 3)):
        overrides = [f"train.batch.chunk={chunk}", "train.engine.check_cache=true", f"train.output={tmp_path}/{world}"]
        assert train_here(recipe, world, "train.model.patch_dropout=0.5", *overrides) == [""] * world
        losses.append([row["loss"] for row in metrics(tmp_path / str(world))])
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert train_here(recipe, 1, f"train.output={tmp_path}/whole") == [""]
    assert abs(metrics(tmp_path / "whole")[0]["loss"] - losses[0][0]) > 1e-4


def _probed(peers: Any, recipe: str, overrides: list[str], fastest: tuple[int, int]) -> str:
    """The run with a probe that says `fastest`; each rank but the first would say otherwise."""
    from tests.helpers.tiny_run import _train_as
    from training.terms.cores import tiles

    tiles.fastest = lambda candidates, width, device: fastest if peers.rank == 0 else (16, 16)
    return _train_as(peers, recipe, overrides, {})


def test_a_tile_that_was_chosen_once_is_kept_for_the_run(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, loss={"kind": "softmax", "tile": "auto"}, steps=4, checkpoint={"every_steps": 2})
    assert run_ranks(_probed, 2, str(recipe), [], (3, 5)) == ["", ""]
    shutil.copytree(tmp_path / "train", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000004")
    assert run_ranks(_probed, 2, str(recipe), [f"train.output={tmp_path / 'again'}"], (2, 2)) == ["", ""]
    given = f"train.output={tmp_path / 'given'}", "train.loss.tile=[3, 5]"
    assert train_here(recipe, 2, *given) == ["", ""]
    ends = [tmp_path / name / "checkpoints" / "step-00000004" for name in ("train", "again", "given")]
    kept = [json.loads((end / "state.json").read_text()) for end in ends]
    assert [state["tiles"] for state in kept] == [{"softmax": [3, 5]}] * 2 + [{}]
    assert [state["tiled_on"] for state in kept] == ["cpu", "cpu", None]
    weights = [{path.name: path.read_bytes() for path in end.glob("*.safetensors")} for end in ends]
    assert weights[0] == weights[1] == weights[2]
