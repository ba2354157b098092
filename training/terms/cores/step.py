"""A problem that all ranks solve together: its exchange, its scores, and the sweep over rivals."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.terms.cores.ends import ends_of
from training.terms.cores.exchange.interface import Exchange, Placed
from training.terms.cores.interface import Problem
from training.terms.cores.positives import Positives, Side, of_columns, of_rows, own_scores
from training.terms.cores.problem.layout import length
from training.terms.cores.scores.running import FLOOR, Running
from training.terms.cores.scores.scores import Scores
from training.terms.cores.scores.works import work_of


@dataclass(frozen=True)
class How:
    """`tile` is (rows, columns); `fused`: see `scores.plain`; `kernel`: a name of `scores.works`."""

    core: str
    tile: tuple[int, int]
    fused: bool
    kernel: str = "torch"


class Step:
    """`name` tells its features from those of another one under way."""

    def __init__(self, problem: Problem, way: Exchange, how: How, name: str = "") -> None:
        assert problem.owner_M is not None
        self.problem, self.way, self.how = problem, way, how
        self.layout, self.peers, self.owner_M, self.text_name = way.layout, way.peers, problem.owner_M, name + "text"
        self.images, self.texts, queue = problem.image_ND, problem.text_MD, problem.queue_ED
        self.row_RD = self.images if queue is None or not len(queue) else torch.cat([self.images, queue])
        self.scale = problem.log_scale.detach().to(self.images.dtype).exp().reshape(())
        self.scores = Scores(self.layout, way.rows(name + "image", self.row_RD), self.scale, how.tile)
        self.work = work_of(how.kernel, self.scores, how.fused)
        self.ends = ends_of(problem, self.scores.row_RD, way, self.text_name)

    def own_scores(self) -> Tensor:
        ends = self.ends
        return own_scores(ends.image_ND, ends.text_MD, ends.owner_M, ends.first, self.scale)

    def sides(self, positives: Positives, margin: float) -> tuple[Side, Side]:
        """One sweep over all rivals: of pairs and of columns."""
        span, own = self.way.row_span, self.layout.own
        row_top = Placed(self.texts.new_full((length(span),), FLOOR), span.start)
        row_total = Placed(torch.zeros_like(row_top.tensor), span.start)
        sweep = self.way.sweep({self.text_name: self.texts}, {"top": (FLOOR, ()), "total": (0.0, ())})
        for tile in sweep:
            scores_RC = self.scores.of(tile, tile.read[self.text_name])
            rows = Running(row_top[tile.rows], row_total[tile.rows]) if tile.for_rows else None
            columns = Running(tile.carry["top"], tile.carry["total"]) if tile.for_columns else None
            self.work.fold(rows, columns, scores_RC)
        ends, own_M = self.ends, self.own_scores()
        top, total = (ends.rows(part[own.rows][: own.pairs]) for part in (row_top, row_total))
        of_row = of_rows(top + total.log(), top, own_M, ends.owner_M, ends.first, margin, positives)
        top, total = (ends.columns(part) for part in sweep.home_lse())
        return of_row, of_columns(top + total.log(), top, own_M, margin)
