"""The kept uids of two datasets side by side, in order, a piece at a time: memory is that of two pieces."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.errors import DataError
from pipeline.outputs import SUBSET, VERDICTS

PIECE = 1 << 20
"""Uids read at once: 16 MB."""
_HEADER = 128
_UID = np.dtype("S16")  # compares as the uid's hex does; a shorter one is padded with zero bytes, so nothing is lost


class Step(NamedTuple):
    """A stretch of uids: those of one, their rows in its dataset, and those of the other, all sorted."""

    mine: np.ndarray
    rows: np.ndarray
    theirs: np.ndarray


class Uids:
    """`subset.npy` of a dataset, from front to back."""

    def __init__(self, folder: str) -> None:
        self._url = storage.join(folder, SUBSET)
        head = storage.read_bytes(self._url, 0, min(_HEADER, storage.size(self._url)))
        try:
            assert head[:8] == b"\x93NUMPY\x01\x00"
            self._start = 10 + int.from_bytes(head[8:10], "little")
            told = ast.literal_eval(storage.read_bytes(self._url, 10, self._start).decode("latin-1"))
            assert np.dtype([tuple(each) for each in told["descr"]]) == np.dtype([("f0", "<u8"), ("f1", "<u8")])
            (self.num,) = told["shape"]
        except (AssertionError, ValueError, SyntaxError, KeyError, TypeError) as error:
            raise DataError(
                self._url, "no list of uids as DataComp has them", "what `clipmill curate` writes"
            ) from error
        self._row = 0  # of the first uid in `here`
        self.here = np.zeros(0, _UID)
        self._read = 0

    def more(self) -> bool:
        """Whether there are uids in `here`, or were still in the file."""
        if not len(self.here) and self._read < self.num:
            stop = min(self._read + PIECE, self.num)
            data = storage.read_bytes(self._url, self._start + 16 * self._read, self._start + 16 * stop)
            self.here = np.frombuffer(data, "<u8").astype(">u8").view(_UID)
            self._read = stop
        return bool(len(self.here))

    @property
    def is_last(self) -> bool:
        return self._read >= self.num

    def take(self, bound: bytes | None) -> tuple[np.ndarray, np.ndarray]:
        """(uids up to `bound`, or all in `here`; their rows)."""
        number = len(self.here) if bound is None else int(np.searchsorted(self.here, np.array(bound, _UID), "right"))
        taken, self.here = self.here[:number], self.here[number:]
        rows = np.arange(self._row, self._row + number)
        self._row += number
        return taken, rows


def steps(mine: Uids, theirs: Uids) -> Iterator[Step]:
    """Through both, in order."""
    while mine.more() or theirs.more():
        ends = [each.here[-1] for each in (mine, theirs) if each.more()]
        bound = min(ends) if mine.more() and theirs.more() else ends[0]
        uids, rows = mine.take(bound)
        yield Step(uids, rows, theirs.take(bound)[0])


def absent(uids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """bool: which of `uids` are not in the sorted `among`."""
    if not len(among):
        return np.ones(len(uids), bool)
    at = np.minimum(np.searchsorted(among, uids), len(among) - 1)
    return among[at] != uids


class Fates:
    """Why a dataset dropped pairs, from front to back: its verdicts, a file at a time."""

    def __init__(self, folder: str) -> None:
        at = storage.join(folder, VERDICTS)
        names = storage.list_names(at) if storage.can_list(folder) else []
        self._urls = [storage.join(at, name) for name in names if name.endswith(".parquet")][::-1]
        self.are_known = bool(self._urls)  # a web server does not tell what it has
        self._uids, self._labels = np.zeros(0, _UID), np.zeros(0, object)

    def of(self, uids: np.ndarray) -> np.ndarray:
        """The stage and reason of each (sorted, and behind those asked before), None where it is not among them."""
        found = np.full(len(uids), None, object)
        while len(uids):
            mine = ~absent(uids, self._uids)
            if len(self._uids):
                at = np.searchsorted(self._uids, uids[mine])
                found[np.flatnonzero(mine)] = self._labels[at]
            if not self._urls or (len(self._uids) and uids[-1] <= self._uids[-1]):
                break
            self._uids, self._labels = _verdicts(self._urls.pop())
        return found


def _verdicts(url: str) -> tuple[np.ndarray, np.ndarray]:
    table = storage.read_parquet(url, ["uid", "stage", "reason"])
    hexes = table.column("uid").to_pylist()
    uids = np.frombuffer(bytes.fromhex("".join(hexes)), _UID)
    stages, reasons = (table.column(name).cast(pa.string()).to_pylist() for name in ("stage", "reason"))
    labels = np.array([f"{stage}.{reason}" for stage, reason in zip(stages, reasons, strict=True)], object)
    return uids, labels
