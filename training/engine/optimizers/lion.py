"""Lion (Chen et al., 2023), timm's: the sign of a blend of gradient and momentum."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from training.engine.optimizers.optimizer import Betas, Optimizer

if TYPE_CHECKING:
    from training.engine.update.guarded import Guard


class Lion(Optimizer):
    """Half of AdamW's state. Every element moves by the learning rate itself: the paper advises a third to a tenth of
    AdamW's rate and as many times its weight decay."""

    kind: Literal["lion"] = "lion"
    lr: float = Field(1e-4, ge=0.0, description="peak learning rate; the schedule scales it")
    weight_decay: float = Field(1.0, ge=0.0)
    betas: Betas = (0.9, 0.99)

    def build(self, groups: list[dict[str, Any]]) -> "Guard":
        from timm.optim.lion import Lion as Timms

        from training.engine.update.guarded import guarded

        return guarded(Timms, groups, ("exp_avg",), lr=self.lr, betas=self.betas, weight_decay=0.0)
