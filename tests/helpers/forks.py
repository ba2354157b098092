"""Runs of curation that are forks of one process that has everything imported, so that death comes at work."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.helpers.places import ROOT


class Forks:
    """`preload`: a module that is imported besides, before any fork."""

    def __init__(self, preload: str | None = None) -> None:
        command = [sys.executable, "-m", "tests.helpers.curate_child", *(["--with", preload] if preload else [])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}  # img2dataset's imports would ask the network
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **pipes)

    def live(self, settings: Path, seconds: float | None) -> int:
        """The exit status of a run, killed after `seconds`."""
        self._process.stdin.write(f"{settings}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if seconds is not None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
