"""One rank's failure told to all others at once: nobody waits in a collective for a rank that has given up.

A rank that fails by itself writes why into the store by which the ranks met; a thread of every other rank looks there
twice a second and ends its process, which may be blocked in a collective and deaf to signals. The first failure counts:
what follows from it (a lost connection) is told as that.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ClipmillError

EVERY_S = 0.5
LOST_S = 5.0
"""The store is served by rank 0's process (or torchrun's agent). When it is gone, the run may simply be over: a rank
that still works so long after does not know it, and never will."""
LINGER_S = 3.0
"""Rank 0 stays so long for the others to read what has happened."""
_FIRST, _COUNT, _SEEN = "first", "count", "seen"


@dataclass(frozen=True)
class Failure:
    """What one rank says of its end."""

    rank: int
    world: int
    code: int
    words: str
    place: str = ""
    host: str = ""

    def __str__(self) -> str:
        on, where = f" on {self.host}" if self.host else "", f" failed {self.place}" if self.place else " failed"
        return f"rank {self.rank} of {self.world}{on}{where}: {self.words}"


class Followed(ClipmillError):
    """This rank ends because another one failed; its exit code is that one's."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure), "this rank ends with it")
        self.args = (failure,)
        self.exit_code = failure.code


class Alarm:
    """Of one rank. `store`: a key-value store that all ranks share (set, get, add, check), over a connection for this
    alone, which two threads may use."""

    def __init__(self, store: Any, rank: int, world: int) -> None:
        self._store, self.rank, self.world = store, rank, world
        self._over = threading.Event()
        self._once = threading.Lock()

    def ring(self, code: int, words: str, place: str) -> Failure:
        """Tells the others that this rank fails. Returns the failure that was told first, perhaps of another rank."""
        mine = Failure(self.rank, self.world, code, words, place, socket.gethostname())
        self._over.set()
        first = mine
        with contextlib.suppress(Exception):  # the store is gone with the rank that failed before: nobody to tell
            if self._store.add(_COUNT, 1) == 1:
                self._store.set(_FIRST, json.dumps(asdict(mine)))
            elif self._told():
                first = self._read()
            self._seen()
        return first

    def watch(self, leave: Callable[[Failure], None]) -> None:
        """From now on `leave`, which has to end the process, is called when another rank fails."""
        threading.Thread(target=self._look, args=(leave,), name="alarm", daemon=True).start()

    def rest(self) -> None:
        """The work is done: nothing that comes now is a failure."""
        self._over.set()

    def _look(self, leave: Callable[[Failure], None]) -> None:
        while not self._over.wait(EVERY_S):
            try:
                if not self._store.check([_FIRST]):
                    continue
                failure = self._read()
                if self._over.is_set():
                    return
                self._seen()
            except Exception:  # whatever the store says when its server is gone
                if self._over.wait(LOST_S):
                    return
                failure = Failure(0, self.world, 1, "its process is gone, and with it the store by which the ranks met")
            leave(failure)
            return

    def _told(self) -> bool:
        """Whether the first failure can be read: between its count and its words there is a moment."""
        deadline = time.monotonic() + 1.0
        while not self._store.check([_FIRST]):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _read(self) -> Failure:
        return Failure(**json.loads(self._store.get(_FIRST)))

    def _seen(self) -> None:
        """Counts this rank among those that know. Rank 0, whose process serves the store, then waits for the others."""
        if not self._once.acquire(blocking=False):
            return
        self._store.add(_SEEN, 1)
        deadline = time.monotonic() + LINGER_S
        while self.rank == 0 and self._store.add(_SEEN, 0) < self.world and time.monotonic() < deadline:
            time.sleep(0.02)
