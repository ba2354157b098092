"""Exact counts of more words than fit into memory: what is over a bound is sorted, put aside, and merged at the end.

Nothing depends on the order of what is counted, nor on the bound: only sums of whole numbers are made, and keys come
out sorted.
"""

import heapq
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

_MOST_RUNS = 64  # files that are read at once


class SpillingCounter:
    """Holds at most `most` keys, and a line of each of 64 files. Keys have no tab and no line end."""

    def __init__(self, most: int) -> None:
        self._most, self._counted = most, Counter[str]()
        self._folder = tempfile.TemporaryDirectory(prefix="clipmill-counts-")
        self._runs: list[Path] = []
        self._made = 0

    def __enter__(self) -> "SpillingCounter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, keys: Iterable[str]) -> None:
        self._counted.update(keys)
        if len(self._counted) > self._most:
            self._spill(sorted(self._counted.items()))
            self._counted.clear()

    def items(self) -> Iterator[tuple[str, int]]:
        """(key, count), sorted by key. Counting is over then."""
        while len(self._runs) > _MOST_RUNS:
            some, self._runs = self._runs[:_MOST_RUNS], self._runs[_MOST_RUNS:]
            self._spill(_merged(map(_read, some)))
            for run in some:
                run.unlink()
        yield from _merged([*map(_read, self._runs), iter(sorted(self._counted.items()))])

    def _spill(self, rows: Iterable[tuple[str, int]]) -> None:
        path = Path(self._folder.name, f"{self._made:06d}")
        self._made += 1
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{key}\t{count}\n" for key, count in rows)
        self._runs.append(path)


def _read(path: Path) -> Iterator[tuple[str, int]]:
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            key, _, count = line.rstrip("\n").rpartition("\t")
            yield key, int(count)


def _merged(runs: Iterable[Iterator[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    for key, rows in itertools.groupby(heapq.merge(*runs), key=lambda row: row[0]):
        yield key, sum(count for _, count in rows)
