"""Processes that outlived the Ray they belong to: its workers lose their parent when it is killed."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PATIENCE_S = 3.0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def end_processes(folder: Path) -> None:
    """Kills Ray's processes whose files lie in `folder`, and waits until they are gone. Linux alone can tell which."""
    end = time.monotonic() + _PATIENCE_S
    while (left := list(_users(folder))) and time.monotonic() < end:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _users(folder: Path) -> Iterator[int]:
    """Processes of this Python or of Ray that have a file of `folder` open: all of Ray's write their logs there.

    Their command lines do not tell: a worker overwrites its own. Somebody who reads a log with another program is not
    meant, nor are we.
    """
    prefix, python = f"{folder.resolve()}/", os.path.realpath(sys.executable)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program = os.readlink(process / "exe")
            if int(process.name) == os.getpid() or not (program == python or "/ray/" in program):
                continue
            if any(_target(file).startswith(prefix) for file in (process / "fd").iterdir()):
                yield int(process.name)


def _target(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""
