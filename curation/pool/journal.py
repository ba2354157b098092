"""Answers that cost something, durable one by one before they count, until they are in a pool's columns.

    <columns folder>/journal/<token>.jsonl          lines of a process at work, which holds a lock on its file
                            /<token>-<n>.jsonl      on an object store, which cannot append: whole files

A line is a JSON object. A process that is killed in the middle of a line leaves half of it, which says nothing.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pipeline import storage
from pipeline.storage import local_path

FOLDER = "journal"


class Journal:
    """What `add` was given is durable when it returns. Not for two threads at a time."""

    def __init__(self, columns: str) -> None:
        self._folder, self._token, self._files = storage.join(columns, FOLDER), secrets.token_hex(8), 0
        self._path = local_path(storage.join(self._folder, f"{self._token}.jsonl"))
        self._file = None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  it lives as long as this
            with suppress(
                OSError
            ):  # a file system without locks: the file counts as a dead one's, which is read as well
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        if not data:
            return
        if self._file is None:
            storage.publish_bytes(storage.join(self._folder, f"{self._token}-{self._files:08d}.jsonl"), data)
            self._files += 1
            return
        with storage.storage_errors(str(self._path)):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())

    def close(self, *, remove: bool) -> None:
        """Its lines stay for whoever comes next, or are of no more use."""
        if self._file is not None:
            self._file.close()
        if remove:
            own = [name for name in names(self._folder.removesuffix(f"/{FOLDER}")) if name.startswith(self._token)]
            for name in own:
                storage.remove(storage.join(self._folder, name))


def names(columns: str) -> list[str]:
    """The files of all journals beside the columns."""
    return [name for name in storage.list_names(storage.join(columns, FOLDER)) if name.endswith(".jsonl")]


def lines_of(columns: str, name: str) -> Iterator[dict[str, Any]]:
    """Of one file, without what a kill cut off."""
    for line in storage.read_bytes(storage.join(columns, FOLDER, name)).split(b"\n")[:-1]:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def remove(columns: str, name: str) -> bool:
    """False, and nothing removed, when the process that writes it is alive."""
    url = storage.join(columns, FOLDER, name)
    path = local_path(url)
    if path is None:
        storage.remove(url)
        return True
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
