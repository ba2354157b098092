"""Which tile a core works with: as the recipe says, or the one of a few that this device is fastest with."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch

from training.ranks.peers import Peers

Sides = tuple[int, int]  # rows and columns of a tile

_CANDIDATES: dict[str, tuple[Sides, ...]] = {
    "cpu": ((512, 512), (1024, 1024), (512, 2048)),
    "cuda": ((2048, 2048), (4096, 4096), (2048, 8192)),
}
_TRIES = 3
AUTO = "auto"
Tiles = dict[str, Sides]  # by the name of a term
T = TypeVar("T", bound=Any)


def chosen_tile(wanted: int | Sides | str, width: int, peers: Peers) -> Sides:
    """Collective. `wanted`: a side, both, or "auto": then every rank tries a few on features of `width` numbers, tenths
    of a second on a CPU, and all take the choice of rank 0. To be asked for once in a run, and recorded with it
    (`with_tiles`): rounding depends on the tile.
    """
    if not isinstance(wanted, str):
        return (wanted, wanted) if isinstance(wanted, int) else wanted
    if wanted != AUTO:
        raise ValueError(f"tile {wanted!r}, expected a number, two, or auto")
    chosen = fastest(_CANDIDATES["cuda" if peers.device.type == "cuda" else "cpu"], width, peers.device)
    rows, columns = peers.broadcast_object(chosen)
    return rows, columns


def largest_tile(device: str) -> Sides:
    """The one that holds most of those that "auto" may choose on a kind of device."""
    found = _CANDIDATES["cpu" if device == "cpu" else "cuda"]
    return max(found, key=lambda sides: sides[0] * sides[1])


def with_tiles(terms: Iterable[T], width: int, peers: Peers, kept: Mapping[str, Sides]) -> tuple[tuple[T, ...], Tiles]:
    """The terms (settings with `called`), those with `tile: auto` with the tile that they work with; and these tiles,
    to be kept in checkpoints. `kept`: those of a checkpoint, which are taken as they are. Collective.
    """
    chosen: dict[str, Sides] = {}
    found = []
    for term in terms:
        if getattr(term, "tile", None) == AUTO:
            rows, columns = kept.get(term.called) or chosen_tile(AUTO, width, peers)
            chosen[term.called] = rows, columns
            term = term.model_copy(update={"tile": (rows, columns)})
        found.append(term)
    return tuple(found), chosen


def fastest(candidates: tuple[Sides, ...], width: int, device: torch.device) -> Sides:
    """The one that takes the least time a score, the best of a few tries each, in turns."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(_TRIES):
        for sides in candidates:
            best[sides] = min(best[sides], _seconds(sides, width, device) / (sides[0] * sides[1]))
    return min(candidates, key=lambda sides: best[sides])


def _seconds(sides: Sides, width: int, device: torch.device) -> float:
    """The work of a tile: scores, exponentials, and the two products of the gradient."""
    rows, columns = (torch.full((side, width), 1e-3, device=device) for side in sides)
    d_rows, d_columns, scores = torch.zeros_like(rows), torch.zeros_like(columns), rows.new_empty(sides)
    _settled(device)
    begun = time.perf_counter()
    for _ in range(2):  # two sweeps make scores
        torch.mm(rows, columns.T, out=scores)
        scores.exp_()
        scores.amax(1), scores.amax(0), scores.sum(1), scores.sum(0)
    d_rows.addmm_(scores, columns)
    d_columns.addmm_(scores.T, rows)
    _settled(device)
    return time.perf_counter() - begun


def _settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
