"""The CLIP loss (Radford et al., 2021)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.term import TermOutput, TermSettings
from training.wanted import LOG_SCALE, Scalar

if TYPE_CHECKING:
    from training.ranks.peers import Peers
    from training.rows import Rows


class Softmax(TermSettings):
    """Cross-entropy of each image over all texts and of each text over all images, averaged."""

    kind: Literal["softmax"] = "softmax"
    tile: int = Field(1024, ge=1, description="side of the largest block of scores ever held, in pairs")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)

    def scalars(self) -> tuple[Scalar, ...]:
        return (LOG_SCALE,)

    def build(self) -> "SoftmaxTerm":
        return SoftmaxTerm(self)


@dataclass(frozen=True)
class SoftmaxTerm:
    """Metrics: loss and top-1 accuracy of each direction among the step's valid pairs, and their number."""

    settings: Softmax
    needs = frozenset({"image", "text"})

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        from training.terms.cores.softmax import softmax_loss

        inputs = (features["image"], features["text"], scalars["log_scale"], rows["valid"], peers)
        return softmax_loss(*inputs, tile=self.settings.tile, smoothing=self.settings.label_smoothing)
