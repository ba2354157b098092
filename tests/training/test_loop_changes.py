"""Going on with another recipe: shown, and refused without consent where it changes what is learnt."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.tiny_run import metrics, run, train_here, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which 6 of 12 steps are done, with a cosine for 12."""
    folder = tmp_path_factory.mktemp("changes")
    recipe = write_recipe(folder, output=str(folder / "half"))
    assert train_here(recipe, 1) == [""]
    for later in (9, 12):
        shutil.rmtree(folder / "half" / "checkpoints" / f"step-{later:08d}")
    return folder


def again(half: Path, name: str, world: int, *overrides: str) -> list[str]:
    if not (half / name).exists():
        shutil.copytree(half / "half", half / name)
    return train_here(half / "recipe.yaml", world, f"train.output={half / name}", *overrides)


def starts(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "history" / "attempts.jsonl").read_text().splitlines()]


def test_another_rate_is_refused_on_every_rank_and_nothing_is_touched(half: Path) -> None:
    said = again(half, "refused", 2, "train.optimizer.lr=0.001", "train.reader.workers=1")
    assert said[0] == said[1] and said[0].startswith("RecipeError")
    assert "train.optimizer.lr 0.003 -> 0.001" in said[0] and "train.accept_changes='[train.optimizer.lr]'" in said[0]
    assert "reader.workers" not in said[0]
    assert (half / "refused" / "metrics.jsonl").read_bytes() == (half / "half" / "metrics.jsonl").read_bytes()
    assert (half / "refused" / "recipe.yaml").read_bytes() == (half / "half" / "recipe.yaml").read_bytes()
    assert len(starts(half / "refused")) == 1


def test_with_consent_it_goes_on_and_every_recipe_is_kept(half: Path) -> None:
    change = "train.optimizer.lr=0.001"
    assert again(half, "agreed", 2, change, "train.accept_changes=[optimizer.lr]", "train.steps=12") == ["", ""]
    rows = metrics(half / "agreed")
    assert [row["step"] for row in rows] == list(range(12)) and rows[6]["lr"] < 0.001
    first, second = starts(half / "agreed")
    assert (first["step"], first["changes"], second["step"], second["ranks"]) == (0, [], 6, 2)
    told = {one["setting"]: (one["was"], one["now"], one["effect"]) for one in second["changes"]}
    assert told["train.optimizer.lr"] == (0.003, 0.001, "learning") and told["ranks"] == (1, 2, "rounding")
    kept = [yaml.safe_load((half / "agreed" / "history" / one["recipe"]).read_text()) for one in (first, second)]
    assert [recipe["train"]["optimizer"]["lr"] for recipe in kept] == [0.003, 0.001]
    state = json.loads((half / "agreed" / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert (
        state["recipe"]["train"]["optimizer"]["lr"] == 0.001 and f"recipe-{state['recipe_digest']}" in second["recipe"]
    )
    assert set(state["recipe"]["versions"]) >= {"torch", "deepspeed", "open_clip_torch", "clipmill"}
    assert "accept_changes" not in (half / "agreed" / "recipe.yaml").read_text()
    assert again(half, "agreed", 1, change) == [""]  # finished, by this recipe


def test_what_was_agreed_to_is_no_difference_any_more(half: Path) -> None:
    change = "train.optimizer.lr=0.001"
    assert again(half, "once", 1, change, "train.accept_changes=true") == [""]
    shutil.rmtree(half / "once" / "checkpoints" / "step-00000012")
    assert again(half, "once", 1, change) == [""]  # from step 9, of the new recipe
    assert [one["step"] for one in starts(half / "once")] == [0, 6, 9] and starts(half / "once")[-1]["changes"] == []


def test_consent_to_one_setting_is_none_to_another(half: Path) -> None:
    (said,) = again(
        half, "other", 1, "train.optimizer.lr=0.001", "train.image.flip=true", "train.accept_changes=[image]"
    )
    assert "train.optimizer.lr" in said and "train.image.flip" not in said


def test_a_longer_cosine_is_refused_and_a_stage_behind_it_goes_on(half: Path) -> None:
    (said,) = again(half, "longer", 1, "train.steps=24")
    assert "train.steps 12 -> 24" in said and "cosine is another curve" in said
    assert again(half, "longer", 1) == [""]
    (said,) = again(half, "longer", 1, "train.steps=24")
    typed = said.split("train.stages='")[1].split("'")[0]
    assert again(half, "longer", 1, "train.steps=24", f"train.stages={typed}") == [""]
    rates = [row["lr"] for row in metrics(half / "longer")]
    assert rates[:12] == [row["lr"] for row in metrics(half / "longer")][12:]


def test_a_checkpoint_without_a_recipe_is_taken_for_that_of_the_recipe_beside_it(half: Path) -> None:
    import hashlib

    shutil.copytree(half / "half", half / "older")
    for folder in (half / "older" / "checkpoints").glob("step-*"):
        state = json.loads((folder / "state.json").read_text())
        del state["recipe"]
        data = json.dumps(state).encode()
        (folder / "state.json").write_bytes(data)
        complete = json.loads((folder / "COMPLETE.json").read_text())
        del complete["self_digest"]
        entry = next(file for file in complete["files"] if file["name"] == "state.json")
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        body = json.dumps(complete, sort_keys=True, separators=(",", ":"))
        complete["self_digest"] = hashlib.sha256(body.encode()).hexdigest()
        (folder / "COMPLETE.json").write_text(json.dumps(complete, indent=1) + "\n")
    (said,) = again(half, "older", 1, "train.optimizer.lr=0.001")
    assert said.startswith("RecipeError") and "train.optimizer.lr 0.003 -> 0.001" in said
    shutil.copytree(half / "older", half / "oldest")
    (half / "oldest" / "recipe.yaml").unlink()
    assert again(half, "oldest", 1, "train.optimizer.lr=0.001") == [""]  # nothing says otherwise
    assert again(half, "older", 1) == [""]


def test_activations_may_be_kept_or_computed_again(half: Path) -> None:
    assert again(half, "recomputed", 1, "train.model.grad_checkpointing=true") == [""]
    wanted = [row["loss"] for row in metrics(half / "half")]
    assert [row["loss"] for row in metrics(half / "recomputed")][:6] == wanted[:6]


@pytest.mark.exhaustive
def test_the_command_shows_a_table_and_ends_with_the_code_of_a_wrong_recipe(half: Path) -> None:
    shutil.copytree(half / "half", half / "command")
    changes = ("train.optimizer.lr=0.001", "train.reader.prefetch=1", "launch.processes=2")
    code, words = run(half / "recipe.yaml", f"train.output={half / 'command'}", *changes)
    assert code == 2, words
    lines = [line.split() for line in words.splitlines()]
    assert ["setting", "was", "is"] in lines
    assert any(line[:3] == ["train.optimizer.lr", "0.003", "0.001"] for line in lines)
    assert any(line[:3] == ["train.reader.prefetch", "2", "1"] for line in lines)
    assert any(line[:3] == ["ranks", "1", "2"] for line in lines)
    assert words.count("train.accept_changes='[train.optimizer.lr]'") == 1 and "Traceback" not in words
