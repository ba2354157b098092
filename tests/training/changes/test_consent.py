"""Which changes are agreed to, and how they are shown."""

import importlib.metadata
from pathlib import Path

import pytest

from pipeline.recipe import Recipe, load
from tests.helpers.places import ROOT
from training.changes.compare import Change
from training.changes.consent import of_ranks, refusal, table, unaccepted, with_draws
from training.changes.history import note_start
from training.changes.kept import as_kept, kept_in, versions, without_consent
from training.settings import TrainSettings

RATE = Change("train.optimizer.lr", 0.5, 0.25, "learning", "other numbers")
BETA = Change("train.optimizer.betas.1", 0.98, 0.9, "learning", "other numbers")
CHUNK = Change("train.batch.chunk", 64, 32, "rounding", "the same sums in another order")
PLACE = Change("train.output", "a", "b", "none", "a place")


@pytest.mark.parametrize(
    ("accepted", "left"),
    [
        (False, [RATE, BETA]), (True, []), ((), [RATE, BETA]), (("train.optimizer.lr",), [BETA]),
        (("optimizer.lr",), [BETA]), (("optimizer",), []), (("train",), []), (("optimizer.l",), [RATE, BETA]),
        (("lr",), [RATE, BETA]), (("train.loss",), [RATE, BETA]), (("optimizer.lr.x",), [RATE, BETA]),
    ],
)  # fmt: skip
def test_consent_is_to_a_setting_or_to_a_section(accepted, left) -> None:
    assert unaccepted([RATE, PLACE, BETA, CHUNK], accepted) == left


def test_dropout_makes_another_chunk_other_draws() -> None:
    assert [one.effect for one in with_draws([CHUNK, PLACE], True)] == ["learning", "none"]
    assert with_draws([CHUNK, PLACE], False) == [CHUNK, PLACE]
    assert of_ranks(2, 2, True) == [] and of_ranks(2, 3, False)[0].effect == "rounding"
    assert "dropout" in of_ranks(2, 3, True)[0].why and "dropout" not in of_ranks(2, 3, False)[0].why


def test_the_table_has_a_line_for_each_and_columns_that_stand() -> None:
    staged = Change("train.loss", [{"kind": "softmax", "target": "x" * 50}], [], "learning", "other numbers", (8, 20))
    lines = table([RATE, PLACE, staged]).splitlines()
    assert len(lines) == 4 and lines[0].split() == ["setting", "was", "is"]
    assert "train.loss (steps 8 to 19)" in lines[3] and "..." in lines[3]
    ends = {line.index(word) for line, word in zip(lines[1:], ("CHANGES", "changes", "CHANGES"), strict=True)}
    assert len(ends) == 1


def test_a_refusal_says_what_to_type() -> None:
    words = str(refusal("step-7", [RATE, BETA]))
    assert "train.optimizer.lr 0.5 -> 0.25 (other numbers)" in words
    assert "train.accept_changes='[train.optimizer.lr, train.optimizer.betas.1]'" in words
    many = [Change(f"train.image.x{n}", 1, 2, "learning", "") for n in range(9)]
    assert "train.accept_changes='[train.image, train.optimizer]'" in str(refusal("s", [*many, RATE]))


def every_recipe() -> list[str]:
    return [path.stem for path in (ROOT / "pipeline/recipes").glob("*.yaml") if "\ntrain:" in path.read_text()]


@pytest.mark.parametrize("name", every_recipe())
def test_what_a_checkpoint_keeps_gives_the_settings_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CLIPART", "CHAT_URL", "CHAT_MODEL"):
        monkeypatch.setenv(variable, "x")
    settings = load(name).section("train", TrainSettings)
    assert TrainSettings.model_validate(as_kept(settings)["train"]) == settings


def test_settings_far_from_their_defaults_are_kept_whole() -> None:
    train = {
        "data": ["a"], "output": "o", "steps": 20, "batch": {"global": 12, "chunk": 4},
        "model": {"name": "ViT-B-32", "image_size": 112, "mean": [0.1, 0.2, 0.3]},
        "loss": [{"kind": "sigmoid", "weight": [[0, 1], [1, 0.5]], "target": {"kind": "labels", "field": "x"}},
                 {"kind": "feature_distill", "teacher": "anchor"}],
        "companions": [{"kind": "ema", "decay": 0.9}, {"kind": "teacher", "name": "anchor", "checkpoint": "runs/x"}],
        "optimizer": {"kind": "lion", "lr": 0.5}, "schedule": {"kind": "wsd", "decay_share": 0.5},
        "captions": {"kind": "weighted", "weights": {"alt": [[0, 1], [1, 2]]}},
        "stages": [{"until": 8, "batch": {"global": 6}}, {"until": 20, "clock": "stage", "optimizer": {"lr": 0.1}}],
        "accept_changes": ["train.loss"], "fresh": True,
    }  # fmt: skip
    settings = Recipe("r", {"train": train}).section("train", TrainSettings)
    again = TrainSettings.model_validate(as_kept(settings)["train"])
    assert (again.accept_changes, again.fresh) == (False, False)
    assert again.model_copy(update={"accept_changes": ("train.loss",), "fresh": True}) == settings
    for step in (0, 8, 19):
        assert again.plan.resolved(step).optimizer == settings.plan.resolved(step).optimizer
        assert again.plan.lr_at(step) == settings.plan.lr_at(step)


def test_versions_are_those_of_the_packages() -> None:
    assert versions()["torch"] == importlib.metadata.version("torch") and "deepspeed" in versions()


def test_a_torn_line_of_the_history_costs_no_other(tmp_path: Path) -> None:
    recipe = Recipe("r", {"train": {"steps": 1, "accept_changes": True}})
    for step in (0, 5):
        note_start(tmp_path, recipe, step=step, ranks=1, found=[RATE], job=None)
        with open(tmp_path / "history" / "attempts.jsonl", "ab") as file:
            file.write(b'{"step":')
    lines = (tmp_path / "history" / "attempts.jsonl").read_text().splitlines()
    assert [line.startswith('{"time"') for line in lines] == [True, False, True, False]
    assert len(list((tmp_path / "history").glob("recipe-*.yaml"))) == 1
    assert "accept_changes" not in without_consent(recipe).as_yaml()


def test_without_any_recipe_it_is_said_what_is_assumed(tmp_path: Path) -> None:
    class State:
        recipe = None

    kept = kept_in(State(), tmp_path)  # type: ignore[arg-type]
    assert kept.settings is None and kept.raw is None and "keeps no recipe" in kept.assumed
    State.recipe = {"train": {"of_old": 1}, "versions": {"torch": "1"}}
    kept = kept_in(State(), tmp_path)  # type: ignore[arg-type]
    assert kept.settings is None and kept.raw == {"of_old": 1} and kept.versions == {"torch": "1"} and kept.assumed
