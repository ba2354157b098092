"""State files: small JSON objects by which a run knows what is done. One reader for all: damage is no exception.

A state carries a hash of itself, and sizes and hashes of the files that it vouches for: what a run goes on from is
checked as strictly as what it publishes. A flipped bit anywhere makes the unit undone, and it is made again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, StorageError
from pipeline.log import get_logger
from pipeline.storage.address import join, shown
from pipeline.storage.files import exists, publish_json, read_bytes, size
from pipeline.storage.hashed import sha256_of

log = get_logger("storage")
_CHECK, _FILES = "check", "files"

Note = dict[str, Any]  # {"bytes": 123, "sha256": "ab..."}; sha256 is left out of what is checked in another way


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`, or None: cut, other bytes, nested beyond any use, or no object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def note_of(url: str | Path) -> Note:
    """Size and hash of a file as it is."""
    return {"bytes": size(str(url)), "sha256": sha256_of(str(url))}


def publish_state(url: str, value: Mapping[str, Any], files: Mapping[str, Note] | None = None) -> None:
    """Publishes `value`, vouching for `files`: notes by name, relative to the folder of the state."""
    content = {**value, _FILES: dict(files or {})}
    publish_json(url, {**content, _CHECK: _digest(content)})


def read_state(url: str, quiet: bool = False) -> dict[str, Any] | None:
    """What `publish_state` was given, its notes under `files`; None when it is absent, or damaged, which is logged."""
    if not exists(url):
        return None
    content = json_object(read_bytes(url))
    if content is None or content.pop(_CHECK, None) != _digest(content) or not isinstance(content.get(_FILES), dict):
        if not quiet:
            log.warning("%s: damaged; it is made again", shown(url))
        return None
    return content


def fault_of(url: str, note: Note) -> str:
    """What is wrong with a file that a state vouches for, in words, or ""."""
    try:
        bytes_now = size(url)
        if bytes_now != note["bytes"]:
            return f"{bytes_now} bytes instead of {note['bytes']}"
        return "" if note.get("sha256") in (None, sha256_of(url)) else "other bytes than were written"
    except StorageError:
        if exists(url):
            raise
        return "missing"
    except DataError as error:  # it shrank under the read
        return error.found


def faults_of(folder: str, files: Mapping[str, Note], may_lack: tuple[str, ...] = ()) -> list[str]:
    """`fault_of` of all files of a state, each with its name; those in `may_lack` may be missing."""
    found = ((name, fault_of(join(folder, name), note)) for name, note in files.items())
    return [f"{name}: {fault}" for name, fault in found if fault and not (fault == "missing" and name in may_lack)]


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
