"""Files, local or remote, behind one small set of functions: whole reads, range reads and atomic publishing.

Every path is a `str`: a local path or an fsspec URL. Nothing half-written is ever visible under a final name: `publish`
writes aside, then renames (local) or uploads (remote, where a PUT is atomic). The only importer of fsspec.

Errors: `StorageError` when a file system says no; `DataError` when a file is shorter or other than it should be.
"""

import errno
import glob as local_glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import tenacity

from pipeline.errors import DataError, StorageError

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "hf", "memory", "http", "https")  # besides `file` and plain paths
READ_ONLY = ("http", "https")
TEMP_PREFIX = ".tmp-"
HASH_BLOCK = 4 << 20  # bytes
ATTEMPTS = 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EISDIR, errno.ENOTDIR)
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError, TypeError)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")  # two letters or more: a drive letter is no scheme

T = TypeVar("T")


def shown(url: str) -> str:
    """`url` as messages may print it: without user, password, query or fragment, which may hold secrets."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def scheme_of(url: str) -> str:
    """`file` for a local path, else the lower-case scheme. Raises StorageError for all but the known schemes."""
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else "file"
    chained = "::" in url and scheme != "file"
    if not url or url[0] in "|-" or "\0" in url or chained or (match and not match[2]) or scheme not in ("file", *SCHEMES):
        hint = "put ./ before a local path that holds a colon or starts with - or |"
        raise StorageError(repr(shown(url)), "not a path that is read", "a local path or a URL of " + ", ".join(SCHEMES), hint)
    return scheme


def _local(url: str) -> Path | None:
    """The local path, or None when `url` is remote."""
    if scheme_of(url) != "file":
        return None
    return Path(unquote(urlsplit(url).path)) if url[:7].lower() == "file://" else Path(url)


def join(base: str, *names: str) -> str:
    stem = base if not base or base.endswith("://") else base.rstrip("/") + "/"
    return stem + "/".join(names)


def basename(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _remote(url: str, action: Callable[[Any, str], T]) -> T:
    """`action(file system, path)`, tried again after errors that may pass. FileNotFoundError goes through."""

    def attempt() -> T:
        # Resolved on every call: fsspec caches its instances and renews them in a forked child.
        fs, path = fsspec.core.url_to_fs(url)
        return action(fs, path)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_not_exception_type(_PERMANENT),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise StorageError(shown(url), str(error), "an installed fsspec driver", f"install the driver of {scheme_of(url)}://") from error
    except Exception as error:
        raise StorageError(shown(url), f"{type(error).__name__}: {error}", hint="check the address, the credentials and the network") from error


def _missing(url: str) -> StorageError:
    return StorageError(shown(url), "no such file")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turns the errors of a full or failing disk into StorageError; every other error goes through unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            found, hint = "no space left or a quota reached", "free space and run the same command again"
        elif error.errno in _REFUSED:
            found, hint = os.strerror(error.errno), "make it writable (or free space) and run the same command again"
        else:
            raise
        raise StorageError(shown(url), f"{found} ({errno.errorcode[error.errno]})", "a write that succeeds", hint) from error


def exists(url: str) -> bool:
    path = _local(url)
    return path.exists() if path is not None else _remote(url, lambda fs, at: bool(fs.exists(at)))


def size(url: str) -> int:
    """Bytes in the file. Raises StorageError when absent."""
    path = _local(url)
    try:
        return path.stat().st_size if path is not None else int(_remote(url, lambda fs, at: fs.size(at)))
    except FileNotFoundError as error:
        raise _missing(url) from error


def stamp(url: str) -> str:
    """Changes when the file does (size and time, or the store's own tag): the key of a cache, never of a result."""
    path = _local(url)
    try:
        if path is None:
            return str(_remote(url, lambda fs, at: fs.ukey(at)))
        status = path.stat()
    except FileNotFoundError as error:
        raise _missing(url) from error
    return f"{status.st_size}-{status.st_mtime_ns}"


def list_sizes(folder: str) -> dict[str, int]:
    """{name: bytes} of the files directly in `folder`, sorted by name; empty when there is no such folder. One request."""
    path = _local(folder)
    try:
        if path is not None:
            found = {entry.name: entry.stat().st_size for entry in os.scandir(path) if entry.is_file()}
        else:
            rows = _remote(folder, _listing)
            found = {basename(row["name"]): int(row["size"] or 0) for row in rows if row["type"] == "file"}
    except FileNotFoundError:
        return {}
    return dict(sorted(found.items()))


def _listing(fs: Any, path: str) -> list[dict[str, Any]]:
    fs.invalidate_cache()  # another process may have written since
    return fs.ls(path, detail=True)


def list_names(folder: str) -> list[str]:
    """Names of the files directly in `folder`, sorted; unfinished temporary files are not shown."""
    return [name for name in list_sizes(folder) if not name.startswith(TEMP_PREFIX)]


def glob(pattern: str) -> list[str]:
    """Files matching a pattern with `*`, `?` or `[...]`, sorted."""
    path = _local(pattern)
    if path is not None:
        return sorted(name for name in local_glob.glob(str(path)) if os.path.isfile(name))
    return sorted(_remote(pattern, lambda fs, at: [fs.unstrip_protocol(name) for name in fs.glob(at)]))


class RangeReader:
    """One file open for range reads. Safe in threads and after a fork: reads carry their offset, nothing is shared."""

    def __init__(self, url: str) -> None:
        self.url, self._fd = url, -1
        path = _local(url)
        if path is not None:
            try:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise _missing(url) from error
            except OSError as error:
                raise StorageError(shown(url), str(error.strerror)) from error

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end). Raises DataError when the file ends before `end`."""
        data = self._pread(start, end - start) if self._fd >= 0 else self._fetch(start, end)
        if len(data) != end - start:
            raise DataError(shown(self.url), f"{len(data)} bytes at offset {start}", f"{end - start} bytes expected: the file is cut or replaced")
        return data

    def _pread(self, start: int, length: int) -> bytes:
        with _reading(self.url):
            data = os.pread(self._fd, length, start)
            while len(data) < length:  # a signal, or more than the 2 GiB a call may return
                more = os.pread(self._fd, length - len(data), start + len(data))
                if not more:
                    break
                data += more
        return data

    def _fetch(self, start: int, end: int) -> bytes:
        if start == end:
            return b""
        try:
            return _remote(self.url, lambda fs, at: fs.cat_file(at, start=start, end=end))
        except FileNotFoundError as error:
            raise _missing(self.url) from error

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError, TypeError):
            self.close()


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(shown(url), f"cannot be read: {error.strerror}", hint="check the disk, then run the same command again") from error


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The whole file, or bytes [start, end). Raises StorageError when absent, DataError when it ends before `end`."""
    if start is None and end is None and _local(url) is None:
        try:
            return _remote(url, lambda fs, at: fs.cat_file(at))
        except FileNotFoundError as error:
            raise _missing(url) from error
    reader = RangeReader(url)
    try:
        return reader.read(start or 0, size(url) if end is None else end)
    finally:
        reader.close()


