"""Targets from the scores of other features, as a softmax of them (or, in the sigmoid core, a sigmoid)."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.positives import Side
from training.terms.cores.scores.scores import Scores
from training.terms.cores.step import Step
from training.terms.cores.targets import Shares


def soft(
    step: Step, row_RF: Tensor, text_MF: Tensor, scale: float, bias: float, share: float, name: str = "target/"
) -> "Soft":
    """`row_RF`: of this rank's rows and queue; `text_MF`: of its texts. Gathers, or sends round, as much as the core
    does for features of their width. In softmax one sweep more, for the sums of exponentials: pairs' own scores are in
    them, those of twins are not. `name` tells these features from others under way."""
    dtype, N = step.images.dtype, len(step.images)
    row_RF, text_MF = row_RF.to(dtype), text_MF.to(dtype)
    problem = replace(
        step.problem,
        image_ND=row_RF[:N],
        queue_ED=row_RF[N:],
        text_MD=text_MF,
        log_scale=row_RF.new_full((), math.log(scale)),
    )
    other = Step(problem, step.way, step.how, name)
    read = {other.text_name: other.texts}
    if step.how.core == "sigmoid":
        return Soft(other.scores, name, read, share, bias)
    rows, columns = other.sides("all", 0.0)
    read[f"{name}shift"] = other.ends.read(f"{name}shift", columns.shift)
    return Soft(other.scores, name, read, share, bias, other.ends.placed(rows.shift, torch.inf), (rows, columns))


@dataclass(frozen=True)
class Soft:
    scores: Scores
    name: str
    read: dict[str, Tensor]
    share: float
    bias: float
    row_shift: Placed | None = None
    sides: tuple[Side, Side] | None = None  # of rows and columns, in softmax: losses of the pairs themselves

    def tile(self, tile: Tile) -> Shares:
        scores_RC = self.scores.of(tile, tile.read[f"{self.name}text"])
        if self.row_shift is None:
            yes_RC = scores_RC.add_(self.bias).sigmoid_().mul_(self.share)
            return Shares(yes_RC, yes_RC)
        of_rows_RC = (scores_RC - self.row_shift[tile.rows][:, None]).exp_().mul_(self.share)
        return Shares(of_rows_RC, scores_RC.sub_(tile.read[f"{self.name}shift"]).exp_().mul_(self.share))
