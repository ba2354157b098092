"""Files, local or remote, behind one small set of functions: whole reads, range reads and atomic publishing.

Every path is a `str`: a local path or an fsspec URL. Nothing half-written is ever visible under a final name: `publish`
writes aside, then renames (local) or uploads (remote, where a PUT is atomic). The only importer of fsspec.

Errors: `StorageError` when a file system says no; `DataError` when a file is shorter or other than it should be.
"""

import errno
import glob as local_glob
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import tenacity

from pipeline.errors import DataError, StorageError
from pipeline.storage.address import basename, join, local_path, scheme_of, shown
from pipeline.storage.refusals import FULL, REFUSED, storage_errors

__all__ = ["basename", "join", "shown"]  # passed on; the rest is defined here

READ_ONLY = ("http", "https")
TEMP_PREFIX = ".tmp-"
TEMP_NAME = re.compile(r"\.tmp-[0-9a-f]{12}-")  # what `publish` writes aside; others may have a .tmp-file, too

ATTEMPTS = 5
_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP)  # another writer's temporary file, renamed since; a link to nothing
_WRONG_PLACE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_PERMANENT = (*_WRONG_PLACE, ImportError, ValueError, TypeError)  # another try would not help

T = TypeVar("T")


class Scratch(str):
    """The url of a file that is not waited for until it is on the disk: every start checks its bytes before anything is
    built upon them, and makes it again where a failure of power took some. A wait takes 1 to 4 ms."""


def _may_pass(error: BaseException) -> bool:
    """Whether another try might do better. A Ctrl-C or the end of the process is no error of the store."""
    return isinstance(error, Exception) and not isinstance(error, _PERMANENT)


def ask_store(url: str, action: Callable[[Any, str], T]) -> T:
    """`action(file system, path)`, tried again after errors that may pass. FileNotFoundError goes through."""

    def attempt() -> T:
        # Resolved on every call: fsspec caches its instances and renews them in a forked child.
        fs, path = fsspec.core.url_to_fs(url)
        return action(fs, path)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except FileNotFoundError:
        raise
    except ImportError as error:
        hint = f"install the fsspec driver of {scheme_of(url)}://"
        raise StorageError(shown(url), str(error), "an installed driver", hint) from error
    except Exception as error:
        found = f"{type(error).__name__}: {error}".replace(url, shown(url))
        raise StorageError(
            shown(url), found, "an answer", "check the address, the credentials and the network"
        ) from error


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Turns the errors of a read into StorageError naming the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(shown(url), "no such file", "a file that can be read") from error
    except OSError as error:
        hint = "check the disk and the permissions, then run the same command again"
        raise StorageError(shown(url), f"cannot be read: {error.strerror}", "a file that can be read", hint) from error


def _writing(url: str) -> AbstractContextManager[None]:
    """Turns the errors of a full or failing disk into StorageError; every other error goes through unchanged."""
    return storage_errors(shown(url), (*FULL, *REFUSED))


def exists(url: str) -> bool:
    """Whether a file or folder is there. Raises StorageError when the store does not answer."""
    path = local_path(url)
    if path is not None:
        with reading(url):  # a folder that may not be searched
            return path.exists()
    try:
        # Not fs.exists, which answers False when the store is unreachable.
        ask_store(url, lambda fs, at: fs.info(at))
    except FileNotFoundError:
        return False
    return True


def size(url: str) -> int:
    """Bytes in the file. Raises StorageError when absent."""
    path = local_path(url)
    with reading(url):
        return path.stat().st_size if path is not None else int(ask_store(url, lambda fs, at: fs.size(at)))


def stamp(url: str) -> str:
    """Changes when the file does (size and time, or the store's own tag). Of a store it is asked, never remembered."""
    path = local_path(url)
    with reading(url):
        if path is None:
            return str(ask_store(url, _tag))
        status = path.stat()
        return f"{status.st_size}-{status.st_mtime_ns}"


def _tag(fs: Any, path: str) -> Any:
    fs.invalidate_cache()  # of listings, which another process may have made untrue
    return fs.ukey(path)


