"""What a stage tells its run directory and is asked through it. Outside of one: nothing, at no cost.

    feed = feed_of("train", rank)          # on every rank; all but rank 0 are told nothing and asked nothing
    feed.beat(step, ...)                   # at every step
    if feed.asked(margin_s): ...           # a reason to stop, or 0

Nothing here fails a run: a heartbeat or a state that cannot be written is warned of, once.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.cluster.rundir import control, lock
from pipeline.cluster.rundir.heartbeat import Beat, write_beat
from pipeline.cluster.rundir.paths import ATTEMPT, RUN_DIR, RunDir
from pipeline.cluster.rundir.state import write_state
from pipeline.errors import ClipmillError, Fenced
from pipeline.log import get_logger
from pipeline.signals import ask_stop

log = get_logger("run")
ENDS_AT = "CLIPMILL_ENDS_AT"
LOOK_S, BEAT_S = 2.0, 0.5
CONTROL, LIMIT, OVERTAKEN = 1001, 1002, 1003
"""Reasons to stop besides signals, whose numbers are smaller; the largest of all ranks' is what they agree on."""
_WORDS = {CONTROL: "as control/stop asks", LIMIT: f"before {ENDS_AT}"}


def in_words(reason: int) -> str:
    """Why a run stopped, from the number that its ranks agreed on."""
    return _WORDS.get(reason, f"by signal {reason}")


def overtaken_error() -> Fenced:
    expected = "the newer one goes on from the last checkpoint; this one saves nothing more"
    return Fenced(os.environ.get(RUN_DIR, "run"), "a newer attempt has taken over", expected)


class Feed:
    """Outside of a run directory, and on every rank but the first."""

    is_live = False

    def beat(self, step: int, **known: Any) -> None:
        """The stage lives: `step` steps are done; `known`: other fields of a Beat."""

    def alive(self) -> None:
        """As `beat`, in the midst of what takes long: a save, an evaluation."""

    def task(self, done: int, of: int, phase: str) -> None:
        """A task of curation is done; a stop that is asked for reaches whoever notes signals in this process."""

    def asked(self, margin_s: float = 0.0) -> int:
        """A reason to stop, or 0; `margin_s`: what stopping takes, out of the time that is left."""
        return 0

    def save_asked(self) -> bool:
        return False

    def was_overtaken(self) -> bool:
        """Whether it was at the last look, 2 s ago at most; then this attempt writes nothing more."""
        return False

    def tell(self, **changes: Any) -> None:
        """Changes fields of state.json."""

    def saved(self, **changes: Any) -> None:
        """A checkpoint is committed."""


class RunFeed(Feed):
    """Rank 0 of an attempt."""

    is_live = True

    def __init__(
        self, run: RunDir, attempt: int, stage: str, ends_at: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._attempt, self._stage, self._ends_at, self._clock = run, attempt, stage, ends_at, clock
        self._looked_s = self._beat_s = -LOOK_S
        self._reason, self._save, self._warned = 0, False, False
        self._last: dict[str, Any] = {"step": 0}

    def beat(self, step: int, **known: Any) -> None:
        self._last = {**self._last, "step": step, **known}
        if self._clock() - self._beat_s >= BEAT_S:
            self.alive()

    def task(self, done: int, of: int, phase: str) -> None:
        self.beat(done, steps=of, phase=phase)
        if self.asked():
            ask_stop()

    def alive(self) -> None:
        self._beat_s = self._clock()
        beat = Beat(attempt=self._attempt, stage=self._stage, time=time.time(), **self._last)
        self._quietly(lambda: write_beat(self._run, beat))

    def asked(self, margin_s: float = 0.0) -> int:
        self._look()
        if not self._reason and self._ends_at is not None and time.time() + margin_s >= self._ends_at:
            self._reason = LIMIT
        return self._reason

    def save_asked(self) -> bool:
        self._look()
        return self._save

    def was_overtaken(self) -> bool:
        self._look()
        return self._reason == OVERTAKEN

    def _look(self) -> None:
        if self._clock() - self._looked_s < LOOK_S:
            return
        self._looked_s = self._clock()
        self._quietly(self._look_at_lock)
        if self._reason != OVERTAKEN and any(control.asked(self._run, word) is not None for word in ("stop", "cancel")):
            self._reason = CONTROL
        self._save = control.asked(self._run, "save") is not None

    def _look_at_lock(self) -> None:
        if lock.overtaken(self._run, self._attempt) is not None:
            self._reason = OVERTAKEN

    def tell(self, **changes: Any) -> None:
        self._quietly(lambda: write_state(self._run, self._attempt, stage=self._stage, **changes))

    def saved(self, **changes: Any) -> None:
        self.alive()
        self.tell(**changes)
        if self._save:
            self._save = False
            self._quietly(lambda: control.clear(self._run, "save"))

    def _quietly(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ClipmillError) as error:
            if not self._warned:
                log.warning("%s: %s; the run goes on", self._run.path, error)
            self._warned = True


def feed_of(stage: str, rank: int = 0, environment: Mapping[str, str] = os.environ) -> Feed:
    """The feed of this process; `rank` among those of the stage."""
    if rank or RUN_DIR not in environment or ATTEMPT not in environment:
        return Feed()
    ends_at = environment.get(ENDS_AT)
    run, attempt = RunDir(Path(environment[RUN_DIR])), int(environment[ATTEMPT])
    return RunFeed(run, attempt, stage, float(ends_at) if ends_at else None)


def run_here(environment: Mapping[str, str] = os.environ) -> str:
    """Names the run that this process belongs to; "" outside of one."""
    return environment.get(RUN_DIR, "")
