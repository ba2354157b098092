"""Files that are on disk for good when a call returns, and the hash of what was written."""

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import storage


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
        self.path, self._file = path, open(path, "wb")  # closed in `close`
        self._out = storage.HashedWriter(self._file)

    def write(self, data: bytes | memoryview) -> None:
        self._out.write(data)

    def close(self) -> FileEntry:
        """On disk for good once this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileEntry(self.path.name, self._out.position, self._out.sha256())


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
