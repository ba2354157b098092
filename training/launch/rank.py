"""One rank's whole life: join the others, do the command, say why it failed.

`python -m training.launch.rank` is a rank that `training.launch.launcher` started.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import log
from pipeline.errors import ClipmillError
from pipeline.recipe import Recipe
from pipeline.signals import StopSignals
from pipeline.streams import unbreakable_output
from training.launch.settings import LaunchSettings

if TYPE_CHECKING:
    from training.ranks.peers import Peers

_PR_SET_PDEATHSIG = 1


def work(command: str, recipe: Recipe, signals: StopSignals | None = None) -> None:
    """Trains, evaluates or reinforces as the rank that the environment says. Raises Stopped when asked to stop."""
    with contextlib.nullcontext(signals) if signals else StopSignals() as stop:
        import torch

        from training.ranks.peers import init_peers

        launch = recipe.optional("launch", LaunchSettings)
        if launch.threads or "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(launch.threads or int(os.environ["OMP_NUM_THREADS"]))
        peers = init_peers(timeout_s=launch.timeout_s)
        if peers.rank:
            log.configure(peers.rank)
        try:
            _done(command, recipe, peers, stop)
        finally:
            peers.close()


def _done(command: str, recipe: Recipe, peers: "Peers", stop: StopSignals) -> None:
    from training.settings import EvalSettings, TrainSettings

    if command == "reinforce":
        from training.reinforce.settings import ReinforceSettings
        from training.reinforce.write import reinforce

        reinforce(recipe.section("reinforce", ReinforceSettings), seed=recipe.seed, peers=peers, stop=stop)
        return
    settings = recipe.section("train", TrainSettings)
    if command == "train":
        from training.loop import train

        sets = recipe.section("eval", EvalSettings).sets if recipe.has("eval") else []
        train(settings, seed=recipe.seed, recipe=recipe, peers=peers, stop=stop, sets=sets)
    else:
        from training.score import evaluate

        evaluate(recipe.section("eval", EvalSettings), settings, seed=recipe.seed, peers=peers)


def main() -> int:
    """The exit code; the reason of a failure is left for the launcher, which prints one rank's words and not all."""
    _die_with_parent()
    with unbreakable_output(), StopSignals() as stop:
        log.configure(int(os.environ["RANK"]))
        job = json.loads(Path(os.environ["CLIPMILL_JOB_FILE"]).read_text())
        try:
            work(job["command"], Recipe(job["source"], job["data"]), stop)
            return 0
        except ClipmillError as error:
            return _tell(error.exit_code, str(error), ours=True)
        except BaseException:
            return _tell(1, traceback.format_exc(), ours=False)


def _tell(code: int, words: str, ours: bool) -> int:
    with contextlib.suppress(OSError):
        report = {"code": code, "words": words, "ours": ours, "time": time.time()}
        Path(os.environ["CLIPMILL_REPORT_FILE"]).write_text(json.dumps(report))
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
