"""What a rank holds, against the tensors that the engines really hold."""

from typing import Any

import pytest
import torch

from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_run import MODEL
from training.costs import weights
from training.costs.model import Group, Model, Weights
from training.settings import TrainSettings

CASES: list[dict[str, Any]] = [
    *({"stage": stage} for stage in range(4)),
    {"stage": 0, "kind": "muon", "locked": True},
    {"stage": 1, "kind": "muon"},
    {"stage": 2, "kind": "lion", "locked": True},
    {"stage": 3, "locked": True},
]


def settings_of(stage: int, kind: str = "adamw", locked: bool = False) -> TrainSettings:
    plain = {
        "data": ["x"], "output": "y", "steps": 3, "model": {"config": MODEL, "lock_image": locked},
        "batch": {"global": 8, "chunk": 4}, "engine": {"zero_stage": stage},
        "optimizer": {"kind": kind, "no_decay": ["positions"]},
    }  # fmt: skip
    return TrainSettings.model_validate(plain)


def hold(peers: Any) -> list[dict[str, int]]:
    """Bytes of this rank's parameters, masters and moments, as they lie there."""
    from training.engine.build import build_engine

    found = []
    for case in CASES:
        settings = settings_of(**case)
        engine: Any = build_engine(settings.towers(0), settings.engine, settings.optimizer, peers)
        every = list(engine.towers.parameters())
        state = [tensor for one in engine._optimizer.state.values() for key, tensor in one.items() if key != "step"]
        locked = sum(p.nbytes for p in every if not p.requires_grad)
        if case["stage"] == 0:
            parameters, masters = sum(p.nbytes for p in every), 0
        elif case["stage"] == 3:
            whole = sum(p.ds_numel * 4 for p in every if p.ds_persist)
            parameters = sum(p.ds_tensor.nbytes for p in every) + whole
            masters = sum(master.nbytes for master in engine._masters())
        else:
            parameters = sum(flat.nbytes for flat in engine._zero.bit16_groups_flat) + locked
            masters = sum(master.nbytes for master in engine._masters())
        found.append({"parameters": parameters, "masters": masters, "moments": sum(one.nbytes for one in state)})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_parameters_masters_and_moments_are_those_of_the_engines(world: int) -> None:
    """Three ranks divide no parameter here, so that parts end in padding."""
    for found in run_ranks(hold, world):
        for case, real in zip(CASES, found, strict=True):
            said = weights.held(Model(settings_of(**case)).weights(), case["stage"], world)
            assert {name: said[name] for name in real} == real, (case, world)


def test_gradients_are_whole_during_a_step_and_a_part_stays() -> None:
    two = Weights((Group((7, 4), 2), Group((5,), 1)), locked=(9,))
    assert weights.held(two, 0, 2)["gradients"] == 4 * 16
    assert weights.held(two, 1, 2)["gradients"] == 4 * (16 + (6 + 4))  # groups of 11 and 5 in parts of 2 x 3 and 2 x 2
    assert weights.held(two, 3, 2)["gradients"] == 4 * (16 + (4 + 2 + 3))


def test_alone_nothing_is_flattened_for_a_sum() -> None:
    one = Weights((Group((10,), 2),))
    assert (weights.held(one, 0, 1)["reduction"], weights.held(one, 0, 2)["reduction"]) == (0, 80)


def test_the_model_is_never_made() -> None:
    """A model of 2.5 billion parameters, on a machine that could not hold it."""
    small = settings_of(1)
    large = small.model.model_validate({"name": "ViT-bigG-14"})
    model = Model(small.model_copy(update={"model": large}))
    assert round(model.weights().parameters / 1e6, 2) == 2539.57  # open_clip's docs/model_profile.csv
    assert type(next(model.towers.parameters()).data) is not torch.Tensor
