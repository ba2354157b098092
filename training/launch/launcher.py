"""Starts the ranks of `clipmill train` and `clipmill eval` on this machine, or joins those of torchrun or srun.

    start("train", recipe) -> exit code

Each rank is a fresh Python process in its own process group. Signals are passed on once; when a rank dies the others
are ended within seconds, and the words of the rank that failed first are the last thing printed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import Stopped
from pipeline.recipe import Recipe
from pipeline.signals import StopSignals
from training.launch.nodes import Node, node_of, placed
from training.launch.settings import LaunchSettings
from training.ranks.environment import joined

Command = Literal["train", "eval"]
Popen = subprocess.Popen[bytes]
JOB, REPORT = "CLIPMILL_JOB_FILE", "CLIPMILL_REPORT_FILE"
RANK = "training.launch.rank"
END_S = 10.0
"""A rank asked to end has this long; one blocked in a collective cannot hear."""
_POLL_S = 0.05


@dataclass(frozen=True)
class Failure:
    """Why a rank ended, as it wrote it itself or as its exit status tells."""

    rank: int
    code: int
    words: str
    order: tuple[int, float]  # smaller is closer to the cause


def start(command: Command, recipe: Recipe) -> int:
    """The exit code of all ranks: 0 done, 75 stopped and resumable, or that of the rank that failed first.

    In a rank of torchrun or srun, and with one process, the work is done here and errors are raised as they are.
    """
    settings = recipe.optional("launch", LaunchSettings)
    place, node = joined(), node_of()
    processes = 1 if place else settings.processes or _gpus() or 1
    if place is None and node is not None and processes == 1:
        place = placed(node, 0, 1)
    if processes == 1:
        from training.launch.rank import work

        os.environ.update(place or {})
        work(command, recipe)
        return 0
    return spawn(command, recipe, processes, settings.threads or max(1, (os.cpu_count() or 1) // processes))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def spawn(command: Command, recipe: Recipe, processes: int, threads: int) -> int:
    """Starts `processes` ranks and waits for them; returns the run's exit code after printing why, if it is not 0."""
    with tempfile.TemporaryDirectory(prefix="clipmill-") as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"command": command, "source": recipe.source, "data": recipe.data}))
        node = node_of() or Node(0, 1, "127.0.0.1", _free_port())
        ranks: list[Popen] = []
        received: list[int] = []

        def forward(number: int) -> None:
            received.append(number)
            _send(ranks, number)

        ended: set[int] = set()
        with StopSignals(passed_on=forward):
            try:
                for rank in range(processes):
                    ranks.append(_start(rank, processes, threads, node, job))
                    if received:  # it came while ranks were being started
                        _send(ranks[-1:], received[-1])
                _wait(ranks)
            finally:
                ended |= _end(ranks)
        return _outcome(ranks, Path(folder), received, ended)


def _start(rank: int, processes: int, threads: int, node: Node, job: Path) -> Popen:
    environment = {**os.environ, **placed(node, rank, processes), "OMP_NUM_THREADS": str(threads)}
    report = job.parent / f"rank-{rank}.json"
    environment.update({JOB: str(job), REPORT: str(report), "CLIPMILL_LAUNCHER_PID": str(os.getpid())})
    if node.nodes == 1 and os.path.isdir("/sys/class/net/lo"):
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # gloo would look up a host name that may not resolve
    # Its own group: Ctrl-C on a terminal reaches every process of the group, and we pass it on once ourselves.
    return subprocess.Popen(
        [sys.executable, "-m", RANK], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(ranks: list[Popen]) -> None:
    """Returns when all ranks have ended, or one has ended in failure."""
    while True:
        codes = [rank.poll() for rank in ranks]
        if all(code is not None for code in codes):
            return
        if any(code not in (None, 0, Stopped.exit_code) for code in codes):
            # The others notice a lost peer by themselves within moments; what they have to say may be the cause.
            _settle(ranks, 1.0)
            return
        time.sleep(_POLL_S)


def _settle(ranks: list[Popen], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        time.sleep(_POLL_S)


def _end(ranks: list[Popen]) -> set[int]:
    """The ranks that still ran. Afterwards no process of any rank is left: reader workers are in the rank's group."""
    running = {number for number, rank in enumerate(ranks) if rank.poll() is None}
    alive = [ranks[number] for number in running]
    _send(alive, signal.SIGTERM)
    _settle(alive, END_S if alive else 0.0)
    for rank in ranks:
        try:
            os.killpg(rank.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        rank.wait()
    return running


def _send(ranks: list[Popen], number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _outcome(ranks: list[Popen], folder: Path, received: list[int], ended: set[int]) -> int:
    codes = [rank.returncode for rank in ranks]
    if all(code == 0 for code in codes):
        return 0
    if all(code in (0, Stopped.exit_code) or -code in received for code in codes):
        return Stopped.exit_code  # a rank that had not yet begun dies of the signal itself; nothing is lost
    failed = [rank for rank, code in enumerate(codes) if code != 0]
    failures = [_failure(rank, codes[rank], folder / f"rank-{rank}.json", rank in ended) for rank in failed]
    first = min(failures, key=lambda failure: failure.order)
    print(f"error: rank {first.rank} of {len(ranks)}: {first.words}", file=sys.stderr, flush=True)
    return first.code


def _failure(rank: int, code: int, report: Path, was_ended: bool) -> Failure:
    """Closest to the cause: an error of ours, then a rank killed from outside, then errors that may follow from those,
    then ranks that we ended."""
    try:
        told = json.loads(report.read_text())
        return Failure(rank, told["code"], told["words"], (3 if was_ended else 0 if told["ours"] else 2, told["time"]))
    except (OSError, ValueError, KeyError):
        pass
    if code < 0:
        hint = "hint: run the same command again to resume; a kill that nobody sent is often the system, out of memory"
        return Failure(rank, 1, f"was killed by {signal.Signals(-code).name}\n{hint}", (3 if was_ended else 1, 0.0))
    return Failure(rank, code, f"ended with code {code} and no word", (3 if was_ended else 2, 0.0))
