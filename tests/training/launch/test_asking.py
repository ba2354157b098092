"""On a terminal a person is asked for consent; a job never is."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe import Recipe, load
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import ENVIRONMENT, write_recipe
from training.changes.kept import as_kept
from training.checkpoint.files import FileEntry, write_hashed
from training.checkpoint.layout import STATE, begin, commit
from training.checkpoint.train_state import TrainState
from training.launch.asking import asked
from training.settings import TrainSettings


def saved(recipe: Path, step: int = 6) -> None:
    """A checkpoint without tensors, as the run of `recipe` would have left it."""
    settings = load(str(recipe)).section("train", TrainSettings)
    reader = {"data": "d", "pairs": 96, "seed": 7, "global_batch": 16, "lanes": 16, "window": 8, "step": step}
    state = TrainState(
        step=step, samples=16 * step, reader=reader, optimizer_steps=step, model=settings.model_digest,
        recipe_digest="r", recipe=as_kept(settings), schedule={}, engine={}, world=1,
    )  # fmt: skip
    temp = begin(settings.output_path / "checkpoints", step)
    files = [write_hashed(temp / STATE, [state.as_bytes()]), FileEntry("rank-000.safetensors", 0, "0" * 64)]
    commit(temp, step, 1, files)


def said_to(recipe: Path, reply: str, *overrides: str) -> Recipe:
    def answer(question: str) -> str:
        asked_for.append(question)
        return reply

    asked_for: list[str] = []
    found = asked(load(str(recipe), list(overrides)), answer)
    assert len(asked_for) == (found.data["train"].get("accept_changes") is not None)
    return found


def test_a_yes_is_consent_to_the_settings_that_were_shown(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    recipe = write_recipe(tmp_path)
    saved(recipe)
    found = said_to(recipe, "y", "train.optimizer.lr=0.001", "train.reader.workers=1", "train.image.flip=true")
    assert sorted(found.data["train"]["accept_changes"]) == ["train.image.flip", "train.optimizer.lr"]
    words = capfd.readouterr().err
    assert "train.optimizer.lr" in words and "train.reader.workers" in words
    assert "accept_changes" not in load(str(recipe)).data["train"]


def test_a_no_is_a_refusal(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    saved(recipe)
    for reply in ("", "n", "what?"):
        with pytest.raises(RecipeError, match="train.optimizer.lr 0.003 -> 0.001"):
            said_to(recipe, reply, "train.optimizer.lr=0.001")

    def nobody(question: str) -> str:
        raise EOFError

    with pytest.raises(RecipeError, match="train.accept_changes"):
        asked(load(str(recipe), ["train.optimizer.lr=0.001"]), nobody)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.reader.workers=1",),  # changes nothing
        ("train.optimizer.lr=0.001", "train.fresh=true"),
        ("train.optimizer.lr=0.001", "train.steps=6"),  # finished: says so itself
        ("train.optimizer.lr=0.001", "train.batch.global=32"),  # no consent helps
    ],
)
def test_nobody_is_asked_what_needs_no_answer(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    recipe = write_recipe(tmp_path)
    saved(recipe)
    assert "accept_changes" not in said_to(recipe, "y", *overrides).data["train"]


def test_without_a_checkpoint_or_with_a_damaged_one_nobody_is_asked(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    said_to(recipe, "y", "train.optimizer.lr=0.001")
    saved(recipe)
    (tmp_path / "train" / "checkpoints" / "step-00000006" / "COMPLETE.json").write_text("{")
    said_to(recipe, "y", "train.optimizer.lr=0.001")


_START = "import sys; from pipeline.recipe import load; from training.launch.launcher import start\n"
_START += "try: start('train', load(sys.argv[1], sys.argv[2:]))\nexcept Exception as error: sys.exit(str(error))"


def test_the_question_stands_on_a_real_terminal_before_any_rank_is_started(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    saved(recipe)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(recipe), "train.optimizer.lr=0.001", "launch.processes=2"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 4096)
    os.write(ours, b"n\n")
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # Linux: the other end is closed
        pass
    assert process.wait(timeout=60) == 1 and b"train.optimizer.lr" in seen and b"train.accept_changes" in seen
