"""LAMB (You et al., 2020): Adam's direction, as long as the parameter itself."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from training.engine.optimizers.optimizer import Betas, Optimizer

if TYPE_CHECKING:
    from training.engine.update.guarded import Guard


class Lamb(Optimizer):
    """Each parameter's step is scaled by |weights| / |step|, over the whole parameter under every ZeRO stage. As in the
    authors' code, what does not decay (gains, biases) is not scaled either. `trust_clip`: largest ratio."""

    kind: Literal["lamb"] = "lamb"
    lr: float = Field(2e-3, ge=0.0, description="peak learning rate; the schedule scales it")
    weight_decay: float = Field(0.05, ge=0.0)
    betas: Betas = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0.0)
    trust_clip: float | None = Field(None, gt=0.0)

    def build(self, groups: list[dict[str, Any]]) -> "Guard":
        from training.engine.update.guarded import guarded
        from training.engine.update.lamb import LambUpdate

        options = {"betas": self.betas, "eps": self.eps, "trust_clip": self.trust_clip}
        return guarded(LambUpdate, groups, ("exp_avg", "exp_avg_sq"), lr=self.lr, **options)
