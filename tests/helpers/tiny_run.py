"""A training run small enough to start many times: 96 pairs, 8 pixels, two layers, and its evaluation sets."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.helpers import ranks
from tests.helpers.datasets import image_bytes, make_dataset
from tests.helpers.places import ROOT
from tests.helpers.ranks import run_ranks

ranks._PRELOAD.append("training.opening")  # open_clip takes seconds to import: once, not for each rank

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 16, "head_width": 8, "patch_size": 4},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
HEAD = {"name": "tiny", "seed": 7, "launch": {"processes": 1, "threads": 1}}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo"}


def write_recipe(folder: Path, **train: Any) -> Path:
    """recipe.yaml for a run of 12 steps of 16 pairs with its data beside it; `train` overrides top keys of `train`."""
    data = folder / "data"
    if not data.exists():
        make_dataset(str(data), shards=3, pairs=32)
    settings = {
        "data": [str(data)], "output": str(folder / "train"), "steps": 12, "model": {"config": MODEL},
        "batch": {"global": 16, "chunk": 4}, "schedule": {"kind": "cosine", "warmup_steps": 2},
        "optimizer": {"lr": 0.003}, "image": {"resize": "squash"}, "reader": {"workers": 0, "window": 8},
        "engine": {"zero_stage": 0}, "checkpoint": {"every_steps": 3},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**HEAD, "train": {**settings, **train}}, sort_keys=False))
    return path


def start(
    recipe: Path, *overrides: str, command: str = "train", rank: str = "training.launch.rank"
) -> subprocess.Popen:
    """`clipmill train RECIPE ...` without its command line: the launcher alone, in a process of its own."""
    code = (
        "import sys\n"
        "from pipeline import log\nfrom pipeline.errors import ClipmillError\nfrom pipeline.recipe import load\n"
        "from training.launch import launcher as launch\n"
        "log.configure()\n"
        f"launch.RANK, launch.END_S = '{rank}', {10 if rank == 'training.launch.rank' else 2}\n"
        "try:\n    sys.exit(launch.start(sys.argv[1], load(sys.argv[2], sys.argv[3:])))\n"
        "except ClipmillError as error:\n    print('error:', error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, command, str(recipe), *overrides], stderr=subprocess.PIPE, text=True,
        env={**os.environ, **ENVIRONMENT}, cwd=ROOT,
    )  # fmt: skip


def finish(process: subprocess.Popen, limit_s: float = 120.0) -> tuple[int, str]:
    """(exit code, what it wrote to stderr)."""
    try:
        _, words = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, words


def run(recipe: Path, *overrides: str, command: str = "train") -> tuple[int, str]:
    return finish(start(recipe, *overrides, command=command))


def metrics(output: Path) -> list[dict[str, Any]]:
    path = output / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_step(output: Path, step: int, limit_s: float = 240.0) -> None:
    """Returns once the log has `step`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        path = output / "metrics.jsonl"
        if path.exists() and f'"step":{step},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step} in {output} within {limit_s} s")


def ranks_of(launcher: subprocess.Popen) -> list[int]:
    """Process ids of the ranks that a launcher started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    found = []
    for pid in map(int, children):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"rank" in words:
            found.append(pid)
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


def write_eval_set(folder: Path, rows: int, label: str, shards: int = 1) -> Path:
    """A set in clip_benchmark's layout: KEY.txt with one or two captions, or KEY.cls out of 7 classes."""
    test = folder / "test"
    test.mkdir(parents=True)
    (test / "nshards.txt").write_text(f"{shards}\n")
    for shard in range(shards):
        with tarfile.open(test / f"{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for n in range(shard, rows, shards):
                text = f"caption {n}\n" + f"title {n}\n" * (n % 2) if label == "txt" else str(n % 7)
                for name, data in ((f"s{n:04d}.jpg", image_bytes(n)), (f"s{n:04d}.{label}", text.encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    if label == "cls":
        (folder / "classnames.txt").write_text("".join(f"colour {k}\n" for k in range(7)))
        (folder / "zeroshot_classification_templates.txt").write_text("a picture of {c}.\n{c}\n")
    return folder


def _train_as(peers: Any, recipe: str, overrides: list[str], environment: dict[str, str]) -> str:
    os.environ.update(environment)
    from pipeline.errors import ClipmillError
    from pipeline.recipe import load
    from pipeline.signals import StopSignals
    from training.loop import train
    from training.settings import EvalSettings, TrainSettings

    loaded = load(recipe, overrides)
    sets = loaded.section("eval", EvalSettings).sets if loaded.has("eval") else []
    try:
        with StopSignals() as stop:
            settings = loaded.section("train", TrainSettings)
            train(settings, seed=loaded.seed, recipe=loaded, peers=peers, stop=stop, sets=sets)
    except ClipmillError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def train_here(recipe: Path, world: int, *overrides: str, environment: dict[str, str] | None = None) -> list[str]:
    """The run by `world` forks of a warm process rather than by the launcher: for tests of the run itself.

    What each rank's error said, "" when it ended well.
    """
    return run_ranks(_train_as, world, str(recipe), list(overrides), environment or {})
