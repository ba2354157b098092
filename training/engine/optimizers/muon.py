"""Muon (Jordan et al., 2024): the momentum of each hidden matrix, orthogonalised; AdamW for all else."""

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from training.engine.optimizers.optimizer import Betas, Fraction, Optimizer

if TYPE_CHECKING:
    from training.engine.update.guarded import Guard


class Muon(Optimizer):
    """Matrices inside the towers' blocks go by Muon; embeddings, stems, projections, gains and biases by AdamW.

    Fused projections of queries, keys and values are orthogonalised one by one, filters of convolutions as the matrix
    [out, in x height x width] (those of one channel each go by AdamW). `scale: rms` makes a step as long as AdamW's
    (0.2 sqrt(max(out, in)), Liu et al., 2025), so that one learning rate and decay serve both; `shape` is the first
    version's sqrt(max(1, out / in)). Under ZeRO each matrix is put together on every rank for its step: one matrix more
    of memory, and a reduction of all matrices a step.
    """

    kind: Literal["muon"] = "muon"
    momentum: Fraction = 0.95
    nesterov: bool = True
    iterations: int = Field(5, ge=1, le=20, description="Newton-Schulz steps")
    iterate_in: Literal["bf16", "fp32"] = "bf16"
    scale: Literal["rms", "shape"] = "rms"
    betas: Betas = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0.0, description="of AdamW")

    def is_matrix(self, shape: tuple[int, ...]) -> bool:
        single = len(shape) > 2 and shape[1] == 1  # a filter for each channel: no matrix
        return len(shape) > 1 and not single and min(shape[0], math.prod(shape[1:])) > 1

    def build(self, groups: list[dict[str, Any]]) -> "Guard":
        from training.engine.update.guarded import guarded
        from training.engine.update.muon import MuonUpdate

        own: dict[str, Any] = {"momentum": self.momentum, "nesterov": self.nesterov, "iterations": self.iterations}
        own |= {"iterate_in": self.iterate_in, "scale": self.scale}
        options = {"betas": self.betas, "eps": self.eps, "weight_decay": 0.0, "fused": True}
        groups = [own | group | ({"moments": ("momentum_buffer",)} if group["matrix"] else {}) for group in groups]
        return guarded(MuonUpdate, groups, ("exp_avg", "exp_avg_sq"), lr=self.lr, **options)
