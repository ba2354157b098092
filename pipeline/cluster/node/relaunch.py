"""Runs the stages of a run on this machine one after the other, each started again for as long as its exit code says.

    python -m pipeline.cluster.node.relaunch RUN_DIR curate train eval

`submit --on local` starts this and leaves it; a person may, too. At SIGTERM the attempt saves and stops, and this ends.
"""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from pipeline.cluster.node.verdict import DONE, NEVER, STOPPED
from pipeline.cluster.rundir import RunDir, control, read_state
from pipeline.errors import ClipmillError

NODE = (sys.executable, "-m", "pipeline.cli", "node")
PAUSE_S = (1.0, 30.0)
"""Before another attempt after a crash: what was lost may need a moment to be gone. Doubled each time."""


class Relaunch:
    def __init__(self, run: RunDir) -> None:
        self._run, self._told = run, False
        self._child: subprocess.Popen[bytes] | None = None

    def listen(self) -> None:
        """Takes the signals that ask for a stop."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if not self._told and self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)
        self._told = True

    def stage(self, stage: str) -> int:
        """The exit code of the last attempt at it."""
        pause_s = PAUSE_S[0]
        while True:
            if self._told:
                return STOPPED
            self._child = subprocess.Popen([*NODE, str(self._run.path), stage])
            if self._told:  # it came in between
                self._child.send_signal(signal.SIGTERM)
            code = self._child.wait()
            self._child = None
            if code in (DONE, NEVER) or self._told or control.held(self._run):
                return code
            if code != STOPPED:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S[1])

    def is_through(self, stage: str) -> bool:
        """Whether the next stage may begin: an exit code of 0 says only that there is nothing to start again."""
        if control.held(self._run):
            return False
        with contextlib.suppress(ClipmillError):
            state = read_state(self._run)
            return state is None or state.stage != stage or state.status == "completed"
        return False


def main(words: list[str]) -> int:
    run = RunDir(Path(words[0]))
    relaunch = Relaunch(run)
    relaunch.listen()
    for stage in words[1:]:
        code = relaunch.stage(stage)
        if code != DONE or not relaunch.is_through(stage):
            return code
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
