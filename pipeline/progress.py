"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_S = 5.0


class Meter:
    """Counts towards a total; `advance` and `note` are cheap enough to call per item."""

    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        self.total, self.label, self.unit, self.done, self.text = total, label, unit, done, ""

    def advance(self, n: int = 1) -> None:
        self.done += n
        self._show()

    def note(self, text: str) -> None:
        """A few words shown behind the count, such as the loss."""
        self.text = text
        self._show()

    def _show(self) -> None:
        """Draws; a subclass says how."""


class _Silent(Meter):
    """For ranks that do not speak."""


class _Bar(Meter):
    def __init__(self, bar: Progress, total: int, label: str, unit: str, done: int) -> None:
        super().__init__(total, label, unit, done)
        self._bar = bar
        self._task = bar.add_task(label, total=total, completed=done, text="")

    def _show(self) -> None:
        self._bar.update(self._task, completed=self.done, text=self.text)


class _Lines(Meter):
    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        super().__init__(total, label, unit, done)
        self._start, self._last, self._first = time.monotonic(), time.monotonic(), done

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_EVERY_S:
            self._last = now
            self.line()

    def line(self) -> None:
        spent_s = time.monotonic() - self._start
        rate = (self.done - self._first) / max(spent_s, 1e-9)
        words = f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s, {spent_s:.0f} s"
        print(f"{words} {self.text}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def progress(total: int, label: str, unit: str = "", *, done: int = 0, quiet: bool = False) -> Iterator[Meter]:
    """Shows work on `total` units of which `done` were finished before (a resumed job starts part way)."""
    if quiet:
        yield _Silent(total, label, unit, done)
        return
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield _Bar(bar, total, label, unit, done)
        return
    lines = _Lines(total, label, unit, done)
    yield lines
    lines.line()
