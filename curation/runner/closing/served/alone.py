"""One run at a time asks for the answers of a stage in a pool: who comes later waits, and finds them there.

On a file system with locks one is held. Elsewhere (an object store) there is a claim, which its holder renews; nobody
takes over one that is renewed. A holder that cannot renew it in time stops asking before another one may start, and so
do its workers, which look at it for themselves:

    <columns folder>/asking.json   {"run", "host", "pid", "since", "beat"}

So two runs ask at a time only where a store, or a clock, stands still for longer than GONE_S - OVER_S and then goes on.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from curation.pool.columns import Columns
from pipeline import storage
from pipeline.errors import Stopped, StorageError
from pipeline.log import get_logger
from pipeline.signals import stop_asked
from pipeline.storage import local_path
from pipeline.storage.lock import locked

log = get_logger("curation")
CLAIM = "asking.json"
BEAT_S, OVER_S, GONE_S = 10.0, 45.0, 90.0
"""A claim is renewed every BEAT_S. Its holder believes in it for OVER_S after it last saw a renewal, others for GONE_S:
what is under way when the holder stops has ended by then, or has been sent and counts as that."""
_LOOK_S = 0.5


class Lease:
    """What the processes of a run look at while they ask. `look` reads; `is_over` only says what was seen."""

    def __init__(self, url: str, run: str) -> None:
        self._url, self._run, self._beat, self._seen, self._over = url, run, -1, 0.0, False

    def look(self) -> None:
        now = time.monotonic()
        self._seen = self._seen or now
        with suppress(StorageError):
            claim = _claim(self._url)
            if claim.get("run") != self._run:
                self._over = True
            elif claim.get("beat") != self._beat:
                self._beat, self._seen = claim["beat"], now
        self._over = self._over or now - self._seen > OVER_S

    def is_over(self) -> bool:
        return self._over


@contextmanager
def alone(columns: Columns, name: str) -> Iterator[Lease | None]:
    """While this run alone asks; None where a lock holds. Stopped when a signal comes while it waits."""
    folder = local_path(columns.folder)
    with ExitStack() as stack:
        is_held = folder is not None and _wait(lambda: _locked(stack, folder), name)
        yield None if is_held else stack.enter_context(_claimed(storage.join(columns.folder, CLAIM), name))


def _wait(take: Callable[[], Any], name: str) -> Any:
    """What `take` returns at last; it returns words while another run is there."""
    is_said = False
    while isinstance(found := take(), str):
        if not is_said:
            log.warning("%s: %s; waiting for it: what it is answered is not asked again", name, found)
        is_said = True
        if stop_asked():
            raise Stopped("curate", f"{name}: stopped while {found}", "", "run the same command to go on")
        time.sleep(_LOOK_S)
    return found


def _locked(stack: ExitStack, folder: Path) -> bool | str:
    try:
        return stack.enter_context(locked(folder))
    except StorageError as error:
        if not error.found.startswith("another run"):
            raise
        return error.found


@contextmanager
def _claimed(url: str, name: str) -> Iterator[Lease]:
    run, watched = secrets.token_hex(16), _Watched(url)
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    own = {"run": run, "host": socket.gethostname(), "pid": os.getpid(), "since": since}

    def take() -> str | None:
        other = watched.holder()
        if other:
            return other
        storage.publish_json(url, own | {"beat": 0})
        time.sleep(min(2.0, BEAT_S / 5))  # of two that come at once the last one has it
        return None if _claim(url).get("run") == run else "another run is at work here"

    _wait(take, name)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(url, own, ended), daemon=True)
    beating.start()
    try:
        lease = Lease(url, run)
        lease.look()
        yield lease
    finally:
        ended.set()
        beating.join()
        with suppress(StorageError):
            if _claim(url).get("run") == run:
                storage.remove(url)


class _Watched:
    """Whether somebody renews a claim."""

    def __init__(self, url: str) -> None:
        self._url, self._last, self._since = url, ("", -1), 0.0

    def holder(self) -> str:
        """In words; "" when there is none, or none that renews it."""
        claim = _claim(self._url)
        if not claim:
            return ""
        now, seen = time.monotonic(), (str(claim.get("run")), claim.get("beat", 0))
        if seen != self._last:
            self._last, self._since = seen, now
        if now - self._since > GONE_S:
            return ""
        since = f"host {claim.get('host')}, process {claim.get('pid')}, since {claim.get('since')}"
        return f"another run is at work here: {since}"


def _beat(url: str, own: dict[str, Any], ended: threading.Event) -> None:
    """Until the end, or until the claim is another one's."""
    beat = 0
    while not ended.wait(BEAT_S):
        with suppress(StorageError):  # it may work the next time
            if _claim(url).get("run") != own["run"]:
                return
            beat += 1
            storage.publish_json(url, own | {"beat": beat})


def _claim(url: str) -> dict[str, Any]:
    try:
        return storage.json_object(storage.read_bytes(url)) or {}
    except StorageError:
        if storage.exists(url):
            raise
        return {}
