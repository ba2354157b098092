"""This machine as a scheduler: a process that outlives the shell runs the stages, starting them again as they end."""

import os
import shlex
import signal
import subprocess
import sys

from pipeline import storage
from pipeline.cluster.node.alive import Process
from pipeline.cluster.rundir import RunDir, attempts
from pipeline.cluster.schedulers.scheduler import Job, Request, Said, lines_of
from pipeline.errors import UsageError

SCRIPT, OUTPUT = "run.sh", "output.log"
_MODULE = "pipeline.cluster.node.relaunch"


class Local:
    """One job, whatever the stages: its id names the process and when it began, so that no other process that is given
    the same number later is taken for it."""

    name = "local"

    def render(self, run: RunDir, request: Request) -> dict[str, str]:
        if request.nodes != 1:
            hint = "--on slurm or --on k8s; or start `clipmill node` on each machine yourself"
            raise UsageError("--nodes", f"{request.nodes} nodes", "one, this machine", hint)
        if request.options:
            raise UsageError("--option", f"found {sorted(request.options)[0]}", "local has no options", "leave it out")
        words = [sys.executable, "-m", _MODULE, str(run.path), *request.stages]
        return {SCRIPT: f"#!/bin/sh\nexec {shlex.join(words)}\n"}

    def submit(self, run: RunDir, request: Request) -> list[Job]:
        running = self._running(run)
        if running:
            hint = f"clipmill status {run.path}, or clipmill stop {run.path} first"
            raise UsageError(str(run.path), f"is being run by process {running[0].pid}", "one at a time", hint)
        with storage.storage_errors(run.jobs(self.name)), open(run.jobs(self.name) / OUTPUT, "ab") as output:
            process = subprocess.Popen(
                ["/bin/sh", str(run.jobs(self.name) / SCRIPT)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return [Job(str(Process.of(process.pid)), "+".join(request.stages), "running")]

    def jobs(self, run: RunDir, ids: list[str]) -> list[Job]:
        found = []
        for text in ids:
            process = Process.parse(text)
            if not process.is_here():
                found.append(Job(text, "", "gone", f"it runs on {process.host}: ask there"))
            else:
                found.append(Job(text, "", "running" if process.is_alive() else "gone"))
        return found

    def cancel(self, run: RunDir, ids: list[str]) -> None:
        """What control/cancel asks the attempt itself; this ends who would start another one."""
        for process in map(Process.parse, ids):
            if process.is_here() and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)

    def said(self, run: RunDir, ids: list[str], within_s: float | None = None) -> list[Said]:
        """What the process itself says, between the attempts, too."""
        return lines_of(run.jobs(self.name) / OUTPUT)

    def _running(self, run: RunDir) -> list[Process]:
        submitted = [each for each in attempts.events(run) if each["event"] == "submitted" and each["on"] == self.name]
        known = [Process.parse(text) for each in submitted for text in each.get("jobs", ())]
        return [each for each in known if each.is_here() and each.is_alive()]
