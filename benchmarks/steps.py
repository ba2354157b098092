"""What each step of curation takes, for the benchmarks that run all of it."""

import resource
from collections.abc import Callable, Iterator
from typing import Any

from curation.runner import driver


class Steps:
    """`spent`: by the name of each step of the runs that go through it, what `clock` has gone on by (seconds, say);
    `begins` is told the name as a step begins, `ends` also what it took, all times together."""

    def __init__(
        self,
        clock: Callable[[], float],
        begins: Callable[[str], None] = lambda step: None,
        ends: Callable[[str, float], None] = lambda step, spent: None,
    ) -> None:
        self.spent: dict[str, float] = {}
        self._clock, self._begins, self._ends = clock, begins, ends
        self._real = driver.Driver._do

    def __enter__(self) -> "Steps":
        def do(work: Any, calls: list, label: str, unit: str, done: int = 0) -> Iterator[Any]:
            start, step = self._clock(), label or "freeing"
            self._begins(step)
            yield from self._real(work, calls, label, unit, done)
            self.spent[step] = self.spent.get(step, 0.0) + self._clock() - start
            self._ends(step, self.spent[step])

        driver.Driver._do = do  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        driver.Driver._do = self._real  # type: ignore[method-assign]


def processor_s() -> float:
    """Of this process, so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
