"""What a listing tells of files: sizes and stamps of many at once, and none of them opened."""

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import StorageError
from pipeline.storage.address import basename, join, local_path, shown
from pipeline.storage.files import TEMP_PREFIX, ask_store, listed_rows, local_matches, reading

# What stores call a tag of the content, and where they have none the time of the last write.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "blob_id")
_TIMES = ("LastModified", "last_modified", "updated", "Last-Modified", "mtime", "created")
_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP)


class Listed(NamedTuple):
    """A file as a listing tells it. stamp: another one when the file was written to ("" where the store says nothing);
    is_link: a local path that ends in a symbolic link."""

    url: str
    bytes: int
    stamp: str
    is_link: bool = False


class Listing(NamedTuple):
    """files: sorted by address. others: names of what stands among them and is none (folders, pipes, dead links)."""

    files: list[Listed]
    others: list[str]


def listed(url: str) -> Listed:
    """One file. Raises StorageError when it is absent, or no file."""
    path = local_path(url)
    with reading(url):
        found = _remote_file(url, ask_store(url, _info)) if path is None else _local_file(url)
    if found is None:
        raise StorageError(shown(url), "a folder, pipe or device", "a file")
    return found


def list_folder(folder: str) -> Listing:
    """What is directly in `folder`, without unfinished temporary files; nothing when there is no such folder. One
    request, or one look at each file of a local folder."""
    path = local_path(folder)
    with reading(folder):
        try:
            names = sorted(os.listdir(path)) if path is not None else []
            rows = listed_rows(folder) if path is None else []
        except FileNotFoundError:
            return Listing([], [])
        if path is not None:
            return _local(join(folder, name) for name in names if not name.startswith(TEMP_PREFIX))
    urls = {join(folder, basename(row["name"])): row for row in rows}
    return _remote({url: row for url, row in urls.items() if not basename(url).startswith(TEMP_PREFIX)})


def list_matches(pattern: str) -> Listing:
    """What a pattern with `*`, `?` or `[...]` matches."""
    if local_path(pattern) is None:
        return _remote(ask_store(pattern, _matches))
    with reading(pattern):
        return _local(local_matches(pattern))


def list_tree(folder: str) -> list[Listed]:
    """All files below `folder`, at any depth, sorted by address, but hidden ones and what is in hidden folders (names
    that begin with a dot). Links are followed; a folder that is reached by several ways is looked through once."""
    path = local_path(folder)
    if path is None:
        rows = {join(folder, name): row for name, row in ask_store(folder, _tree).items() if "/." not in f"/{name}"}
        return _remote(rows).files
    found, seen = list[Listed](), set[tuple[int, int]]()
    with reading(folder):
        for here, folders, names in os.walk(path, onerror=_raised, followlinks=True):
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = os.path.relpath(here, path)
            place = folder if below == "." else join(folder, *below.split(os.sep))
            found += _local(join(place, name) for name in names if not name.startswith(".")).files
    return sorted(found)


def _raised(error: OSError) -> None:
    raise error


def _tree(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """By what follows `path` in their names."""
    fs.invalidate_cache()  # another process may have written since
    above = len(path.rstrip("/")) + 1
    return {name[above:]: row for name, row in fs.find(path, detail=True).items()}


def _info(fs: Any, path: str) -> dict[str, Any]:
    fs.invalidate_cache()  # of listings, which another process may have made untrue
    return fs.info(path)


def _matches(fs: Any, pattern: str) -> dict[str, dict[str, Any]]:
    fs.invalidate_cache()  # another process may have written since
    return {fs.unstrip_protocol(name): row for name, row in fs.glob(pattern, detail=True).items()}


def _remote(rows: Mapping[str, Mapping[str, Any]]) -> Listing:
    found = {url: _remote_file(url, rows[url]) for url in sorted(rows)}
    files = [file for file in found.values() if file is not None]
    return Listing(files, [url for url, file in found.items() if file is None])


def _remote_file(url: str, row: Mapping[str, Any]) -> Listed | None:
    if row["type"] != "file":
        return None
    tag = next((str(row[name]) for name in _TAGS if row.get(name)), "")
    time = next((_time(row[name]) for name in _TIMES if row.get(name)), "")
    size = int(row["size"] or 0)
    return Listed(url, size, f"{size}-{tag or time}" if tag or time else "")


def _time(value: Any) -> str:
    """Stores tell it as seconds, as a date or as a text, not always the same in a listing and for one file."""
    if isinstance(value, datetime):
        value = value.timestamp()
    return f"{value:.6f}" if isinstance(value, float | int) else str(value)


def _local(urls: Iterable[str]) -> Listing:
    files, others = [], []
    for url in urls:
        try:
            file = _local_file(url)
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            if os.path.lexists(url):
                others.append(url)  # a link to nothing; else somebody has just removed it
            continue
        if file is None:
            others.append(url)
        else:
            files.append(file)
    return Listing(files, others)


def _local_file(url: str) -> Listed | None:
    path = local_path(url)
    assert isinstance(path, Path)
    status = os.lstat(path)
    is_link = stat.S_ISLNK(status.st_mode)
    if is_link:
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return None
    return Listed(url, status.st_size, f"{status.st_size}-{status.st_mtime_ns}", is_link)
