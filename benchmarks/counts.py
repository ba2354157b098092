"""What a run in this process does, counted as it does it: tasks, files, and what is opened."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from curation.pool.store import ImageReader
from curation.runner import cluster, driver, exchange
from curation.runner.calls import Call
from curation.runner.closing import grouping
from curation.runner.costs import of_run
from curation.runner.costs.cost import Cost
from curation.table import packs, parquet
from pipeline import storage
from pipeline.outputs import WORK
from pipeline.storage import files

FETCHING, FOLLOWING, CLOSING, ENDING = "fetching", "following", "closing", "ending"
_AREAS = {
    "curation.runner.redirects": FOLLOWING,
    "curation.runner.fetching": FETCHING,
    "curation.runner.closing": CLOSING,
    "curation.runner.tasks": CLOSING,
    "curation.runner.exchange": CLOSING,
    "curation.emit": ENDING,
    "curation.books": ENDING,
}
_DRIVERS = {FETCHING: "/fetched/", FOLLOWING: "/followed.json", CLOSING: rf"/{WORK}/\d+-", ENDING: f"/{WORK}/emit-"}
"""Files that the driver itself publishes."""


class Counts:
    """of: area -> Cost, while the block runs; expected: what the formulae say of segments, once these are done; calls:
    of the areas, with what they told, for who `keeps` them: 0.2 MB a bucket."""

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self.of: dict[str, Counter[str]] = {area: Counter() for area in (FETCHING, FOLLOWING, CLOSING, ENDING)}
        self.expected = Cost()
        self.job: Any = None
        self.calls: list[tuple[str, Call, Any]] = []
        # Of a Measure, by its segment: files of columns, shares, inputs; and packs that were opened again.
        self.columns: Counter[int] = Counter()
        self._shares: Counter[int] = Counter()
        self._new: Counter[int] = Counter()
        self._reopened = 0
        self._at: tuple[str, Call] | None = None
        self._is_ending = False
        self._stack = ExitStack()

    def cost(self, area: str) -> Cost:
        return Cost(**self.of[area])

    def __enter__(self) -> "Counts":
        run, emit = cluster.Inline.run, driver.Driver._emit
        replace, head, forward = os.replace, packs.read_slots, parquet.Forward.__init__
        counts = self

        def counting_run(place: Any, calls: Iterable[Call], *more: Any) -> Iterator[tuple[Call, Any]]:
            for call in calls:
                counts._begin(call)
                for _, told in run(place, [call], *more):
                    counts._end(told)
                    yield call, told

        def counting_emit(work: Any, *args: Any) -> Any:
            counts._closed(work)
            return emit(work, *args)

        def counting_replace(source: Any, target: Any) -> None:
            counts._published(Path(target))
            replace(source, target)

        def counting_slots(*args: Any) -> Any:
            counts._saw("packs")
            return head(*args)

        def counting_forward(*args: Any) -> None:
            counts._saw("tables")
            forward(*args)

        for owner, name, function in (
            (cluster.Inline, "run", counting_run),
            (driver.Driver, "_emit", counting_emit),
            (files.os, "replace", counting_replace),
            (packs, "read_slots", counting_slots),
            (parquet.Forward, "__init__", counting_forward),
        ):
            self._stack.enter_context(mock.patch.object(owner, name, function))
        for owner, name, what in (
            (storage, "read_parquet", "tables"),
            (parquet, "read_range", "tables"),
            (parquet, "read_slice", "tables"),
            (storage, "read_arrow", "kept"),
            (ImageReader, "read", "images"),
        ):
            self._stack.enter_context(mock.patch.object(owner, name, self._counting(what, getattr(owner, name))))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _counting(self, what: str, function: Any) -> Any:
        def counting(*args: Any, **named: Any) -> Any:
            self._saw(what)
            return function(*args, **named)

        return counting

    def _begin(self, call: Call) -> None:
        module, name = call.function.__module__, call.function.__name__
        area = next((area for head, area in _AREAS.items() if module.startswith(head)), "")
        self._at = ("" if name == "recheck" else area, call)

    def _end(self, told: Any) -> None:
        area, call = self._at or ("", None)
        if area and call is not None:
            self.of[area]["tasks"] += 1
            if self.keeps:
                self.calls.append((area, call, told))
            if area == CLOSING:
                self._told_of_closing(call, told)
        self._at = None

    def _told_of_closing(self, call: Call, told: Any) -> None:
        name = call.function.__name__
        if name == "share":
            self._shares[call.args[0]] += 1
        elif name == "claim":
            self._new[call.args[0]] += sum(told[0].values())
        elif call.function in (exchange.gather, grouping.merge):
            self._reopened += told

    def _saw(self, what: str) -> None:
        area = self._at[0] if self._at else ENDING if self._is_ending else ""
        if area:
            self.of[area][what] += 1

    def _published(self, target: Path) -> None:
        if self._at is None:
            for area, place in _DRIVERS.items():
                self.of[area]["files"] += re.search(place, str(target)) is not None
            return
        area, call = self._at
        if area:
            self.of[area]["files"] += 1
        if "columns" in target.parts and call.function.__name__ == "share":
            self.columns[call.args[0]] += 1

    def _closed(self, work: Any) -> None:
        """All segments are done, and their states are there."""
        self.job, self._is_ending = work.job, True
        made = {index: (self._shares[index], self.columns[index]) for index in self._shares}
        at, self._at = self._at, ("", None)  # type: ignore[assignment]  # what the formulae read is not counted
        self.expected = of_run.segments(work.job, work._told, made, self._new, self._reopened)
        self._at = at