def list_sizes(folder: str) -> dict[str, int]:
    """{name: bytes} of the files directly in `folder`, sorted; empty when there is no such folder. One request."""
    path = local_path(folder)
    with reading(folder):
        try:
            if path is not None:
                return _local_sizes(path)
            rows = listed_rows(folder)
        except FileNotFoundError:
            return {}
    return dict(sorted((basename(row["name"]), int(row["size"] or 0)) for row in rows if row["type"] == "file"))


def _local_sizes(folder: Path) -> dict[str, int]:
    found = {}
    for name in sorted(os.listdir(folder)):
        try:
            status = (folder / name).stat()
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = status.st_size
    return found


def listed_rows(folder: str) -> list[dict[str, Any]]:
    """What a store says of everything in `folder`. One request."""
    return ask_store(folder, _listing)


def _listing(fs: Any, path: str) -> list[dict[str, Any]]:
    fs.invalidate_cache()  # another process may have written since
    return fs.ls(path, detail=True)


def list_folders(folder: str) -> list[str]:
    """Names of the folders directly in `folder`, sorted; empty when there is no such folder."""
    path = local_path(folder)
    with reading(folder):
        try:
            if path is not None:
                return sorted(name for name in os.listdir(path) if (path / name).is_dir())  # False for a loop of links
            rows = listed_rows(folder)
        except FileNotFoundError:
            return []
    return sorted(basename(row["name"]) for row in rows if row["type"] == "directory")


def file_kind(url: str) -> str:
    """`file`, `folder`, `other` (a device, a pipe, a link to nothing) or `` when nothing is there."""
    path = local_path(url)
    if path is None:
        try:
            kind = ask_store(url, lambda fs, at: fs.info(at)["type"])
        except FileNotFoundError:
            return ""
        return {"file": "file", "directory": "folder"}.get(kind, "other")
    with reading(url):
        if path.is_dir() or path.is_file():
            return "folder" if path.is_dir() else "file"
    return "other" if os.path.lexists(path) else ""


def can_list(url: str) -> bool:
    """Whether the store can be asked what a folder holds: a web server cannot."""
    return scheme_of(url) not in READ_ONLY


def list_names(folder: str) -> list[str]:
    """Names of the files directly in `folder`, sorted; unfinished temporary files are not shown."""
    return [name for name in list_sizes(folder) if not name.startswith(TEMP_PREFIX)]


def glob(pattern: str) -> list[str]:
    """Files matching a pattern with `*`, `?` or `[...]`, sorted."""
    if local_path(pattern) is not None:
        return [name for name in local_matches(pattern) if os.path.isfile(name)]
    return sorted(ask_store(pattern, lambda fs, at: [fs.unstrip_protocol(name) for name in fs.glob(at)]))


def local_matches(pattern: str) -> list[str]:
    """Whatever a local pattern matches, sorted."""
    path = local_path(pattern)
    assert path is not None
    # A folder that is there is no pattern, whatever brackets its name holds.
    folder = local_glob.escape(str(path.parent)) if path.parent.is_dir() else str(path.parent)
    return sorted(local_glob.glob(join(folder, path.name)))


_WHOLE_BYTES = 128 << 20
"""The largest file that is read from a server which cannot send a part of it."""


