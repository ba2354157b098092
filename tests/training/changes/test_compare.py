"""Two recipes of one run say the same of every step of which both speak, or it is said what they differ in."""

from typing import Any

import pytest

from pipeline.recipe import Recipe
from training.changes.compare import Change, changes, raw_changes
from training.settings import TrainSettings

BASE = {"data": ["a"], "output": "o", "steps": 20, "batch": {"global": 12, "chunk": 4}, "model": {"name": "ViT-B-32"},
        "optimizer": {"lr": 0.5}, "schedule": {"kind": "constant", "warmup_steps": 4}}  # fmt: skip


def settings(**train: Any) -> TrainSettings:
    return Recipe("r", {"train": BASE | train}).section("train", TrainSettings)


def between(was: dict[str, Any], now: dict[str, Any], start: int = 10) -> list[Change]:
    return changes(settings(**was), settings(**now), start)


def told(found: list[Change]) -> dict[str, str]:
    return {one.setting: one.effect for one in found}


def test_equal_recipes_differ_in_nothing() -> None:
    stages = [{"until": 8, "optimizer": {"lr": 0.1}, "clock": "stage"}, {"until": 20, "moments": "fresh"}]
    assert between({}, {}) == [] and between({"stages": stages}, {"stages": stages}) == []


@pytest.mark.parametrize(
    ("now", "path", "effect"),
    [
        ({"output": "elsewhere"}, "train.output", "none"),
        ({"data": ["b"]}, "train.data.0", "none"),
        ({"checkpoint": {"every_steps": 7}}, "train.checkpoint.every_steps", "none"),
        ({"eval": {"every_steps": 3}}, "train.eval.every_steps", "none"),
        ({"reader": {"workers": 0}}, "train.reader.workers", "none"),
        ({"max_nonfinite": 3}, "train.max_nonfinite", "none"),
        ({"batch": {"global": 12, "chunk": 2}}, "train.batch.chunk", "rounding"),
        ({"engine": {"zero_stage": 3}}, "train.engine.zero_stage", "rounding"),
        ({"loss": {"kind": "softmax", "tile": 64}}, "train.loss.0.tile", "rounding"),
        ({"loss": {"kind": "softmax", "kernel": "triton"}}, "train.loss.0.kernel", "rounding"),
        ({"loss": {"kind": "softmax", "exchange": "ring"}}, "train.loss.0.exchange", "rounding"),
        ({"loss": {"kind": "softmax", "wire": "bf16"}}, "train.loss.0.wire", "learning"),
        ({"loss": {"kind": "sigmoid"}}, "train.loss.0.kind", "learning"),
        ({"loss": [{"kind": "softmax"}, {"kind": "cyclip"}]}, "train.loss", "learning"),
        ({"optimizer": {"lr": 0.4}}, "train.optimizer.lr", "learning"),
        ({"optimizer": {"lr": 0.5, "betas": [0.9, 0.95]}}, "train.optimizer.betas.1", "learning"),
        ({"captions": {"kind": "first"}}, "train.captions.kind", "learning"),
        ({"image": {"flip": True}}, "train.image.flip", "learning"),
        ({"engine": {"precision": "bf16"}}, "train.engine.precision", "learning"),
        ({"engine": {"grad_clip": 1.0}}, "train.engine.grad_clip", "learning"),
        ({"batch": {"global": 24, "chunk": 4}}, "train.batch.global", "learning"),
        ({"schedule": {"kind": "wsd", "warmup_steps": 4}}, "train.schedule.kind", "learning"),
        ({"companions": [{"kind": "ema"}]}, "train.companions", "learning"),
    ],
)
def test_a_setting_that_differs_is_told_by_its_path_and_what_it_does(now, path: str, effect: str) -> None:
    assert told(between({}, now))[path] == effect


def test_exchanges_round_otherwise_unless_features_travel_rounded() -> None:
    wire = {"kind": "softmax", "wire": "bf16"}
    assert told(between({"loss": wire}, {"loss": wire | {"exchange": "gather2"}})) == {
        "train.loss.0.exchange": "learning"
    }


COSINE = {"schedule": {"kind": "cosine", "warmup_steps": 4}}
WSD = {"schedule": {"kind": "wsd", "decay_steps": 4}}


@pytest.mark.parametrize(
    ("was", "start", "effect"),
    [
        ({}, 20, "none"),  # constant: a run of few steps is the first part of a longer one
        (COSINE, 20, "learning"),
        (COSINE, 10, "learning"),
        (COSINE, 4, "none"),  # the warm-up is the same
        (WSD, 16, "none"),  # before its decay
        (WSD, 18, "learning"),
        ({"schedule": {"kind": "constant", "cooldown_steps": 4}}, 16, "none"),
        ({"schedule": {"kind": "constant", "cooldown_steps": 4}}, 20, "learning"),
        ({"schedule": {"kind": "inverse_sqrt"}}, 20, "none"),
    ],
)
def test_more_steps_pass_where_the_steps_that_are_done_would_have_been_the_same(was, start: int, effect: str) -> None:
    assert told(between(was, was | {"steps": 40}, start)) == {"train.steps": effect}


