"""What a path may be: a local path or a URL of a known scheme, never a command; and how messages show it.

Opens nothing. `storage` passes these functions on, so callers need only that one.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.errors import StorageError

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "hf", "memory", "http", "https")  # besides `file` and plain paths
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")  # two letters or more: a drive letter is no scheme


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
    known = scheme in SCHEMES or scheme == "file"
    well_formed = bool(url) and url[0] not in "|-" and "\0" not in url and (match is None or match[2])
    chained = scheme != "file" and "::" in url  # fsspec would open one file system inside another
    if known and well_formed and not chained:
        return scheme
    hint = "put ./ before a local path that holds a colon or starts with - or |"
    expected = "a local path or a URL of " + ", ".join(SCHEMES)
    raise StorageError(repr(shown(url)), "not an address that is opened", expected, hint)


def local_path(url: str) -> Path | None:
    """The local path, or None when `url` is remote."""
    if scheme_of(url) != "file":
        return None
    return Path(unquote(urlsplit(url).path)) if url[:7].lower() == "file://" else Path(url)


def join(base: str, *names: str) -> str:
    """`base` and `names` with one slash between."""
    stem = base if not base or base.endswith("://") else base.rstrip("/") + "/"
    return stem + "/".join(names)


def basename(url: str) -> str:
    """The last name of a path or URL."""
    return url.rstrip("/").rpartition("/")[2]
