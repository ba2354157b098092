"""Signals that ask for a stop, noted instead of obeyed at once: one rule for curation, ranks and their launcher.

The first SIGTERM, SIGUSR1, SIGUSR2 or SIGINT is noted: what is in hand is finished and kept, then the command ends
with 75. A second SIGINT interrupts at once; schedulers send SIGTERM more than once, so a second one changes nothing.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from pipeline.errors import Stopped

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
_armed: list["StopSignals"] = []


class StopSignals:
    """Notes stop signals while entered. Outside of the main thread, where Python takes none, it does nothing.

    `passed_on`, for a process that only waits for others: given every signal, which then interrupts nothing here.

    Forks (workers of the reader) inherit this. A scheduler signals them too, and a worker that dies of it would fail
    the step that is to be finished: a fork ignores the first signal and is killed by a second SIGTERM.
    """

    def __init__(self, passed_on: Callable[[int], None] | None = None) -> None:
        self.received = 0
        self._passed_on = passed_on
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self.arm()
        _armed.append(self)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before.clear()
        _armed.remove(self)

    def arm(self) -> None:
        """Takes the signals; again after a library (ray.init) has taken one for itself."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                before = signal.signal(number, self._note)
                self._before.setdefault(number, before)

    def check(self, command: str) -> None:
        """Stopped, naming the signal, if one was received."""
        if self.received:
            name = signal.Signals(self.received).name
            raise Stopped(command, f"stopped by {name}", "what is done is kept", "run the same command to go on")

    def _note(self, number: int, frame: FrameType | None) -> None:
        own = os.getpid() == self._process
        if self._passed_on is not None and own:
            self._passed_on(number)
        elif self.received and not own and number == signal.SIGTERM:
            os._exit(1)
        elif self.received and own and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def stop_asked() -> bool:
    """Whether a signal has asked this process to stop: for work so long that it looks for itself."""
    return any(each.received for each in _armed)


def ask_stop() -> None:
    """As if a signal had asked: for a stop that is asked for in another way."""
    for each in _armed:
        each.received = each.received or signal.SIGTERM
