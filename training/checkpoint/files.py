"""Files that are on disk for good when a call returns, and the hash of what was written."""

import contextlib
import os
from collections.abc import Iterable
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


def write_hashed(path: Path, blocks: Iterable[bytes | memoryview]) -> FileEntry:
    """One file from start to end, on disk for good; the hash is of the bytes handed to the system, not read again."""
    with open(path, "wb") as file:
        out = storage.HashedWriter(file)
        for block in blocks:
            out.write(block)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(path.name, out.position, out.sha256())


def sync_folder(folder: Path) -> None:
    """The names in `folder` survive a power cut. Some network file systems refuse; then the rename alone must do."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
