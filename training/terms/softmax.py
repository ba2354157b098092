"""The CLIP loss (Radford et al., 2021)."""

from typing import Literal

from training.terms.contrast import Contrast, ContrastTerm
from training.wanted import LOG_SCALE, Scalar


class Softmax(Contrast):
    """Cross-entropy of each image over all texts and of each text over all images, averaged."""

    kind: Literal["softmax"] = "softmax"

    def scalars(self) -> tuple[Scalar, ...]:
        return (LOG_SCALE,)

    def build(self) -> ContrastTerm:
        return ContrastTerm(self, "softmax")
