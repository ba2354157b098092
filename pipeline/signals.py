"""Signals that ask a run to stop, noted instead of obeyed at once."""

import os
import signal
import threading
from types import FrameType, TracebackType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
    """While entered, SIGTERM, SIGUSR1 and SIGINT are noted instead of killing; a second SIGINT interrupts at once.

    Reader workers are forks and inherit this. A scheduler signals them too, and a worker that dies of it would fail the
    step that is to be finished: a fork ignores the first signal and is killed by a second SIGTERM.
    """

    def __init__(self) -> None:
        self.received = 0
        self._process = os.getpid()
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and os.getpid() != self._process and number == signal.SIGTERM:
            os._exit(1)
        if self.received and os.getpid() == self._process and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
