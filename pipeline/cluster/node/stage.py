"""The process of a stage on this node: started with its output in the attempt's log, told to stop once, and ended with
everything that it started. As PID 1 of a container, and otherwise as their subreaper, this process inherits whatever
the stage leaves behind, and lets none of it stay a zombie.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_PR_SET_CHILD_SUBREAPER = 36
END_S = 5.0
"""What is killed has so long to be gone."""


class Stage:
    """One started command. `log` gets what it writes, and our own standard output gets it from there."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.code: int | None = None
        self.told: int = 0
        self._shown: BinaryIO | None = None
        with open(log, "ab") as output:
            # Its own session: a terminal's Ctrl-C reaches us alone, and we pass it on once.
            self._process = subprocess.Popen(
                list(words), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        with contextlib.suppress(OSError):
            self._shown = open(log, "rb")

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code once it has ended, negative for a signal. Reaps every other process that has ended, too."""
        self._show()
        self.code = reap().get(self.pid, self.code)
        self._process.returncode = self.code  # known to us, so that Popen waits for nothing
        return self.code

    def tell(self, number: int = signal.SIGTERM) -> None:
        """Asks it to save and stop; once, since a second signal may mean something else to it."""
        if not self.told and self.code is None:
            self.told = number
            self._process.send_signal(number)

    def end(self) -> None:
        """Kills it and everything that came of it; afterwards nothing of it is left, nor a zombie."""
        self.poll()
        self.code = end_all().get(self.pid, self.code)
        self._show()
        if self._shown is not None:
            self._shown.close()

    def _show(self) -> None:
        if self._shown is None or self._shown.closed:
            return
        with contextlib.suppress(OSError):
            while data := self._shown.read(1 << 16):
                sys.stdout.write(data.decode(errors="replace"))
            sys.stdout.flush()


def reap() -> dict[int, int]:
    """Exit codes, by process id, of all children of this process that have ended."""
    found: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found[pid] = os.waitstatus_to_exitcode(status)
    return found


def end_all() -> dict[int, int]:
    """Kills everything that came of this process; exit codes of those that were its children."""
    found, deadline = reap(), time.monotonic() + END_S
    while left := descendants():
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        found |= reap()
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def descendants(pid: int | None = None) -> list[int]:
    """Every process that came of `pid` (of this one), as /proc tells it; children before theirs."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{pid or os.getpid()}/task/{pid or os.getpid()}/children").read_text()
        for child in map(int, text.split()):
            found += [child, *descendants(child)]
    return found


def inherit_orphans() -> None:
    """From now on what the children of this process leave behind is its own, wherever it is no PID 1 anyway."""
    if sys.platform == "linux" and os.getpid() != 1:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
