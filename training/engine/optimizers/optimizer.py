"""What every optimizer of the table has in common: how fast which parameters move and which decay. Imports no torch."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat

from pipeline.settings import Settings

if TYPE_CHECKING:
    from training.engine.update.guarded import Guard

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Betas = tuple[Fraction, Fraction]
Tower = Literal["image", "text"]
Embeddings = Literal["positions", "class_tokens", "tokens"]


class Optimizer(Settings):
    """Gains, biases, other 1-d parameters and the logit scale do not decay, nor do the embeddings in `no_decay`.

    A parameter's learning rate is that of the schedule times its entry of `lr_scales` times, in a tower of
    `layer_decay`, decay ** (blocks from the top): the last block has 1, stem and embeddings one more than the first
    block, head and projection 0 (BEiT, Bao et al., 2022; EVA-CLIP, Sun et al., 2023).
    """

    lr: float = Field(5e-4, ge=0.0, description="peak learning rate; the schedule scales it")
    weight_decay: float = Field(0.2, ge=0.0)
    lr_scales: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="prefix of a parameter's name -> factor on its learning rate (longest wins)"
    )
    layer_decay: dict[Tower, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(
        default_factory=dict, description="tower -> factor on the learning rate for each block further from the top"
    )
    no_decay: list[Embeddings] = Field([], description="embeddings that keep their weights, as 1-d parameters do")

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> "Guard":
        """The torch optimizer over `groups` (of `update.groups`), with the guards of `update.guarded`."""

    def is_matrix(self, shape: tuple[int, ...]) -> bool:
        """Whether a parameter in a block of this shape is updated as one whole matrix: by Muon alone."""
        return False
