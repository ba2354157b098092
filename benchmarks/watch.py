"""The largest resident memory of this process and of its workers, Ray's or its own, looked at ten times a second."""

import threading
from pathlib import Path

from curation.runner.on_machine.nursery import NAME


class Watch:
    """driver, worker: bytes by the name of each step; that of an inline run is the driver's."""

    def __init__(self, workers: bool = True) -> None:
        self.step = "start"
        self._workers = workers
        self.driver: dict[str, int] = {}
        self.worker: dict[str, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def begins(self, step: str) -> None:
        self.step = step

    def _look(self) -> None:
        while not self._end.wait(0.1):
            step = self.step
            self.driver[step] = max(self.driver.get(step, 0), _resident("self"))
            for process in Path("/proc").glob("[0-9]*") if self._workers else ():
                try:
                    is_rays = (process / "cmdline").read_bytes().startswith(b"ray::")
                    name = (process / "comm").read_text().strip()
                except OSError:
                    continue
                if is_rays or name == NAME:
                    self.worker[step] = max(self.worker.get(step, 0), _resident(process.name))


def _resident(process: str) -> int:
    """Bytes that are the process's own: pages of files are shared."""
    try:
        lines = Path("/proc", process, "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)