def sha256_of(url: str) -> str:
    """Hex sha256 of the file, read in blocks."""
    digest, reader, total = hashlib.sha256(), RangeReader(url), size(url)
    for start in range(0, total, HASH_BLOCK):
        digest.update(reader.read(start, min(start + HASH_BLOCK, total)))
    return digest.hexdigest()


@contextmanager
def publish(url: str) -> Iterator[Path]:
    """Yields a local path to write; on clean exit its bytes are at `url`, all at once; on any error nothing is.

    Raises StorageError for a full, failing or read-only disk, whoever's write inside the block met it.
    """
    path = _local(url)
    if path is None and scheme_of(url) in READ_ONLY:
        raise StorageError(shown(url), "cannot be written", "a local path or an object store")
    with _explained(url):
        if path is None:
            with tempfile.TemporaryDirectory(prefix="clipmill-") as folder:
                temp = Path(folder) / basename(url)
                yield temp
                _remote(url, lambda fs, at: fs.put_file(str(temp), at))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.parent / f"{TEMP_PREFIX}{secrets.token_hex(6)}-{path.name}"
        try:
            yield temp
            _sync(temp)
            os.replace(temp, path)
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


def publish_parquet(url: str, table: pa.Table) -> None:
    """zstd, with page checksums. The same rows give the same bytes under the same pyarrow, however they are chunked."""
    with publish(url) as path:
        pq.write_table(table.combine_chunks(), path, compression="zstd", write_page_checksum=True, row_group_size=1 << 17)


def read_parquet(url: str, columns: list[str] | None = None) -> pa.Table:
    """Raises DataError naming the file when it is no parquet, a page fails its checksum or a column is missing."""
    return parquet_table(read_bytes(url) if _local(url) is None else _local(url), shown(url), columns)


def parquet_table(source: Path | bytes | None, where: str, columns: list[str] | None = None) -> pa.Table:
    """As `read_parquet`, from a local file or from bytes already read; `where` names it in errors."""
    try:
        with pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else source, page_checksum_verification=True) as file:
            missing = sorted({name.split(".")[0] for name in columns or ()} - set(file.schema_arrow.names))
            if missing:
                raise DataError(where, f"no column {', '.join(missing)}", f"columns found: {', '.join(file.schema_arrow.names)}")
            return file.read(columns=columns, use_threads=False)  # threads do not survive a fork
    except FileNotFoundError as error:
        raise _missing(where) from error
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(where, f"not readable as parquet: {first}", "an undamaged file", "make it again or copy it again") from error


def remove(url: str, recursive: bool = False) -> None:
    """Removes a file (or with `recursive` a folder and all in it); nothing happens when it is absent."""
    path = _local(url)
    with suppress(FileNotFoundError), _explained(url):
        if path is None:
            _remote(url, lambda fs, at: fs.rm(at, recursive=recursive))
        elif recursive and path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep_temps(folder: str) -> int:
    """Removes what killed writers left directly in `folder`; returns how many. Only for the folder's one owner."""
    temps = [name for name in list_sizes(folder) if name.startswith(TEMP_PREFIX)]
    for name in temps:
        remove(join(folder, name))
    return len(temps)
