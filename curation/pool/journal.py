"""Answers that cost something, durable one by one before they count, until they are in a pool's columns.

    <columns folder>/journal/<token>-<turn>.jsonl      lines of a process at work, which holds a lock on its file
                            /<token>-<turn>-<n>.jsonl  on an object store, which cannot append: whole files

A process has one token, and one turn after the other: what a turn had to say is said elsewhere when it is removed. A
line is a JSON object. A process that is killed in the middle of a line leaves half of it, which says nothing.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.storage import local_path

FOLDER = "journal"
BY = "by"


class Journal:
    """What `add` was given is durable when it returns. Not for two threads at a time. by: on whose behalf, said in the
    first line."""

    def __init__(self, columns: str, by: str = "", token: str = "", turn: int = 0) -> None:
        self._columns, self._by, self._files = columns, by, 0
        self.token, self.turn = token or secrets.token_hex(8), turn
        self._folder, self._name = storage.join(columns, FOLDER), f"{self.token}-{turn:08d}"
        self._path = local_path(storage.join(self._folder, f"{self._name}.jsonl"))
        self._file, self._is_begun = None, not by
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

    def next(self) -> "Journal":
        """The same process goes on in another one."""
        return Journal(self._columns, self._by, self.token, self.turn + 1)

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        if not data:
            return
        if not self._is_begun:
            data, self._is_begun = json.dumps({BY: self._by}).encode() + b"\n" + data, True
        if self._file is None:
            storage.publish_bytes(storage.join(self._folder, f"{self._name}-{self._files:08d}.jsonl"), data)
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
            for name in names(self._columns):
                if name.startswith((f"{self._name}.", f"{self._name}-")):
                    storage.remove(storage.join(self._folder, name))


def names(columns: str) -> list[str]:
    """The files of all journals beside the columns."""
    return [name for name in storage.list_names(storage.join(columns, FOLDER)) if name.endswith(".jsonl")]


def token_of(name: str) -> str:
    return name.removesuffix(".jsonl").split("-")[0]


def turn_of(name: str) -> int:
    parts = name.removesuffix(".jsonl").split("-")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def lines_of(columns: str, name: str) -> Iterator[dict[str, Any]]:
    """Of one file, without what a kill cut off; none of one that its writer has removed meanwhile."""
    url = storage.join(columns, FOLDER, name)
    try:
        data = storage.read_bytes(url)
    except StorageError:
        if storage.exists(url):
            raise
        return
    for line in data.split(b"\n")[:-1]:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def dead(columns: str) -> list[str]:
    """The tokens of processes that have ended. On an object store, where no lock tells, all: ask for it only where
    nobody else is at work."""
    ended: dict[str, bool] = {}
    for name in names(columns):
        path = local_path(storage.join(columns, FOLDER, name))
        ended[token_of(name)] = ended.get(token_of(name), True) and (path is None or not _is_held(path))
    return sorted(token for token, is_dead in ended.items() if is_dead)


def _is_held(path: os.PathLike[str]) -> bool:
    """Also one that is gone by now: somebody alive has removed it."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


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
