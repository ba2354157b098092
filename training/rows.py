"""Named tensors of the rows of a step: what towers eat and give, and what terms read.

Letters: N rows, M flat rows.

A column without a slash has one entry for each row: `image`, `tokens`, `valid`. Columns `GROUP/...` are flat: any
number of entries a row, owned by the rows that `GROUP/owner` [M] names, rising. Flat columns travel with their owners.
A group without owners (a queue of the past) belongs to no row, and stays behind when rows are cut.
"""

import torch
from torch import Tensor

Rows = dict[str, Tensor]
Spans = dict[str, slice]

VALID = "valid"  # bool [N]: the row counts
OWNER = "owner"  # int64 [M] of a group: the row of each entry


def group_of(name: str) -> str:
    """The group of a column; "" for a column with one entry for each row."""
    return name.rpartition("/")[0]


def base_of(name: str) -> str:
    """The name of a column within its group."""
    return name.rpartition("/")[2]


def named(group: str, base: str) -> str:
    return f"{group}/{base}" if group else base


def owners_of(rows: Rows) -> Rows:
    """The owners of each group."""
    return {group_of(name): column for name, column in rows.items() if base_of(name) == OWNER}


def spans(owners: Rows, start: int, stop: int) -> Spans:
    """Where the entries of the rows from `start` up to `stop` lie, by group."""
    found = {"": slice(start, stop)}
    for group, owner_M in owners.items():
        edges = torch.tensor([start, stop], dtype=owner_M.dtype, device=owner_M.device)
        found[group] = slice(*torch.searchsorted(owner_M.contiguous(), edges).tolist())
    return found


def cut(rows: Rows, where: Spans) -> Rows:
    """The entries in `where`, as views; owners count from the first row of the piece."""
    pieces = {name: column[where[group_of(name)]] for name, column in rows.items() if group_of(name) in where}
    return {name: piece - where[""].start if base_of(name) == OWNER else piece for name, piece in pieces.items()}


def harmless(rows: Rows) -> Rows:
    """One row that does not count, with one entry in each group: what a rank computes on when it has nothing."""
    found = {}
    for name, column in rows.items():
        found[name] = column[:1] if len(column) else column.new_zeros((1, *column.shape[1:]))
        if name == VALID or base_of(name) == OWNER:
            found[name] = torch.zeros_like(found[name])
    return found


def joined(parts: list[Rows]) -> Rows:
    """The rows of several pieces, in the given order."""
    if len(parts) == 1:
        return parts[0]
    first, shifted = 0, []
    for part in parts:
        shifted.append({n: column + first if base_of(n) == OWNER else column for n, column in part.items()})
        first += len(part[VALID])
    return {name: torch.cat([part[name] for part in shifted]) for name in parts[0]}
