"""What is made of a tile's scores, by kernels of Triton: it is read once, and written once where they become gradients.

Each program has a block of the tile and says what it saw of its rows and of its columns; those few numbers are put
together by torch, in one order, so that the bits do not depend on which program was first. Set TRITON_INTERPRET=1
before Python starts and they run on a CPU, number for number, for tests.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.scores.running import FLOOR, Running
from training.terms.cores.scores.scores import Scores
from training.terms.cores.scores.work import Asked

_TALL, _WIDE, _WARPS = 64, 128, 8  # of a block: 32 scores a thread, which its registers hold (4 warps spill)
_TERMS = {torch.float32: 8, torch.float64: 18}  # of the series in `_softplus`, to the last digit


class Kernels:
    def __init__(self, scores: Scores) -> None:
        self._like, self._floor = scores.scale, FLOOR
        self._terms = _TERMS[scores.scale.dtype]

    def fold(self, rows: Running | None, columns: Running | None, scores_RC: Tensor) -> None:
        seen = self._seen(scores_RC, 2, 2)
        _fold[self._grid(scores_RC)](scores_RC, *seen, *scores_RC.shape, self._floor, _TALL, _WIDE, num_warps=_WARPS)
        row_top, row_total, column_top, column_total = seen
        for side, tops, totals in ((rows, row_top, row_total), (columns, column_top, column_total)):
            if side is not None:
                top = tops.amax(0)
                side.add(top, totals.mul_((tops - top).exp_()).sum(0), top)

    def probabilities(self, tile: Tile, scores_RC: Tensor, row_shift_R: Placed) -> Tensor:
        row_R, column_C = row_shift_R[tile.rows].contiguous(), tile.read["shift"].contiguous()
        _probabilities[self._grid(scores_RC)](
            scores_RC, row_R, column_C, *scores_RC.shape, _TALL, _WIDE, num_warps=_WARPS
        )
        return scores_RC

    def questions(
        self,
        scores_RC: Tensor,
        rows: Asked | None,
        columns: Asked | None,
        weights: tuple[Tensor, Tensor] | None,
        spread_RC: Tensor | None,
    ) -> Tensor:
        seen = self._seen(scores_RC, 3, 2)
        row_R, column_C = weights or (self._like, self._like)
        _questions[self._grid(scores_RC)](
            scores_RC,
            row_R.contiguous(),
            column_C.contiguous(),
            self._like if spread_RC is None else spread_RC.contiguous(),
            *seen,
            *scores_RC.shape,
            self._floor,
            weights is not None,
            spread_RC is not None,
            self._terms,
            _TALL,
            _WIDE,
            num_warps=_WARPS,
        )
        row_loss, row_top, row_d, column_loss, column_top = seen
        for asked, losses, tops in ((rows, row_loss, row_top), (columns, column_loss, column_top)):
            if asked is not None:
                asked.loss.add_(losses.sum(0))
                torch.maximum(asked.top, tops.amax(0), out=asked.top)
        if rows is not None and rows.d_total is not None:
            rows.d_total.add_(row_d.sum(0))
        return scores_RC

    def _seen(self, scores_RC: Tensor, of_rows: int, of_columns: int) -> list[Tensor]:
        """Memory for what every block says of its rows and of its columns."""
        R, C = scores_RC.shape
        down, across = self._grid(scores_RC)
        return [
            *(scores_RC.new_empty((across, R)) for _ in range(of_rows)),
            *(scores_RC.new_empty((down, C)) for _ in range(of_columns)),
        ]

    @staticmethod
    def _grid(scores_RC: Tensor) -> tuple[int, int]:
        R, C = scores_RC.shape
        return triton.cdiv(R, _TALL), triton.cdiv(C, _WIDE)


@triton.jit
def _block(scores, R, C, TALL: tl.constexpr, WIDE: tl.constexpr):
    """Of this program: rows, columns, and where in the tile which of its scores are."""
    i = tl.program_id(0) * TALL + tl.arange(0, TALL)
    j = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    return i, j, scores + i[:, None].to(tl.int64) * C + j[None, :], (i < R)[:, None] & (j < C)[None, :]


@triton.jit
def _fold(scores, row_top, row_total, column_top, column_total, R, C, floor, TALL: tl.constexpr, WIDE: tl.constexpr):
    i, j, at, inside = _block(scores, R, C, TALL, WIDE)
    score = tl.load(at, mask=inside, other=-float("inf"))
    top_i = tl.maximum(tl.max(score, 1), floor)
    top_j = tl.maximum(tl.max(score, 0), floor)
    of_i, of_j = tl.program_id(1) * R + i, tl.program_id(0) * C + j
    tl.store(row_top + of_i, top_i, mask=i < R)
    tl.store(row_total + of_i, tl.sum(tl.exp(score - top_i[:, None]), 1), mask=i < R)
    tl.store(column_top + of_j, top_j, mask=j < C)
    tl.store(column_total + of_j, tl.sum(tl.exp(score - top_j[None, :]), 0), mask=j < C)


@triton.jit
def _probabilities(scores, row_shift, column_shift, R, C, TALL: tl.constexpr, WIDE: tl.constexpr):
    i, j, at, inside = _block(scores, R, C, TALL, WIDE)
    score = tl.load(at, mask=inside, other=-float("inf"))
    row = tl.load(row_shift + i, mask=i < R, other=0.0)
    column = tl.load(column_shift + j, mask=j < C, other=0.0)
    tl.store(at, tl.exp(score - row[:, None]) + tl.exp(score - column[None, :]), mask=inside)


@triton.jit
def _questions(
    scores,
    row_weight,
    column_weight,
    spread,
    row_loss,
    row_top,
    row_d,
    column_loss,
    column_top,
    R,
    C,
    floor,
    WEIGHED: tl.constexpr,
    SPREAD: tl.constexpr,
    TERMS: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    i, j, at, inside = _block(scores, R, C, TALL, WIDE)
    score = tl.load(at, mask=inside, other=-float("inf"))
    of_i, of_j = tl.program_id(1) * R + i, tl.program_id(0) * C + j
    loss = _softplus(score, TERMS)
    tl.store(row_loss + of_i, tl.sum(loss, 1), mask=i < R)
    tl.store(column_loss + of_j, tl.sum(loss, 0), mask=j < C)
    tl.store(row_top + of_i, tl.maximum(tl.max(score, 1), floor), mask=i < R)
    tl.store(column_top + of_j, tl.maximum(tl.max(score, 0), floor), mask=j < C)
    d = 1 / (1 + tl.exp(-score))
    if WEIGHED:
        row = tl.load(row_weight + i, mask=i < R, other=0.0)
        column = tl.load(column_weight + j, mask=j < C, other=0.0)
        d = d * (row[:, None] + column[None, :])
    if SPREAD:
        d = d - tl.load(spread + i[:, None].to(tl.int64) * C + j[None, :], mask=inside, other=0.0)
    tl.store(row_d + of_i, tl.sum(d, 1), mask=i < R)
    tl.store(at, d, mask=inside)


@triton.jit
def _softplus(x, TERMS: tl.constexpr):
    """log(1 + exp(x)). A GPU's logarithm loses all digits of one just above 1, and a rival's loss is such a one, so
    log(1 + e) is 2 artanh(e / (2 + e)) by its series: its argument is at most a third."""
    e = tl.exp(-tl.abs(x))
    z = e / (2 + e)
    square, series = z * z, z * 0.0
    for k in tl.static_range(TERMS):
        series = series * square + 1.0 / (2 * (TERMS - k) - 1)
    return tl.maximum(x, 0.0) + 2 * z * series
