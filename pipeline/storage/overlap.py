"""Whether two addresses meet: the same place, or one inside the other, however they are spelt.

Local ones are compared by what the file system says (links, `..`, bind mounts, case); what is not there yet, and URLs,
by name. In doubt they meet: whoever asks is about to write.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from pipeline.storage.address import local_path, scheme_of

_SAME_STORE = {"gcs": "gs", "abfs": "az"}
Place = tuple[object, ...]  # from the root on: (device, inode) of what is there, the name of what is not


def first_meeting(urls: Iterable[str], other: str) -> tuple[str, str] | None:
    """The first of `urls` that meets `other`, and how: "is", "lies in" or "contains"; None when none does."""
    folders: dict[str, Place] = {}  # many files lie in few folders
    theirs = _places(other, folders)
    for url in urls:
        for one in _places(url, folders):
            for two in theirs:
                if one == two:
                    return url, "is"
                if one[: len(two)] == two:
                    return url, "lies in"
                if two[: len(one)] == one:
                    return url, "contains"
    return None


def _places(url: str, folders: dict[str, Place]) -> list[Place]:
    """A local path that ends in a link has two: that of the link and that of what it leads to."""
    path = local_path(url)
    if path is None:
        return [_remote_place(url)]
    names = [os.path.realpath(path)]
    if path.is_symlink():
        names.append(os.path.join(os.path.realpath(path.parent), path.name))
    return [_local_place(name, folders) for name in names]


def _local_place(path: str, folders: dict[str, Place]) -> Place:
    parent, name = os.path.split(path)
    above: Place = ()
    if name:
        above = folders[parent] if parent in folders else folders.setdefault(parent, _local_place(parent, folders))
    try:
        status = os.lstat(path)
        return (*above, (status.st_dev, status.st_ino))
    except OSError:
        return (*above, _plain(name))


def _remote_place(url: str) -> Place:
    scheme = scheme_of(url)
    parts = urlsplit(url)
    store = _SAME_STORE.get(scheme, scheme)
    host = parts.netloc
    host = host.partition("@")[0] if store == "az" else host.rpartition("@")[2]
    path = unquote(parts.path)
    if store == "hf":
        path = re.sub(r"@[^/]*", "", path)  # a revision
    names = posixpath.normpath(f"/{host}/{path}").strip("/").split("/")
    return (store, *map(_plain, names))


def _plain(name: str) -> str:
    """A name as the least particular file system sees it."""
    return unicodedata.normalize("NFC", name).casefold()
