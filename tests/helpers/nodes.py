"""Wrappers of nodes as processes of their own: what `clipmill node RUN_DIR STAGE` does, for tests on one machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.cluster.rundir import RunDir, create
from pipeline.recipe import load
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import ENVIRONMENT

_CODE = """
import sys
from pathlib import Path
from pipeline import log
from pipeline.cluster.node import watch, wrapper
log.configure()
fake, path, stage = sys.argv[1:4]
if fake:
    wrapper.COMMAND, wrapper.SETTLE_S, watch.LOOK_S, watch.PEERS_S = (sys.executable, "-m", fake), 3.0, 0.1, 2.0
sys.exit(wrapper.run_node(Path(path), stage))
"""


def fake_run(folder: Path, **sections: dict[str, Any]) -> RunDir:
    """A run directory whose recipe nobody reads; a train section by default."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(sections or {"train": {"data": ["nowhere"]}}))
    return create(folder / "run", load(str(recipe)))


def start_node(run: RunDir, stage: str = "train", script: str | None = None, **variables: Any) -> subprocess.Popen:
    """`script`: lines for tests.helpers.fake_stage, which then stands in for the stage; `variables` without
    CLIPMILL_."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    environment |= {f"CLIPMILL_{name}": str(value) for name, value in variables.items()}
    fake = ""
    if script is not None:
        fake = "tests.helpers.fake_stage"
        words = run.path.parent / f"script-{variables.get('NODE_RANK', 0)}"
        words.write_text(script.replace("; ", "\n"))
        environment["FAKE_STAGE"] = str(words)
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, fake, str(run.path), stage],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen, limit_s: float = 240.0) -> tuple[int, str]:
    """(exit code, what it wrote)."""
    try:
        words, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    return process.returncode, words


def run_node(run: RunDir, stage: str = "train", script: str | None = None, **variables: Any) -> tuple[int, str]:
    return ended(start_node(run, stage, script, **variables))


def state(run: RunDir) -> dict[str, Any]:
    return json.loads(run.state.read_text()) if run.state.exists() else {}


def until(true: Callable[[], Any], limit_s: float = 240.0) -> Any:
    """What `true` gives once it is true."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s")


def beats(run: RunDir, step: int) -> bool:
    """Whether the newest heartbeat says that `step` steps are done."""
    try:
        return json.loads(run.heartbeat.read_text())["step"] >= step
    except (OSError, ValueError):
        return False
