"""Where every rank's rows and columns stand in the step, and which of their scores are no rivals.

Positions are global: ranks in order; of a rank its valid images, then its queue; its texts as they were given.
"""

from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import DataError
from training.ranks.peers import Peers
from training.terms.cores.interface import Problem
from training.terms.cores.problem.twins import Twins, twins_of


@dataclass(frozen=True)
class Segment:
    """Of one rank: its rows (of which the first `pairs` have texts) and its columns."""

    rows: slice
    columns: slice
    pairs: int


@dataclass(frozen=True)
class Layout:
    segments: list[Segment]
    rank: int
    owner_G: Tensor | None  # global position of the row of every column, -1: nobody's; None: no rank has extra texts
    twins: Twins | None

    @property
    def own(self) -> Segment:
        return self.segments[self.rank]

    @property
    def rows(self) -> int:
        return self.segments[-1].rows.stop

    @property
    def columns(self) -> int:
        return self.segments[-1].columns.stop

    @property
    def row_counts(self) -> list[int]:
        return [length(segment.rows) for segment in self.segments]

    @property
    def column_counts(self) -> list[int]:
        return [length(segment.columns) for segment in self.segments]

    @property
    def row_pairs(self) -> list[int]:
        return [segment.pairs for segment in self.segments]

    @property
    def pairs(self) -> int:
        return sum(segment.pairs for segment in self.segments)

    @property
    def plain(self) -> bool:
        """Every column is a row's only text and every row has one; no pair is met twice."""
        return self.columns == self.rows == self.pairs and self.twins is None

    def owners(self, device: torch.device) -> Tensor:
        """The row of every column, both global; -1: nobody's."""
        if self.owner_G is not None:
            return self.owner_G.to(device)
        starts = [(segment.rows.start, segment.pairs) for segment in self.segments]
        return torch.cat([torch.arange(start, start + pairs, device=device) for start, pairs in starts])

    def hide(self, scores_RC: Tensor, rows: slice, columns: slice, value: float = -torch.inf) -> None:
        """Puts `value` where a row meets a text that it owns, or that a twin of it owns."""
        first = bisect_left(self.segments, rows.start + 1, key=lambda segment: segment.rows.stop)
        last = bisect_left(self.segments, rows.stop, key=lambda segment: segment.rows.start)
        for segment in self.segments[first:last]:
            pairs = slice(segment.rows.start, segment.rows.start + segment.pairs)
            firsts = slice(segment.columns.start, segment.columns.start + segment.pairs)
            r, c = common(rows, pairs), common(columns, firsts)
            if length(r) and length(c):
                block = scores_RC[within(r, rows), within(c, columns)]
                block.diagonal((r.start - pairs.start) - (c.start - firsts.start)).fill_(value)
            extra = common(columns, slice(firsts.stop, segment.columns.stop))
            if length(extra) and self.owner_G is not None:
                _hide_extra(scores_RC, self.owner_G[extra], rows, within(extra, columns), value)
        if self.twins is not None:
            self.twins.hide(scores_RC, rows, columns, value)


def lay_out(problem: Problem, peers: Peers) -> Layout:
    """Collective; waits for the device once where there are other ranks, and once more where there are ids.

    DataError: no rank holds a valid row.
    """
    assert problem.owner_M is not None, "valid_of gives every text an owner"
    pairs, columns = len(problem.image_ND), len(problem.text_MD)
    rows = pairs + (0 if problem.queue_ED is None else len(problem.queue_ED))
    sizes = [[pairs, rows, columns]]
    if peers.world > 1:
        own = torch.tensor(sizes, device=problem.image_ND.device)
        sizes = peers.gather_rows(own, [1] * peers.world)[0].tolist()
    segments, row, column = [], 0, 0
    for pairs, rows, columns in sizes:
        segments.append(Segment(slice(row, row + rows), slice(column, column + columns), pairs))
        row, column = row + rows, column + columns
    if not any(segment.pairs for segment in segments):
        raise DataError(
            "contrastive loss", "no valid pair in the whole step", "at least one", "look at the reader's reasons"
        )
    owner_G = None
    if column > sum(segment.pairs for segment in segments):
        start = segments[peers.rank].rows.start
        placed_M = torch.where(problem.owner_M >= 0, problem.owner_M + start, -1)
        owner_G, _ = peers.gather_rows(placed_M, [length(segment.columns) for segment in segments])
    layout = Layout(segments, peers.rank, owner_G, None)
    if problem.ids_N is None:
        return layout
    owners = layout.owners(problem.ids_N.device)
    return Layout(segments, peers.rank, owner_G, twins_of(problem, layout.row_counts, owners, peers))


def _hide_extra(scores_RC: Tensor, owner_C: Tensor, rows: slice, columns: slice, value: float) -> None:
    here_C = (owner_C >= rows.start) & (owner_C < rows.stop)
    row_C = torch.where(here_C, owner_C - rows.start, 0)
    column_C = torch.arange(columns.start, columns.stop, device=scores_RC.device)
    # One entry a column is written: as it was, where its owner is elsewhere. So nothing waits for a count.
    was_C = scores_RC[row_C, column_C]
    scores_RC[row_C, column_C] = torch.where(here_C, torch.full_like(was_C, value), was_C)


def length(cut: slice) -> int:
    return max(cut.stop - cut.start, 0)


def common(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def within(cut: slice, outer: slice) -> slice:
    """A global cut as one of a tensor that begins where `outer` does."""
    return slice(cut.start - outer.start, cut.stop - outer.start)
