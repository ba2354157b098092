"""A process that has loaded what tasks need, and forks a worker whenever it is handed one end of a line to it.

It reads nothing but those, starts no thread and ends with its parent. What a start of Python and its imports cost, a
second, is paid once, however many workers there are, and while the parent works. (The forks of `multiprocessing` would
import the program that was started, a notebook or a script, once more.)
"""

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.spawn import get_preparation_data
from typing import Any

from curation.runner.calls import guarded, line_of
from pipeline.errors import ClipmillError
from pipeline.signals import STOP_SIGNALS

_START = "import sys; from curation.runner.on_machine.nursery import main; main(int(sys.argv[1]))"
NAME = "clipmill-tasks"  # in `top`; 15 letters at most
_DIES_WITH_PARENT, _NAME = 1, 15  # PR_SET_PDEATHSIG and PR_SET_NAME of <linux/prctl.h>


class Nursery:
    """The parent's side."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            # What we can import, and as Ray's workers a thread each, as there is a worker for every CPU.
            places = os.pathsep.join(get_preparation_data(NAME)["sys_path"])
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno())],
                env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": places},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )

    def worker(self) -> Connection:
        """A line to a new worker, which says hello on it once it is there. OSError when the nursery has ended."""
        mine, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._line, [b"w"], [theirs.fileno()])
            except OSError:
                mine.close()
                raise
        return Connection(mine.detach())

    def said(self) -> str:
        """What kept it from starting: the last line that it wrote. Empty while it lives."""
        lines = self._process.stderr.read().split("\n") if self._process.stderr and self._process.poll() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self, has_workers: bool) -> None:
        """Kills the workers, whatever they do, and waits for the end of all."""
        self._line.close()
        if not has_workers:  # it would first load all that they need
            self._process.kill()
        self._process.communicate()


def main(line: int) -> None:
    """The nursery's own side."""
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # to stop is the parent's business
    _named_and_bound(os.getppid())
    import curation.runner.tasks  # noqa: F401

    with suppress(ImportError):
        import pandas  # noqa: F401, as pyarrow would in each worker, to see whether an array is of it
    gc.freeze()  # pages that the workers share stay shared
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)  # what libraries print would break into the parent's progress
    workers: list[int] = []
    with socket.socket(fileno=line) as orders:
        try:
            while True:
                order, handles, _, _ = socket.recv_fds(orders, 1, 1)
                if not order:
                    return
                workers = [pid for pid in workers if os.waitpid(pid, os.WNOHANG) == (0, 0)]
                workers += [pid for handle in handles if (pid := _forked(orders, handle))]
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _forked(orders: socket.socket, handle: int) -> int:
    """The process of a worker that serves on `handle`; 0 where there is no room for one, which the parent hears."""
    nursery, pid = os.getpid(), 0
    try:
        pid = os.fork()
    except OSError:
        os.close(handle)
        return 0
    if pid:
        os.close(handle)
        return pid
    code = 1
    try:
        orders.close()
        _named_and_bound(nursery)
        _serve(Connection(handle))
        code = 0
    finally:
        os._exit(code)


def _named_and_bound(parent: int) -> None:
    """Dies with its parent from now on, even with one that is killed. Elsewhere than on Linux its line tells it."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_NAME, NAME.encode())
        libc.prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _serve(line: Connection) -> None:
    """Answers calls until nobody asks any more."""
    job: Any = None
    line.send(os.getpid())
    with suppress(EOFError, OSError):
        while True:
            try:
                function, given = line.recv()
                if function is None:
                    job = given
                else:
                    line.send(guarded(function, job, *given))
            except (EOFError, OSError):
                raise
            except Exception as error:  # what cannot be sent
                found = f"{type(error).__name__}: {line_of(error)}"
                line.send((None, ClipmillError("curate", found, "", "try curate.ray.address=inline")))
