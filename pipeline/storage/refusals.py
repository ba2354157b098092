"""What a file system refuses, in words: the one place where an OSError becomes a StorageError."""

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EISDIR, errno.ENOTDIR)


@contextmanager
def storage_errors(where: str | Path, only: Collection[int] | None = None) -> Iterator[None]:
    """An OSError inside becomes a StorageError naming `where`; with `only`, those numbers alone do."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise refusal(where, error) from error


def refusal(where: str | Path, error: OSError) -> StorageError:
    """The StorageError that says what `error` means and what to do about it."""
    number = error.errno or 0
    full = number in FULL
    words = "no space left, or a quota reached" if full else os.strerror(number) if number else str(error)
    code = f" ({errno.errorcode[number]})" if number in errno.errorcode else ""
    hint = f"{'free space' if full else 'make it writable'} and run the same command again; what is done is kept"
    return StorageError(str(where), words + code, "a write that succeeds", hint)
