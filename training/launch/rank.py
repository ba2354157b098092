"""One rank's whole life: join the others, do the command, say why it failed.

`python -m training.launch.rank` is a rank that `training.launch.launcher` started.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import log
from pipeline.errors import ClipmillError, Stopped, one_line
from pipeline.recipe import Recipe
from pipeline.signals import StopSignals
from pipeline.streams import unbreakable_output
from training.launch.settings import LaunchSettings

if TYPE_CHECKING:
    from training.ranks.alarm import Alarm, Failure
    from training.ranks.peers import Peers

REPORT = "CLIPMILL_REPORT_FILE"
LAST_S = 20  # of a rank that has failed
_PR_SET_PDEATHSIG = 1


def work(command: str, recipe: Recipe, signals: StopSignals | None = None) -> None:
    """Trains, evaluates or reinforces as the rank that the environment says. Raises Stopped when asked to stop.

    An error comes with a note that says where the rank was. When one rank fails alone the others end within seconds:
    blocked ones by `_leave`, and one that has met the consequences with Followed, with that rank's exit code.
    """
    with contextlib.nullcontext(signals) if signals else StopSignals() as stop:
        import torch

        from training.ranks.alarm import Alarm
        from training.ranks.peers import init_peers

        launch = recipe.optional("launch", LaunchSettings)
        if launch.threads or "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(launch.threads or int(os.environ["OMP_NUM_THREADS"]))
        peers = init_peers(timeout_s=launch.timeout_s)
        if peers.rank:
            log.configure(peers.rank)
        board = peers.board()
        alarm = None if board is None else Alarm(board, peers.rank, peers.world)
        try:
            if alarm:
                alarm.watch(lambda failure: _leave(failure, peers.rank))
            _work(command, recipe, peers, stop)
        except BaseException as error:
            if isinstance(error, Stopped):  # all ranks together
                _part(alarm, peers)
            else:  # the group stays: leaving it may wait for the others, who would tell of a lost connection
                _note(error, alarm, peers)
            raise
        _part(alarm, peers)


def _work(command: str, recipe: Recipe, peers: "Peers", stop: StopSignals) -> None:
    from training.settings import EvalSettings, TrainSettings

    if command == "reinforce":
        from training.reinforce.settings import ReinforceSettings
        from training.reinforce.write import reinforce

        peers.place.enter("reinforcement")
        reinforce(recipe.section("reinforce", ReinforceSettings), seed=recipe.seed, peers=peers, stop=stop)
        return
    settings = recipe.section("train", TrainSettings)
    if command == "train":
        from training.loop import train

        sets = recipe.section("eval", EvalSettings).sets if recipe.has("eval") else []
        train(settings, seed=recipe.seed, recipe=recipe, peers=peers, stop=stop, sets=sets)
    else:
        from training.score import evaluate

        peers.place.enter("evaluation")
        evaluate(recipe.section("eval", EvalSettings), settings, seed=recipe.seed, peers=peers)


def _part(alarm: "Alarm | None", peers: "Peers") -> None:
    if alarm:
        alarm.rest()
    peers.close()


def _note(error: BaseException, alarm: "Alarm | None", peers: "Peers") -> None:
    """Says in a note where this rank was, and tells the others; Followed if another one has failed before."""
    from training.ranks.alarm import Followed

    place = str(peers.place)
    if alarm is None:
        if place:
            error.add_note(place)
        return
    _end_for_certain()
    ours = isinstance(error, ClipmillError)
    words = str(error) if ours else one_line(error)
    first = alarm.ring(error.exit_code if isinstance(error, ClipmillError) else 1, words, place)
    if first.rank != peers.rank:
        raise Followed(first) from None
    error.add_note(f"rank {first.rank} of {first.world} on {first.host}" + (f", {place}" if place else ""))


def _end_for_certain() -> None:
    """A failed rank's communicators are as they were, and tidying them up at the end may wait for the other ranks."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LAST_S)


def _leave(failure: "Failure", rank: int) -> None:
    """Ends this process, wherever it is, because another rank has failed: in a collective it hears nothing else."""
    from training.ranks.alarm import Followed

    if REPORT in os.environ:
        _tell(Followed(failure), followed=True)
    elif rank == 0:  # one voice is enough
        print(f"error: {Followed(failure)}", file=sys.stderr, flush=True)
    os._exit(failure.code)


def main() -> int:
    """The exit code; the reason of a failure is left for the launcher, which prints one rank's words and not all."""
    _die_with_parent()
    with unbreakable_output(), StopSignals() as stop:
        log.configure(int(os.environ["RANK"]))
        job = json.loads(Path(os.environ["CLIPMILL_JOB_FILE"]).read_text())
        try:
            work(job["command"], Recipe(job["source"], job["data"]), stop)
            return 0
        except BaseException as error:
            from training.ranks.alarm import Followed

            return _tell(error, followed=isinstance(error, Followed))


def _tell(error: BaseException, followed: bool) -> int:
    """Leaves for the launcher why this rank ends; `followed`: because another one did. The exit code."""
    ours = isinstance(error, ClipmillError)
    code = error.exit_code if isinstance(error, ClipmillError) else 1
    place = next((note.rpartition(", ")[2] for note in getattr(error, "__notes__", []) if ", in " in note), "")
    words = str(error) if ours else "".join(traceback.format_exception(error))
    report = {"code": code, "words": words, "place": place, "ours": ours, "followed": followed, "time": time.time()}
    with contextlib.suppress(OSError):
        Path(os.environ[REPORT]).write_text(json.dumps(report))
    return code


def _die_with_parent() -> None:
    """A launcher killed with SIGKILL can end nobody; on Linux the kernel does it, so that no rank trains on unseen."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ["CLIPMILL_LAUNCHER_PID"]):
            os._exit(1)  # it died before we asked


if __name__ == "__main__":
    sys.exit(main())
