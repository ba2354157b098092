"""LAMB's update (You et al., 2020, algorithm 2) on masters that hold parameters whole or in part.

No package does this under ZeRO: the trust ratio is a quotient of norms of whole parameters, and a flat partition holds
the end of one, a few, and the start of another. So the squares are added over ranks, once for each group.
"""

from typing import Any

import torch
from torch import Tensor

from training.engine.update.guarded import Guard


class LambUpdate(torch.optim.Optimizer):
    """To be guarded: `layout` and `all_sum` are the guard's."""

    def __init__(self, groups: list[dict[str, Any]], **defaults: Any) -> None:
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for master in group["params"]:
                if master.grad is not None:
                    self._update(group, master, master.grad)

    def _update(self, group: dict[str, Any], master: Tensor, grad: Tensor) -> None:
        assert isinstance(self, Guard)
        state, (beta1, beta2) = self.state[master], group["betas"]
        state["step"] += 1
        count = int(state["step"])
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        deep = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
        way = (state["exp_avg"] / (1 - beta1**count)).div_(deep).add_(master, alpha=group["weight_decay"])
        if not group["decays"]:
            master.add_(way, alpha=-group["lr"])
            return
        spans, flat, steps = self.layout(master), master.view(-1), way.view(-1)
        squares = [[_square(span.of(flat)), _square(span.of(steps))] for span in spans]
        norms = self.all_sum(torch.stack([torch.stack(pair) for pair in squares])).sqrt()
        for span, (weight, step) in zip(spans, norms.unbind(), strict=True):
            ratio = torch.where((weight > 0) & (step > 0), weight / step, 1.0)  # a parameter of zeros goes its way
            if group["trust_clip"] is not None:
                ratio.clamp_(max=group["trust_clip"])
            span.of(flat).add_(span.of(steps) * ratio.to(flat.dtype), alpha=-group["lr"])


def _square(values: Tensor) -> Tensor:
    """The sum of squares in float64: the same to rounding wherever partitions end."""
    return torch.linalg.vector_norm(values, dtype=torch.float64).square()
