"""One rank that raises alone: the others leave within seconds, and what is said names rank, phase and step."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.lanes import sampled
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import ENVIRONMENT, finish, metrics, start, write_recipe

pytestmark = pytest.mark.slow
SOON_S = 20.0  # one or two on an idle machine; a wait for the others would take the 600 of launch.timeout_s


def ended(tmp_path: Path, phase: str, who: int, zero_stage: int = 0) -> tuple[int, str, float]:
    """(exit code, words, seconds from the last whole step to the end) of a run of three ranks."""
    recipe = write_recipe(tmp_path, steps=100_000, checkpoint={"every_steps": 100_000})
    launcher = start(
        recipe, f"name='{phase} {who}'", "launch.processes=3", f"train.engine.zero_stage={zero_stage}",
        "launch.timeout_s=600", rank="tests.helpers.failing_rank",
    )  # fmt: skip
    code, words = finish(launcher, 200)
    return code, words, time.time() - (tmp_path / "train" / "metrics.jsonl").stat().st_mtime


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("phase", "words", "zero_stage"),
    sampled(
        [
            ("reader", "in the reader of step 3: shard-000007.tar: is cut; a whole shard", 0),
            ("forward", "in the forward (first pass) of step 3: Traceback", 0),
            ("loss", "in the loss of step 3: Traceback", 0),
            ("backward-zero", "in the second pass (forward and backward) of step 3: Traceback", 3),
            ("optimizer", "in the optimizer step of step 3: Traceback", 0),
            ("backward-zero", "in the second pass (forward and backward) of step 3: Traceback", 1),
        ],
        3,
    ),
)  # fmt: skip
def test_a_rank_that_raises_alone_is_named_and_the_others_leave(tmp_path, phase, words, zero_stage) -> None:
    code, said, seconds = ended(tmp_path, phase, 1, zero_stage)
    assert code == (78 if phase == "reader" else 1) and seconds < SOON_S, (code, seconds, said)
    last = said[said.index("error: rank") :]
    assert last.startswith(f"error: rank 1 of 3, {words}") and said.count("error: rank") == 1, said
    assert "Connection closed" not in last
    assert [row["step"] for row in metrics(tmp_path / "train")] == [0, 1, 2]


@pytest.mark.exhaustive
def test_the_first_rank_which_serves_the_store_is_no_exception(tmp_path: Path) -> None:
    code, said, seconds = ended(tmp_path, "loss", 0)
    assert code == 1 and seconds < SOON_S and "error: rank 0 of 3, in the loss of step 3: Traceback" in said, said


_JOINED = "import sys\nfrom pipeline.cli import main\nimport tests.helpers.failing_rank as failing\n"
_JOINED += "failing.rank._work = failing.work\nsys.argv[0] = 'clipmill'\nmain()\n"


@pytest.mark.exhaustive
def test_ranks_that_others_started_leave_by_themselves(tmp_path: Path) -> None:
    """As under srun: nobody is there to end them."""
    recipe = write_recipe(tmp_path, steps=100_000, checkpoint={"every_steps": 100_000})
    from training.launch.launcher import _free_port

    place = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _JOINED, "train", str(recipe), "name='reader 1'", "launch.timeout_s=600"],
            env={**os.environ, **ENVIRONMENT, **place, "RANK": str(rank), "LOCAL_RANK": "0"},
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(3)
    ]  # fmt: skip
    try:
        said = [rank.communicate(timeout=200)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.send_signal(signal.SIGKILL)
    assert time.time() - (tmp_path / "train" / "metrics.jsonl").stat().st_mtime < SOON_S
    assert [rank.returncode for rank in ranks] == [78, 78, 78], said
    cause = "in the reader of step 3"
    assert "error: shard-000007.tar: is cut; a whole shard\nrank 1 of 3 on " in said[1] and cause in said[1], said[1]
    assert "error: rank 1 of 3 on " in said[0] and cause in said[0] and "shard-000007.tar" in said[0], said[0]
    assert not any("Traceback" in words for words in said), said
