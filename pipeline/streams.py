"""Standard output and error that cannot end a run: a closed pipe or a full log disk takes the words, never the work."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Unbreakable:
    """A text stream that passes writes on for as long as it can, and then swallows them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # broken pipe, full disk, closed file, text it cannot encode
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def unbreakable_output() -> Iterator[None]:
    """`sys.stdout` and `sys.stderr` cannot raise inside, nor when the interpreter flushes them at its end."""
    _occupy_standard_files()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Unbreakable(_opened(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        for stream in before:
            _let_go(stream)


def _opened(stream: TextIO | None) -> TextIO:
    """Python has no stream where the caller closed the file (`>&-`)."""
    return stream if stream is not None else open(os.devnull, "w")


def _occupy_standard_files() -> None:
    """Where one of 0, 1, 2 is closed, the next file opened would get its number, and be written over by C libraries."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _let_go(stream: TextIO | None) -> None:
    """What a broken stream still holds goes to /dev/null, so that the flush at exit has nothing to complain about."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
