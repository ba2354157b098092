"""AdamW (Loshchilov and Hutter, 2019), torch's own."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from training.engine.optimizers.optimizer import Betas, Optimizer

if TYPE_CHECKING:
    from training.engine.update.guarded import Guard


class AdamW(Optimizer):
    """Adam with a decay of its own beside the gradient."""

    kind: Literal["adamw"] = "adamw"
    betas: Betas = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0.0)

    def build(self, groups: list[dict[str, Any]]) -> "Guard":
        import torch

        from training.engine.update.guarded import guarded

        options = {"betas": self.betas, "eps": self.eps, "weight_decay": 0.0, "fused": True}
        return guarded(torch.optim.AdamW, groups, ("exp_avg", "exp_avg_sq"), lr=self.lr, **options)
