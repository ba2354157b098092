"""Both halves together, as data and for a person."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from pipeline.errors import RecipeError
from pipeline.plan.devices import cluster_of
from pipeline.plan.found import CurationPlan, Note, Plan, SavePlan, StagePlan, TrainPlan
from pipeline.plan.plan import as_json, composed
from pipeline.plan.table import rendered

STAGE = StagePlan(
    first=0,
    steps=100,
    pairs=4096,
    rows=512,
    chunk=256,
    chunks=2,
    zero_stage=1,
    precision="bf16",
    parameters=151_277_313,
    trained=63_428_097,
    flops=14.8e9,
    memory={"activations": 8 << 30, "parameters": 1 << 29},
    memory_limit=75 << 30,
    traffic={"gradients": 1_100_000_000, "loss": 90_000_000, "numbers": 28},
    terms={"softmax": {"received": 90_000_000, "parameters": 0}, "odd": {"not_counted": "it does not say"}},
    seconds={"first pass": 0.3, "second pass": 0.7},
    step_s=1.0,
    waits_for="device",
    samples_per_s=4096.0,
    used=0.17,
    reader_mb_s=143.0,
    decode_cores=6.8,
)
SAVE = SavePlan(1_800_000_000, 1.2, 1234.0, 12, 7_200_000_000, 0.5, 30.0)
TRAINING = TrainPlan((STAGE,), SAVE, 409_600, 40_960, 10**9, 24_414.0, 100.0, 3600.0, assumed=("50% of the peak",))
COST = {"tasks": 12_000, "files": 40_000, "packs": 1, "tables": 2, "images": 3, "kept": 0, "reads": 90_000}
CURATION = CurationPlan(10**9, "as given", 16_000, 4096, COST, 2 * 10**12, 900 << 20, 5.5)


def shown(plan: Plan, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for part in rendered(plan):
        console.print(part, markup=False, highlight=False)
    return console.export_text()


def test_hours_and_money_are_of_every_device() -> None:
    plan = composed("x", cluster_of("h100", 2, 8, price=2.5), CURATION, TRAINING)
    assert (plan.gpu_hours, plan.money) == (16.0, 40.0)
    assert composed("x", cluster_of(), CURATION, TRAINING).money is None
    assert composed("x", cluster_of(price=2.5), CURATION, None).money is None
    kept = {"pool and working folder": 2 * 10**12, "shards": 10**9, "checkpoints": 7_200_000_000}
    assert kept.items() <= plan.storage.items()


def test_a_half_that_could_not_be_foretold_is_a_note() -> None:
    note = Note("note", "curation is not foretold", "--pairs 1e8")
    plan = composed("x", cluster_of(), note, TRAINING)
    assert plan.curation is None and plan.every_note == (note,) and plan.fits
    assert "curation is not foretold" in shown(plan) and "type: --pairs 1e8" in shown(plan)


def test_a_recipe_with_neither_half_is_refused() -> None:
    with pytest.raises(RecipeError, match="neither curate nor train"):
        composed("x", cluster_of(), None, None)


def test_what_must_not_be_started_does_not_fit_and_comes_first() -> None:
    bad = replace(
        TRAINING, notes=(Note("note", "small"), Note("stop", "does not fit: 90 GiB", "a=1"), Note("slow", "s"))
    )
    plan = composed("x", cluster_of(), None, bad)
    text = shown(plan)
    assert composed("x", cluster_of(), None, replace(TRAINING, notes=(Note("slow", "s"),))).fits  # it waits, but works
    assert not plan.fits and text.index("does not fit: 90 GiB") < text.index("waits: s") < text.index("note: small")


def test_json_has_every_number() -> None:
    found: Any = json.loads(json.dumps(as_json(composed("x", cluster_of(price=3), CURATION, TRAINING))))
    assert found["format_version"] == 1 and found["fits"] is True
    assert found["training"]["stages"][0]["memory"] == {"activations": 8 << 30, "parameters": 1 << 29}
    assert found["curation"]["cost"]["tasks"] == 12_000 and found["cluster"]["ranks"] == 8
    assert found["money"] == pytest.approx(24.0)


def test_a_person_sees_what_it_comes_to() -> None:
    text = shown(composed("mine", cluster_of("h100", 2, 8, price=2.5), CURATION, TRAINING))
    for words in (
        "mine on 2 nodes of 8 x h100", "1 billion", "12,000", "16,000 parts, 4,096 buckets", "2 TB", "5.5 h",
        "151.3 million", "63.43 million of them trained", "8.5 GiB", "of 75 GiB: activations 8 GiB, parameters 0.5 GiB",
        "1.19 GB", "gradients 1.1 GB, loss 90 MB", "4,096", "pairs/s, waits for device, 17% of the peak", "143 MB/s",
        "1.8 GB", "every 20.6 min, 12 in all", "409,600 pairs, 10 epochs, 0.5 failures expected", "40 at 2.5 an hour",
        "50% of the peak",
    ):  # fmt: skip
        assert words in text, words


def test_weights_that_terms_train_by_themselves_are_shown() -> None:
    head = {"received": 1, "parameters": 64_000_000}
    with_head = replace(STAGE, terms={**STAGE.terms, "label_head": head})
    text = shown(composed("x", cluster_of(), None, replace(TRAINING, stages=(with_head,))))
    (line,) = [line for line in text.splitlines() if line.startswith("weights of terms")]
    assert "64 million" in line and "weights of terms" not in shown(composed("x", cluster_of(), None, TRAINING))


def test_stages_are_told_apart() -> None:
    two = replace(TRAINING, stages=(STAGE, replace(STAGE, first=100, steps=20)))
    assert "stage 2: 20 steps from step 100" in shown(composed("x", cluster_of(), None, two))


def test_names_are_no_markup() -> None:
    assert "[bold]x[/bold]" in shown(composed("[bold]x[/bold]", cluster_of(), None, TRAINING))
