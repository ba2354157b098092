"""A rank whose work is to wait: everything of `training.launch.rank` but torch, for tests of the launcher."""

import os
import sys
import time
from pathlib import Path

from pipeline.errors import DataError, Stopped
from pipeline.recipe import Recipe
from pipeline.signals import StopSignals
from training.launch import rank


def wait(command: str, recipe: Recipe, stop: StopSignals) -> None:
    """Notes that it is up; fails as the recipe says; ends as a real rank does when it is asked to stop."""
    folder, me = Path(recipe.data["train"]["folder"]), os.environ["RANK"]
    fork = os.fork()  # a reader worker
    if fork == 0:
        time.sleep(60)
        os._exit(0)
    (folder / f"worker-{me}").write_text(str(fork))
    (folder / f"up-{me}").write_text(str(os.getpid()))
    failing = recipe.data["train"].get("failing", {})
    if me in failing:
        time.sleep(0.5 if failing[me] == "ours" else 0.2)  # the cause takes longer to find its words
        if failing[me] == "ours":
            raise DataError("shard-000007.tar", "is cut", "a whole shard")
        raise RuntimeError("Connection closed by peer")
    heard = []
    while not stop.received:
        time.sleep(0.01)
    time.sleep(0.2)  # a second signal would be an interrupt
    heard.append(stop.received)
    (folder / f"heard-{me}").write_text(str(heard))
    raise Stopped("train", "stopped")


if __name__ == "__main__":
    rank.work = wait
    sys.exit(rank.main())