class RangeReader:
    """One file open for range reads. Safe in threads and after a fork: reads carry their offset, nothing is shared."""

    def __init__(self, url: str) -> None:
        self.url, self._fd = url, None
        self._whole: bytes | None = None  # of a server that sends no less
        path = local_path(url)
        if path is not None:
            with reading(url):
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
                if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                    raise StorageError(shown(url), "a folder, pipe or device", "a file")

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end). Raises DataError when the file ends before `end`."""
        with reading(self.url):
            data = self._fetch(start, end) if self._fd is None else _pread(self._fd, start, end - start)
        if len(data) < end - start:
            where = f"{shown(self.url)} at byte {start}"
            raise DataError(where, f"{len(data)} bytes", f"{end - start} bytes: the file is cut or was replaced")
        return data if len(data) == end - start else self._cut_out(data, start, end)

    def _cut_out(self, whole: bytes, start: int, end: int) -> bytes:
        """Of more than was asked for: a plain web server sends all of a file, which is kept where it is not large."""
        if len(whole) > _WHOLE_BYTES or len(whole) != size(self.url):
            found = f"the server ignores range requests, and the file has over {_WHOLE_BYTES >> 20} MiB"
            hint = "copy the file to a folder, or serve it by one that knows ranges"
            raise StorageError(shown(self.url), found, "a store that can seek", hint)
        self._whole = whole
        return whole[start:end]

    def _fetch(self, start: int, end: int) -> bytes:
        if self._whole is not None:
            return self._whole[start:end]
        return ask_store(self.url, lambda fs, at: fs.cat_file(at, start=start, end=end)) if end > start else b""

    def __del__(self) -> None:
        # Closed by its last user, never under another thread's read.
        handle = getattr(self, "_fd", None)
        if handle is not None:
            os.close(handle)


def _pread(fd: int, start: int, length: int) -> bytes:
    data = os.pread(fd, length, start)
    while data and len(data) < length:  # one call returns at most 2 GiB
        more = os.pread(fd, length - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


def read_bytes(url: str, start: int | None = None, end: int | None = None, most: int | None = None) -> bytes:
    """The whole file, or bytes [start, end). Raises StorageError when absent, DataError when it ends before `end`, or
    when the whole file is larger than `most`: asked before it is read."""
    if most is not None and (found := size(url)) > most:
        raise DataError(shown(url), f"{found} bytes", f"at most {most}: it is no such file")
    if start is None and end is None and local_path(url) is None:
        with reading(url):
            return ask_store(url, lambda fs, at: fs.cat_file(at))
    return RangeReader(url).read(start or 0, size(url) if end is None else end)


@contextmanager
def publish(url: str) -> Iterator[Path]:
    """Yields a local path to write; on clean exit its bytes are at `url`, all at once; on any error nothing is. They
    are on the disk then, whatever fails next, unless `url` is a Scratch.

    Raises StorageError for a full, failing or read-only disk, whoever's write inside the block met it.
    """
    path = local_path(url)
    if path is None and scheme_of(url) in READ_ONLY:
        raise StorageError(shown(url), "cannot be written", "a local path or an object store")
    with _writing(url):
        if path is None:
            with tempfile.TemporaryDirectory(prefix="clipmill-") as folder:
                temp = Path(folder) / basename(url)
                yield temp
                ask_store(url, lambda fs, at: fs.put_file(str(temp), at))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.parent / f"{TEMP_PREFIX}{secrets.token_hex(6)}-{path.name}"
        try:
            yield temp
            lasts = not isinstance(url, Scratch)
            if lasts:
                _sync(temp)
            os.replace(temp, path)
            if lasts:
                _sync(path.parent)
        finally:
            with suppress(OSError):
                temp.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish_bytes(url: str, data: bytes) -> None:
    with publish(url) as path:
        path.write_bytes(data)


def publish_json(url: str, value: Any) -> None:
    """Sorted keys, indent 1, a newline at the end. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    publish_bytes(url, text.encode() + b"\n")


def remove(url: str, recursive: bool = False) -> None:
    """Removes a file (or with `recursive` a folder and all in it); nothing happens when it is absent."""
    path = local_path(url)
    with suppress(FileNotFoundError), _writing(url):
        if path is None:
            ask_store(url, lambda fs, at: fs.rm(at, recursive=recursive))
        elif recursive and path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def is_temp(name: str, of: str = "") -> bool:
    """Whether a name is one that `publish` writes aside (on its way to `of`)."""
    return bool(TEMP_NAME.match(name)) and name.endswith(f"-{of}" if of else "")


def sweep_temps(folder: str) -> int:
    """Removes what killed writers left directly in `folder`; returns how many. Only for the folder's one owner."""
    temps = [name for name in list_sizes(folder) if is_temp(name)]
    for name in temps:
        remove(join(folder, name))
    return len(temps)
