"""Watches over a stage while it runs: what is asked of it, whether it still lives, how the other nodes fare."""

import time
from collections.abc import Callable

from pipeline.cluster.node import verdict
from pipeline.cluster.node.place import HANG_S, Place
from pipeline.cluster.node.stage import Stage
from pipeline.cluster.node.verdict import Verdict
from pipeline.cluster.rundir import RunDir, control, lock
from pipeline.cluster.rundir.heartbeat import read_beat
from pipeline.errors import StorageError

LOOK_S = 2.0
PEERS_S = 15.0
"""Ranks that lost a peer notice it themselves within seconds over gloo, but only after the timeout over NCCL."""


class Watch:
    """Looks at the run directory every 2 s at most: it lies on shared storage."""

    def __init__(
        self, run: RunDir, attempt: int, stage: str, place: Place, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._attempt, self._place, self._clock = run, attempt, place, clock
        self._hang_s = HANG_S[stage] if place.hang_s is None else place.hang_s
        self._looked_s, self._stop = 0.0, False
        self._told_s: float | None = None
        self._peer_s: float | None = None
        self._beat: object = None
        self._beat_s = clock()

    def _due(self) -> bool:
        now = self._clock()
        if now - self._looked_s < LOOK_S:
            return False
        self._looked_s = now
        return True

    def stop_asked(self) -> bool:
        """control/stop or control/cancel, by whoever; node 0 alone looks, the ranks spread it."""
        if self._place.rank == 0 and not self._stop and self._clock() - self._looked_s >= LOOK_S:
            asked = [control.asked(self._run, word) for word in ("stop", "cancel")]
            self._stop = any(each is not None for each in asked)
        return self._stop

    def reason_to_end(self, stage: Stage) -> Verdict | None:
        """How it ends, where it must be ended: overtaken, without a heartbeat, without its peers, over its grace."""
        now = self._clock()
        if stage.told and self._told_s is None:
            self._told_s = now
        if not self._due():
            return None
        try:
            newer = lock.overtaken(self._run, self._attempt)
        except StorageError:  # the storage is away for a moment; a commit would find out
            newer = None
        if newer is not None:
            return Verdict("failed", "crash", f"{newer} has taken over")
        if self._place.rank == 0:
            beat = read_beat(self._run)
            if beat != self._beat:
                self._beat, self._beat_s = beat, now
            if now - self._beat_s > self._hang_s:
                words = f"no heartbeat for {now - self._beat_s:.0f} s (CLIPMILL_HANG_S is {self._hang_s:.0f})"
                return Verdict("failed", "hang", words)
        grace_s = self._place.grace_s
        if grace_s is not None and self._told_s is not None and now - self._told_s > max(grace_s - 15, grace_s / 2):
            return Verdict("failed", "crash", f"did not save and stop within {grace_s:.0f} s (CLIPMILL_GRACE_S)")
        return self._without_peers(now)

    def _without_peers(self, now: float) -> Verdict | None:
        nodes = (node for node in range(self._place.nodes) if node != self._place.rank)
        ends = {node: verdict.read_verdict(self._run, self._attempt, node) for node in nodes}
        gone = [node for node, found in ends.items() if found is not None and found.status == "failed"]
        if not gone:
            return None
        if self._peer_s is None:
            self._peer_s = now
        if now - self._peer_s < PEERS_S:
            return None
        return Verdict("failed", "crash", f"node {gone[0]} failed, and the ranks here did not end")
