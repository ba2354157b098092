"""The same pair met twice in a step: each would be the false negative of the other, so neither is a rival."""

from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.interface import Problem


@dataclass(frozen=True)
class Twins:
    """`row_key_G` and `column_key_G` are equal, and not 0, where a row meets a text of a row with its id."""

    row_key_G: Tensor
    column_key_G: Tensor
    rows: Tensor  # positions whose key is not 0, ascending
    columns: Tensor
    row_list: list[int]  # the same, known without asking the device
    column_list: list[int]

    def hide(self, scores_RC: Tensor, rows: slice, columns: slice, value: float) -> None:
        r = self.rows[_cut(self.row_list, rows)]
        c = self.columns[_cut(self.column_list, columns)]
        if not len(r) or not len(c):
            return
        row_at, column_at = (r - rows.start)[:, None], c - columns.start
        same = self.row_key_G[r][:, None] == self.column_key_G[c]
        scores_RC[row_at, column_at] = scores_RC[row_at, column_at].masked_fill_(same, value)


def twins_of(problem: Problem, row_counts: list[int], owner_G: Tensor, peers: Peers) -> Twins | None:
    """Collective, of a problem with ids; None: none is met twice. `owner_G`: the row of every column, -1: nobody's."""
    ids_R = problem.ids_N
    assert ids_R is not None
    known_R = torch.ones_like(ids_R, dtype=torch.bool)
    if problem.queue_ED is not None:
        queued = torch.zeros(len(problem.queue_ED), dtype=ids_R.dtype, device=ids_R.device)
        named = problem.queue_ids_E is not None
        ids_R = torch.cat([ids_R, queued if problem.queue_ids_E is None else problem.queue_ids_E])
        known_R = torch.cat([known_R, torch.full_like(queued, named, dtype=torch.bool)])
    ids_G, _ = peers.gather_rows(ids_R, row_counts)
    known_G = known_R
    if peers.world > 1:
        known_G = peers.gather_rows(known_R.to(torch.uint8), row_counts)[0].bool()
    _, key_G, met = torch.unique(ids_G, return_inverse=True, return_counts=True)
    key_G = key_G + 1
    once = torch.zeros_like(met).index_add_(0, key_G[known_G] - 1, torch.ones_like(key_G[known_G])) < 2
    row_key_G = torch.where(known_G & ~once[key_G - 1], key_G, 0)
    column_key_G = torch.where(owner_G >= 0, row_key_G[owner_G.clamp(min=0)], 0)
    rows, columns = row_key_G.nonzero().squeeze(1), column_key_G.nonzero().squeeze(1)
    if not len(rows):
        return None
    return Twins(row_key_G, column_key_G, rows, columns, rows.tolist(), columns.tolist())


def _cut(positions: list[int], window: slice) -> slice:
    return slice(bisect_left(positions, window.start), bisect_left(positions, window.stop))
