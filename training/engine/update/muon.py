"""Muon's update (Jordan et al., 2024) on masters that hold parameters whole or in part.

torch.optim.Muon wants whole matrices of two dimensions; here a matrix is put together first where ZeRO has cut it.
"""

import math
from typing import Any

import torch
from torch import Tensor

from training.engine.update.guarded import Guard
from training.engine.update.spans import Span, assembled

_QUINTIC = (3.4445, -4.7750, 2.0315)  # of the paper: steepest at zero; singular values end between 0.7 and 1.2
_TINY = 1e-7
_FUSED = ("in_proj_weight", "qkv.weight", "Wqkv.weight")  # three matrices in one: open_clip and torch; timm; HF
_DTYPES = {"bf16": torch.bfloat16, "fp32": None}


class MuonUpdate(torch.optim.AdamW):
    """To be guarded. Groups with `matrix` go by Muon, all others by torch's AdamW."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        every = self.param_groups
        for group in every:
            if group["matrix"]:
                for master in group["params"]:
                    if master.grad is not None:
                        self._update(group, master, master.grad)
        self.param_groups = [group for group in every if not group["matrix"]]
        try:
            super().step()
        finally:
            self.param_groups = every

    def _update(self, group: dict[str, Any], master: Tensor, grad: Tensor) -> None:
        assert isinstance(self, Guard)
        momentum, state = group["momentum"], self.state[master]
        state["step"] += 1
        kept = state["momentum_buffer"].lerp_(grad, 1 - momentum)
        way = grad.lerp(kept, momentum) if group["nesterov"] else kept
        master.mul_(1 - group["lr"] * group["weight_decay"])
        flat = master.view(-1)
        for span in self.layout(master):
            whole = assembled(span, way.reshape(-1), self.all_sum)
            step = _stepped(whole, group, span).reshape(-1)[span.start : span.start + span.size]
            span.of(flat).add_(step.to(flat.dtype), alpha=-group["lr"])


def _stepped(whole: Tensor, group: dict[str, Any], span: Span) -> Tensor:
    """The orthogonalised step of one parameter, in its own shape, scaled for its size."""
    fused = 3 if span.name.endswith(_FUSED) and whole.shape[0] % 3 == 0 else 1
    matrices = whole.reshape(whole.shape[0], -1).chunk(fused)
    dtype = _DTYPES[group["iterate_in"]] or whole.dtype
    done = [orthogonal(one, group["iterations"], dtype) * _scale(group["scale"], *one.shape) for one in matrices]
    return torch.cat(done).view(whole.shape)


def _scale(kind: str, out: int, into: int) -> float:
    return 0.2 * math.sqrt(max(out, into)) if kind == "rms" else math.sqrt(max(1, out / into))


def orthogonal(matrix: Tensor, iterations: int, dtype: torch.dtype) -> Tensor:
    """U V^T of `matrix` = U S V^T, nearly: by Newton-Schulz steps of a quintic, computed in `dtype`."""
    near = matrix.to(dtype)
    near = near.mT if matrix.shape[0] > matrix.shape[1] else near
    near = near / near.norm().clamp(min=_TINY)
    a, b, c = _QUINTIC
    for _ in range(iterations):
        gram = near @ near.mT
        near = torch.addmm(near, torch.addmm(gram, gram, gram, beta=b, alpha=c), near, beta=a)
    return near.mT if matrix.shape[0] > matrix.shape[1] else near
