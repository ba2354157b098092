"""Stages as functions of the step: settings, rates, pairs drawn; and plans that cannot be carried out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe import Recipe
from training.settings import TrainSettings

BASE = {"data": ["a"], "output": "o", "steps": 30, "batch": {"global": 12, "chunk": 4}, "model": {"name": "ViT-B-32"},
        "optimizer": {"lr": 0.5, "betas": [0.1, 0.2]}, "schedule": {"warmup_steps": 4}}  # fmt: skip


def planned(*stages: dict[str, Any], **train: Any):
    data = {"train": BASE | train | ({"stages": list(stages)} if stages else {})}
    return Recipe("r", data).section("train", TrainSettings)


def test_without_stages_a_run_is_one_stage_and_its_settings_are_the_very_ones() -> None:
    settings = planned()
    plan = settings.plan
    assert len(plan.stages) == 1 and plan.resolved(0) is plan.resolved(99) is settings
    assert plan.lanes is None and plan.pairs_before(7) == 84 and not plan.begins_at(0) and not plan.begins_at(30)
    assert [plan.lr_at(step) for step in range(30)] == [settings.schedule.lr_at(step, 0.5, 30) for step in range(30)]


THREE = (
    {"until": 10, "model": {"image_size": 112, "lock_image": True}, "batch": {"global": 18}},
    {"until": 16, "moments": "fresh", "optimizer": {"kind": "lion"}, "clock": "stage", "schedule": {"warmup_steps": 2}},
    {"until": 30, "moments": "fresh", "optimizer": {"lr": 0.25}, "batch": {"chunk": 2}},
)


def test_each_step_has_the_base_and_what_its_stage_changes() -> None:
    settings = planned(*THREE)
    plan = settings.plan
    assert [plan.number_at(step) for step in (0, 9, 10, 15, 16, 29, 30, 99)] == [0, 0, 1, 1, 2, 2, 2, 2]
    first, second, third = (plan.resolved(step) for step in (0, 10, 16))
    assert (first.model.image_size, first.model.lock_image, first.model.name) == (112, True, "ViT-B-32")
    assert (second.model.image_size, second.model.lock_image) == (None, False)
    assert (first.batch.global_pairs, first.batch.chunk, third.batch.global_pairs, third.batch.chunk) == (18, 4, 12, 2)
    assert (second.optimizer.kind, second.optimizer.lr) == ("lion", 1e-4)
    assert (third.optimizer.kind, third.optimizer.lr, third.optimizer.betas) == ("adamw", 0.25, (0.1, 0.2))
    assert plan.of_checkpoint(10) is first and plan.of_checkpoint(11) is second and plan.of_checkpoint(0) is first
    assert [plan.begins_at(step) for step in (0, 9, 10, 16, 30)] == [False, False, True, True, False]
    assert settings.model_digest == planned().model_digest


def test_a_clock_of_the_stage_starts_the_schedule_anew_and_one_of_the_run_does_not() -> None:
    plan = planned(*THREE).plan
    schedule = planned().schedule
    assert plan.lr_at(9) == schedule.lr_at(9, 0.5, 30)
    assert plan.lr_at(10) == pytest.approx(1e-4 / 2) and plan.lr_at(11) == pytest.approx(1e-4)
    assert plan.lr_at(14) == pytest.approx(1e-4 / 2) and plan.lr_at(16) == schedule.lr_at(16, 0.25, 30)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 8)), min_size=1, max_size=5))
def test_pairs_before_a_step_are_the_sum_of_the_batches_before_it(stages) -> None:
    ends = [sum(steps for steps, _ in stages[: number + 1]) for number in range(len(stages))]
    told = [{"until": end, "batch": {"global": 2 * size}} for end, (_, size) in zip(ends, stages, strict=True)]
    plan = planned(*told, steps=ends[-1]).plan
    sizes = [2 * size for steps, size in stages for _ in range(steps)]
    for step in range(len(sizes) + 1):
        assert plan.pairs_before(step) == sum(sizes[:step])
    for step in range(len(sizes)):
        start, pairs = plan.origin(step)
        assert pairs == sum(sizes[:start]) and plan.number_at(start) == plan.number_at(step)
    assert len(stages) == 1 or all(2 * size % plan.lanes == 0 for _, size in stages)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (({"until": 10}, {"until": 10}), "stages.1.until: found 10; more than the stage before, 10"),
        (({"until": 10}, {"until": 20}), "stages.1.until: found 20; the last stage ends with the run"),
        (({"until": 10}, {"until": 40}), "stages.1.until: found 40"),
        (({"until": 0}, {"until": 30}), "stages.0.until"),
        (({"until": 30, "modell": {}},), "stages.0.modell: unknown key"),
        (({"until": 30, "optimizer": {"lrr": 2}},), "stages.0.optimizer.lrr: found 2"),
        (({"until": 30, "batch": {"chunks": 2}},), "stages.0.batch.chunks: found 2"),
        (({"until": 30, "model": {"image_size": 0}},), "stages.0.model.image_size: found 0"),
        (({"until": 30, "model": {"pretrained": "x"}},), "stages.0.model.pretrained: may not change"),
        (({"until": 9, "optimizer": {"kind": "muon"}}, {"until": 30}), "stages.1: goes from muon to adamw"),
        (({"until": 9, "model": {"lock_text": True}}, {"until": 30}), "stages.1: trains the text tower"),
        (({"until": 9}, {"until": 30, "loss": {"kind": "sigmoid"}}), "stages.1: its loss trains bias"),
        (({"until": 9}, {"until": 30, "loss": [{"kind": "softmax"}, {"kind": "views"}]}), "stages.1: its loss trains"),
        (
            ({"until": 9}, {"until": 30, "loss": {"kind": "softmax", "target": {"kind": "teacher"}}}),
            "stages.1: train.companions: a term wants teacher.image, teacher.text; companions give nothing",
        ),
        (
            ({"until": 9}, {"until": 30, "loss": {"kind": "softmax", "queue": "momentum"}}),
            "stages.1: train.companions: a term wants momentum.queue/id",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_any_work(stages, words) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(*stages)
    assert words in str(caught.value)
    assert "hint" in str(caught.value) or "until" in words or "found" in words


def test_locking_more_needs_nothing_fresh() -> None:
    planned({"until": 9}, {"until": 30, "model": {"lock_text": True}})
    with pytest.raises(RecipeError, match="one of `stages` and `preset`"):
        planned({"until": 30}, preset={"kind": "lit"})


def test_a_rate_that_jumps_because_of_other_settings_is_told_with_both_figures() -> None:
    cosine = {"kind": "cosine", "warmup_steps": 10}
    before = planned(schedule=cosine, steps=20, optimizer={"lr": 1.0}).plan
    longer = planned(schedule=cosine, steps=40, optimizer={"lr": 1.0}).plan
    last = before.lr_at(19)
    assert "from 0.0245 in step 19 to 0.75 in step 20 (2% and 75% of its peak)" in longer.jump_at(20, last)
    assert before.jump_at(20, last) is None and longer.jump_at(20, None) is None and longer.jump_at(0, None) is None
    for kind in ("constant", "wsd"):
        going = [planned(schedule={"kind": kind, "warmup_steps": 10}, steps=steps).plan for steps in (20, 40)]
        assert going[1].jump_at(16, going[0].lr_at(15)) is None
    assert (
        planned({"until": 5}, {"until": 30, "optimizer": {"lr": 9.0}}).plan.jump_at(5, planned().plan.lr_at(4)) is None
    )
