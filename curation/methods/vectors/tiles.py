"""A cluster cut into tiles, so that a giant one is compared by many tasks with bounded memory: its vectors are dealt
into blocks by a hash of the uid, and each two blocks meet in a tile. What is found does not depend on the blocks."""

import numpy as np

from pipeline.draws import hashed_u64, mixed

BLOCK = 32_768
"""Vectors of a block, about."""
_FEW = np.uint64(2**20)  # blocks of a cluster are fewer


def blocks_for(members: np.ndarray) -> np.ndarray:
    """int64: into how many blocks a cluster of so many is cut."""
    return np.maximum(-(-members // BLOCK), 1)


def dealt(uids: list[str], blocks: np.ndarray) -> np.ndarray:
    """int64: the block of each."""
    if not len(uids) or blocks.max() == 1:
        return np.zeros(len(uids), np.int64)
    return (mixed(hashed_u64(uids)) % blocks.astype(np.uint64)).astype(np.int64)


def tiles(block: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row of `block`, number of the tile, whether it is of the tile's second block) of each tile that a row is in."""
    row = np.repeat(np.arange(len(block)), blocks)
    other = np.arange(len(row)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    mine = block[row]
    first, second = np.minimum(mine, other).astype(np.uint64), np.maximum(mine, other).astype(np.uint64)
    return row, first * _FEW + second, mine > other


def groups(cluster: np.ndarray, tile: np.ndarray) -> np.ndarray:
    """uint64 naming both; others may share one by chance."""
    return mixed(mixed(cluster.astype(np.uint64)) ^ tile)
