"""Files that are on disk for good when a call returns, and the hash of what was written."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import StorageError


@dataclass(frozen=True)
class FileEntry:
    """A finished file as COMPLETE.json lists it."""

    name: str
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


class HashedFile:
    """A file written once from start to end; its hash is of the bytes handed to the system, not of a second read."""

    def __init__(self, path: Path) -> None:
        self.path, self._hash, self._bytes = path, hashlib.sha256(), 0
        self._file = open(path, "wb")  # noqa: SIM115 (closed in `close`)

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def close(self) -> FileEntry:
        """On disk for good once this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileEntry(self.path.name, self._bytes, self._hash.hexdigest())


def write_hashed(path: Path, data: bytes) -> FileEntry:
    """One small file, fsynced and hashed."""
    file = HashedFile(path)
    file.write(data)
    return file.close()


def sync_folder(folder: Path) -> None:
    """The names in `folder` survive a power cut. Some network file systems refuse; then the rename alone must do."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """What a file system refuses becomes a StorageError naming `where`."""
    try:
        yield
    except OSError as error:
        hint = "free space and run the same command again; earlier checkpoints are untouched"
        found = f"could not be written ({error.strerror or error})"
        raise StorageError(str(where), found, "a writable folder with free space", hint) from error
