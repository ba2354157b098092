"""What the pool knows of input files without reading them: the digest of the content that a file had at a stamp.

    <pool>/inputs/<digest>.json    {"names": {place and stamp: content}}, any number of such files

A file that was moved, or written to, has another place or stamp: it is read once more to learn its name, and when that
is known, no more than that. All may be removed at any time.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping

from pipeline import storage
from pipeline.settings import digest_of
from pipeline.storage import Listed

FOLDER = "inputs"
_MOST_FILES = 16


def known(pool: str, files: Iterable[Listed]) -> dict[Listed, str]:
    """The content digests of those files that are known as they are listed."""
    names = _read(pool, storage.list_names(storage.join(pool, FOLDER)))
    keys = ((file, _key(file)) for file in files if file.stamp)
    return {file: names[key] for file, key in keys if key in names}


def remember(pool: str, digests: Mapping[Listed, str]) -> None:
    """Adds to what is known. What a store gives no stamp of is asked anew each time."""
    names = {_key(file): digest for file, digest in digests.items() if file.stamp}
    if not names:
        return
    _publish(pool, names)
    there = storage.list_names(storage.join(pool, FOLDER))
    if len(there) > _MOST_FILES:
        kept = _publish(pool, _read(pool, there))  # another job loses at most what it can ask for again
        for name in there:
            if name != kept:
                storage.remove(storage.join(pool, FOLDER, name))


def _read(pool: str, there: Iterable[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in there:
        state = storage.read_state(storage.join(pool, FOLDER, name))
        names |= state["names"] if state is not None else {}
    return names


def _publish(pool: str, names: Mapping[str, str]) -> str:
    name = f"{digest_of(names)}.json"
    storage.publish_state(storage.join(pool, FOLDER, name), {"names": names})
    return name


def _key(file: Listed) -> str:
    """Names place and stamp, and shows nothing of either: an address may hold secrets."""
    path = storage.local_path(file.url)
    place = file.url if path is None else os.path.abspath(path)
    return hashlib.blake2b(json.dumps([place, file.bytes, file.stamp]).encode(), digest_size=16).hexdigest()
