"""The SigLIP loss (Zhai et al., 2023)."""

import math
from typing import Literal

from training.terms.contrast import Contrast, ContrastTerm
from training.wanted import Scalar

SCALARS = (Scalar("log_scale", math.log(10.0), 0.0, math.log(100)), Scalar("bias", -10.0))


class Sigmoid(Contrast):
    """Every image and text are a question of their own, do they belong together: no softmax over the others.

    The logit scale starts at 10 and the bias at -10, as in the paper, unless the model's config says otherwise.
    """

    kind: Literal["sigmoid"] = "sigmoid"

    def scalars(self) -> tuple[Scalar, ...]:
        return SCALARS

    def build(self) -> ContrastTerm:
        return ContrastTerm(self, "sigmoid")
