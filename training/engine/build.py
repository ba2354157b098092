"""The choice of an engine, with rank 0's weights on every rank."""

from typing import TYPE_CHECKING

import torch

from pipeline.errors import RecipeError
from training.engine.interface import Engine
from training.engine.optimizers.optimizer import Optimizer
from training.engine.settings import EngineSettings
from training.engine.update.groups import groups_of
from training.ranks.peers import Peers
from training.towers.layers import batch_norms
from training.towers.settings import batch_norm_refused

if TYPE_CHECKING:
    from training.towers.towers import Towers


def build_engine(towers: "Towers", engine: EngineSettings, optimizer: Optimizer, peers: Peers) -> Engine:
    """The engine of `engine.zero_stage`, with the towers moved to `peers.device` and rank 0's weights on every rank.

    `towers` as `training.towers.towers.Towers`. Raises RecipeError on a combination that cannot work, before any work.
    """
    _check(towers, engine)
    towers.to(peers.device)
    for tensor in [*towers.parameters(), *towers.buffers()]:
        peers.broadcast(tensor.data)
    made = optimizer.build(groups_of(towers, optimizer))
    if engine.zero_stage == 0:
        from training.engine.plain import PlainEngine

        return PlainEngine(towers, engine, made, peers)
    from training.engine.zero import DeepSpeedEngine

    return DeepSpeedEngine(towers, engine, made, peers)


def _check(towers: "Towers", engine: EngineSettings) -> None:
    mixing = next(batch_norms(towers), None)
    if mixing:
        raise batch_norm_refused(f"{mixing} is batch normalisation")
    for name, scalar in towers.scalars().items():
        if tuple(scalar.shape) != (1,):
            found, expected = f"{name} of shape {tuple(scalar.shape)}", "shape [1]: 0-dim ones break DeepSpeed on gloo"
            raise RecipeError("train.model", found, expected)
    dtypes = {parameter.dtype for parameter in towers.parameters()}
    allowed = (
        {torch.float32, torch.float64} if engine.zero_stage == 0 and engine.precision == "fp32" else {torch.float32}
    )
    if not dtypes <= allowed:
        raise RecipeError(
            "train.model",
            f"parameters in {sorted(str(dtype) for dtype in dtypes)}",
            "fp32 parameters: every engine keeps them so, and computes in train.engine.precision",
            "build the towers in fp32 and set train.engine.precision=bf16",
        )