def test_a_longer_cosine_says_how_far_the_rate_is_off_and_what_to_type() -> None:
    (change,) = between(COSINE, COSINE | {"steps": 40}, 20)
    assert "cosine is another curve: the rate of step 19 is 0.0048 and 0.315" in change.why
    typed = "train.stages='[{until: 20, clock: stage}, {until: 40, clock: stage}]'"
    assert typed in change.hint
    stages = [{"until": 20, "clock": "stage"}, {"until": 40, "clock": "stage"}]
    assert told(between(COSINE, COSINE | {"steps": 40, "stages": stages}, 20)) == {
        "train.steps": "none", "train.stages": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("was", "words"),
    [
        ({"captions": {"kind": "first_then", "at": 0.7}}, "captions follow"),
        ({"captions": {"kind": "weighted", "weights": {"alt": [[0, 1], [1, 2]]}}}, "captions follow"),
        ({"captions": {"kind": "one_synthetic", "share": [[0, 0], [1, 1]]}}, "captions follow"),
        ({"loss": {"kind": "softmax", "weight": [[0, 1], [1, 0.5]]}}, "weight follows"),
    ],
)
def test_what_is_a_share_of_the_run_moves_with_its_steps(was: dict[str, Any], words: str) -> None:
    (change,) = between(was, was | {"steps": 40})
    assert change.effect == "learning" and words in change.why
    assert told(between(was, was | {"steps": 40}, 0)) == {"train.steps": "none"}  # nothing is done


def test_captions_and_weights_that_stay_do_not_move() -> None:
    still = {"captions": {"kind": "weighted", "weights": {"alt": 2}}, "loss": {"kind": "softmax", "weight": 0.5}}
    assert told(between(still, still | {"steps": 40})) == {"train.steps": "none"}
    first = {"captions": {"kind": "first_then", "at": 0}}
    assert told(between(first, first | {"steps": 40})) == {"train.steps": "none"}


TWO = [{"until": 8}, {"until": 20, "optimizer": {"lr": 0.25}}]


def test_of_stages_each_is_compared_with_what_counts_in_its_steps() -> None:
    (change,) = between({"stages": TWO}, {"stages": [TWO[0], {"until": 20, "optimizer": {"lr": 0.125}}]})
    assert (change.setting, change.was, change.now, change.steps) == ("train.optimizer.lr", 0.25, 0.125, (8, 20))
    (change,) = between({}, {"stages": [{"until": 12}, {"until": 20, "image": {"flip": True}}]})[:1]
    assert (change.setting, change.effect, change.steps) == ("train.image.flip", "learning", (12, 20))
    longer = [*TWO, {"until": 30, "optimizer": {"lr": 0.1}, "moments": "fresh"}]
    assert told(between({"stages": TWO}, {"stages": longer, "steps": 30})) == {
        "train.steps": "none", "train.stages": "none",
    }  # fmt: skip


def test_a_stage_that_is_to_begin_otherwise_is_told() -> None:
    fresh = [TWO[0], TWO[1] | {"moments": "fresh"}]
    (change,) = between({"stages": TWO}, {"stages": fresh}, 8)
    assert (change.setting, change.effect) == ("train.stages", "learning") and "keep keep_first at step 8" == change.was
    assert told(between({"stages": TWO}, {"stages": fresh}, 9)) == {"train.stages": "none"}  # it has begun


def test_a_clock_that_makes_another_rate_is_told_and_one_that_does_not_passes() -> None:
    clocks = [TWO[0], TWO[1] | {"clock": "stage"}]
    (change,) = between({"stages": TWO}, {"stages": clocks})
    assert (change.setting, change.effect) == ("train.stages", "learning") and "step 8" in change.was
    no_warmup = {"schedule": {"kind": "constant"}}
    assert told(between(no_warmup | {"stages": TWO}, no_warmup | {"stages": clocks})) == {"train.stages": "none"}


def test_a_recipe_that_cannot_be_read_as_settings_is_compared_as_it_is_written() -> None:
    now = settings()
    was = now.model_dump(mode="json", by_alias=True) | {"of_old": 3, "output": "there", "steps": 10}
    assert told(raw_changes(was, now)) == {
        "train.of_old": "learning", "train.output": "none", "train.steps": "learning",
    }  # fmt: skip


def test_what_is_secret_in_an_address_is_neither_told_nor_a_difference() -> None:
    was, now = ({"data": [f"https://me:{word}@host/set?key={word}"]} for word in ("one", "two"))
    assert between(was, now) == []
    (change,) = between(was, {"data": ["https://me:three@other/set"]})
    assert change.was == "https://host/set" and change.now == "https://other/set"
