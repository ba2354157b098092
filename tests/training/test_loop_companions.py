"""Companions in a run: kept in its checkpoints, the same after a restart on other ranks, scored and exported."""

import json
import shutil

import open_clip
import pytest
import torch

from pipeline.errors import DataError
from tests.helpers.tiny_run import MODEL, metrics, train_here, write_eval_set, write_recipe
from training.checkpoint.save import open_checkpoint
from training.checkpoint.tensors import TensorReader
from training.export import export
from training.ranks.peers import Peers

CONSTANT = ("train.schedule.kind=constant",)


def _average(output, step):
    reader = TensorReader(
        open_checkpoint(output / "checkpoints" / f"step-{step:08d}", Peers.alone()).complete.tensor_files
    )
    return {n: reader.get(n) for n in reader.names() if n.startswith("companion/")}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run with a teacher (an earlier run, of other width), a map between the widths and an average, of 9 steps."""
    folder = tmp_path_factory.mktemp("companions")
    recipe = write_recipe(folder, output=str(folder / "old"), model={"config": {**MODEL, "embed_dim": 8}}, steps=3)
    assert train_here(recipe, 1) == [""]
    (name,) = [write_eval_set(folder / "pictures", 9, "txt")]
    recipe = write_recipe(
        folder,
        output=str(folder / "whole"),
        steps=9,
        companions=[{"kind": "ema", "decay": 0.5}, {"kind": "teacher", "checkpoint": str(folder / "old")}],
        loss=[{"kind": "softmax", "target": {"kind": "teacher", "share": 0.5}}, {"kind": "feature_distill"}],
        eval={"every_steps": 9, "of": "both", "sets": [{"kind": "retrieval", "path": str(name), "name": "p"}]},
    )
    assert train_here(recipe, 1, *CONSTANT) == [""]
    return folder, recipe


def test_a_restart_changes_no_bit_of_what_companions_keep_and_other_ranks_hardly_any(home):
    folder, recipe = home
    want = _average(folder / "whole", 9)
    assert {name.split("/")[1] for name in want} == {"ema", "term.feature_distill"}
    for world, stage, tolerance in ((1, 0, 0.0), (2, 3, 1e-6)):
        output = folder / f"on-{world}"
        shutil.copytree(folder / "whole", output)
        for step in ("step-00000006", "step-00000009"):
            shutil.rmtree(output / "checkpoints" / step)
        changes = (f"train.output={output}", f"train.engine.zero_stage={stage}", *CONSTANT)
        assert train_here(recipe, world, *changes) == [""] * world
        got = _average(output, 9)
        assert got.keys() == want.keys()
        for name, tensor in got.items():
            off = (tensor - want[name]).abs()
            if world > 1 and name.endswith("in_proj_bias"):  # keys' have no gradient but rounding, by itself divided
                off = off.unflatten(0, (3, -1))[[0, 2]]
            assert off.max().item() <= tolerance, name
        losses = [[row["loss"] for row in metrics(place)] for place in (output, folder / "whole")]
        assert losses[0] == pytest.approx(losses[1], abs=5e-6 if world > 1 else 0)


def test_weights_and_average_are_both_scored_and_the_average_is_exported(home, tmp_path):
    folder, _ = home
    (line,) = [json.loads(line) for line in (folder / "whole" / "evals.jsonl").read_text().splitlines()]
    assert {name.removeprefix("ema/") for name in line["eval"]} == {n for n in line["eval"] if not n.startswith("ema/")}
    kept = _average(folder / "whole", 9)
    export(str(folder / "whole"), str(tmp_path / "ema.pt"), weights="ema")
    export(str(folder / "whole"), str(tmp_path / "plain.pt"))
    ema, plain = (torch.load(tmp_path / f"{n}.pt", weights_only=True)["state_dict"] for n in ("ema", "plain"))
    assert torch.equal(ema["visual.conv1.weight"], kept["companion/ema/image.conv1.weight"])
    assert torch.equal(ema["logit_scale"], kept["companion/ema/log_scale"][0])
    assert not torch.equal(ema["visual.conv1.weight"], plain["visual.conv1.weight"])
    assert open_clip.CLIP(**{k: v for k, v in MODEL.items()}).load_state_dict(ema)
    with pytest.raises(DataError, match="holds no average called 'ema'"):
        export(str(folder / "old"), str(tmp_path / "none.pt"), weights="ema")
