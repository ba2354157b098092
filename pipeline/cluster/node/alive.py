"""A process, named so that it can be found again: its number alone may be another one's by then."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError


@dataclass(frozen=True)
class Process:
    """began: the kernel's clock when it was started; "" where the kernel does not say."""

    host: str
    pid: int
    began: str = ""

    @staticmethod
    def of(pid: int) -> "Process":
        return Process(socket.gethostname(), pid, _began(pid))

    @staticmethod
    def parse(text: str) -> "Process":
        host, _, rest = text.rpartition(":")
        pid, _, began = rest.partition("@")
        if not pid.isdigit():
            raise DataError(text, "is no process", "host:pid@start", "the line was edited by hand?")
        return Process(host, int(pid), began)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}@{self.began}"

    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _state(self.pid) != "Z" and self.began == _began(self.pid)


def _fields(pid: int) -> list[str]:
    """Of /proc/<pid>/stat, from the third on: the second is a name that may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_fields(pid) or [""])[0]


def _began(pid: int) -> str:
    fields = _fields(pid)
    return fields[19] if len(fields) > 19 else ""
