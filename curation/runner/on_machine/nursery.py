"""A process that has loaded what tasks need, and forks a worker whenever it is handed one end of a line to it.

It reads nothing but those, starts no thread and ends with its parent. Of a command of ours it is a fork, which costs
nothing; of another program, of which nobody knows what its threads hold, a Python of its own, whose start and imports
cost a second once, however many workers there are, and while the parent works. (The forks of `multiprocessing` would
import the program that was started, a notebook or a script, once more.)
"""

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.spawn import get_preparation_data
from typing import Any

import pyarrow as pa
import threadpoolctl

from curation.runner.calls import guarded, line_of
from curation.table.arrow import without_pandas
from pipeline.errors import ClipmillError
from pipeline.signals import STOP_SIGNALS

_START = "import sys; from curation.runner.on_machine.nursery import main; main(*map(int, sys.argv[1:]))"
NAME = "clipmill-tasks"  # in `top`; 15 letters at most
_DIES_WITH_PARENT, _NAME = 1, 15  # PR_SET_PDEATHSIG and PR_SET_NAME of <linux/prctl.h>


_UNFORKABLE = ("cv2", "ray", "torch")  # they have threads that Python does not see, and that a fork lacks


def may_fork() -> bool:
    """Whether a fork of this process, if it is a command of ours, is as good as new. Threads that numpy and pyarrow
    have are no hindrance: both see to forks."""
    return threading.active_count() == 1 and not any(name in sys.modules for name in _UNFORKABLE)


class Nursery:
    """The parent's side. OSError: no room for another process."""

    def __init__(self, is_fork: bool = False) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = _Fork(theirs.fileno()) if is_fork else _started(theirs.fileno())

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


def _started(line: int) -> subprocess.Popen[str]:
    places = os.pathsep.join(get_preparation_data(NAME)["sys_path"])  # what we can import
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START, str(line), str(os.getpid())],
        env={**os.environ, "PYTHONPATH": places},
        pass_fds=[line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


class _Fork:
    """A fork of this process as the nursery; what is asked of it is called as in Popen."""

    stderr = None  # it has nothing to say: all that it needs is there

    def __init__(self, line: int) -> None:
        parent = os.getpid()
        with warnings.catch_warnings(action="ignore"):  # of threads; see may_fork
            self.pid = os.fork()
        if self.pid == 0:
            try:
                main(line, parent)
            finally:
                os._exit(0)

    def poll(self) -> int | None:
        return None

    def kill(self) -> None:
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> None:
        with suppress(OSError):
            os.waitpid(self.pid, 0)


def main(line: int, parent: int) -> None:
    """The nursery's own side."""
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # to stop is the parent's business
    _named_and_bound(parent)
    _one_thread()
    import curation.runner.tasks  # noqa: F401

    without_pandas()
    gc.freeze()  # pages that the workers share stay shared
    _let_go(line)
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


def _one_thread() -> None:
    """As Ray's workers have it: there is a worker for every CPU."""
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        threadpoolctl.threadpool_limits(1)
        pa.set_cpu_count(1)


def _let_go(line: int) -> None:
    """Of all that is open but `line`, the parent's locks and terminal among it: libraries that print would break into
    its progress. Nothing takes their numbers: whoever knows one still writes to nowhere."""
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for each in map(int, os.listdir("/dev/fd")):
            if each not in (line, nothing.fileno()):
                os.dup2(nothing.fileno(), each, inheritable=each <= 2)


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
