"""Where each query's best match stands among all keys, by tiles: never an N x N matrix.

Shape letters: Q queries, K keys, D features; R and C rows and columns of a tile.
"""

import torch
from torch import Tensor

from training.evals.model import Model, in_blocks

ROWS, COLUMNS = 1024, 8192  # of the largest tile of scores ever held


def spread_ranks(model: Model, queries: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor]) -> Tensor:
    """`ranks_of` for (features, ids) of all queries, blocks of them dealt to the ranks. Collective."""

    def ranks(block: range) -> Tensor:
        cut = slice(block.start, block.stop)
        return ranks_of(queries[0][cut], queries[1][cut], *keys)

    return in_blocks(model.peers, len(queries[0]), ROWS, ranks)


def ranks_of(query_RD: Tensor, query_id_R: Tensor, key_KD: Tensor, key_id_K: Tensor) -> Tensor:
    """int64 [R]: how many keys stand before each query's best match (a key of the same id); 0 is a hit at 1.

    Keys of equal score stand in order of position, so towers that give every input the same features score as chance
    and not as perfect. Every query must have a match.
    """
    best_R = torch.full_like(query_RD[:, 0], -torch.inf)
    place_R = torch.zeros_like(query_id_R)
    tiles = [slice(start, min(start + COLUMNS, len(key_KD))) for start in range(0, len(key_KD), COLUMNS)]
    for tile in tiles:
        scores_RC = query_RD @ key_KD[tile].T
        matches_RC = query_id_R[:, None] == key_id_K[None, tile]
        top_R, column_R = scores_RC.masked_fill(~matches_RC, -torch.inf).max(dim=1)
        # max() may name any of equal columns; the first one is wanted.
        first_RC = matches_RC & (scores_RC == top_R[:, None])
        column_R = torch.where(first_RC.any(1), first_RC.int().argmax(1), column_R)
        better_R = top_R > best_R
        best_R = torch.where(better_R, top_R, best_R)
        place_R = torch.where(better_R, column_R + tile.start, place_R)
    before_R = torch.zeros_like(query_id_R)
    for tile in tiles:
        scores_RC = query_RD @ key_KD[tile].T
        position_C = torch.arange(tile.start, tile.stop, device=scores_RC.device)
        ahead_RC = (scores_RC > best_R[:, None]) | (
            (scores_RC == best_R[:, None]) & (position_C[None, :] < place_R[:, None])
        )
        before_R += ahead_RC.sum(1)
    return before_R
