"""Whose turn it is in a folder where no lock can be held: an object store, a file system without flock.

A run puts a file with a random token there. Whoever comes later replaces it, so the last one to come has the turn: a
killed run blocks nobody, and one that is still alive sees at its next look that its turn is over. A look is no lock: a
write that was on its way when the turn changed still lands, so a writer looks before and after, and says what it
damaged (curation/emit/turns.py).
"""

import os
import secrets
import socket
import time

from pipeline.errors import StorageError
from pipeline.log import get_logger
from pipeline.storage.address import join, shown
from pipeline.storage.files import publish_json, read_bytes, remove
from pipeline.storage.state import json_object

log = get_logger("storage")
TURN = "_run.json"


def take(folder: str) -> str:
    """Takes the turn in `folder`; returns its token. Says so when another run has not ended its own."""
    before = _holder(folder)
    if before:
        log.warning("%s: %s has not ended here; this run takes over", shown(folder), _words(before))
    token = secrets.token_hex(16)
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    publish_json(join(folder, TURN), {"run": token, "host": socket.gethostname(), "pid": os.getpid(), "since": since})
    return token


def over(folder: str, token: str) -> str:
    """Who has the turn now, in words; "" while it is that of `token`."""
    holder = _holder(folder)
    if holder.get("run") == token:
        return ""
    return _words(holder) if holder else "another run, which has ended since,"


def end(folder: str, token: str) -> None:
    if not over(folder, token):
        remove(join(folder, TURN))


def _holder(folder: str) -> dict[str, object]:
    try:
        return json_object(read_bytes(join(folder, TURN))) or {}
    except StorageError as error:
        if error.found != "no such file":
            raise
        return {}


def _words(holder: dict[str, object]) -> str:
    return f"another run (host {holder.get('host')}, process {holder.get('pid')}, since {holder.get('since')})"
