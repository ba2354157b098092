"""A run foretold: its stages, its data, and what does not fit with what to type."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.contract.manifest import Manifest
from pipeline.plan.devices import Cluster, Device, cluster_of
from pipeline.plan.found import Note, TrainPlan
from pipeline.recipe import load
from pipeline.settings import digest_of
from tests.helpers.datasets import make_dataset
from training.costs import advice, plan, stage
from training.costs.plan import foretell
from training.costs.stage import Shape
from training.settings import TrainSettings

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
SMALL = Device("h100", 2.45, 989, 67, 3350, 450, 50, 50)  # so small that little fits beside the context


@pytest.fixture(autouse=True, scope="module")
def looked_at_once() -> Iterator[None]:
    """Towers of equal settings are looked at once for all tests: that is what takes the time."""
    known: dict[str, Shape] = {}

    def remembered(settings: TrainSettings, ranks: int) -> Shape:
        parts = [settings.model, settings.loss, settings.companions, settings.optimizer, settings.engine.precision]
        key = digest_of([*parts, min(settings.batch.chunk, stage.rows_of(settings, ranks))])
        if key not in known:
            known[key] = stage.shape_of(settings, ranks)
        return replace(known[key], settings=settings)

    with pytest.MonkeyPatch.context() as patch:
        for module in (plan, advice):
            patch.setattr(module, "shape_of", remembered)
        yield


def recipe(folder: Path, **train: Any) -> Path:
    plain: dict[str, Any] = {
        "data": [str(folder / "data")], "output": str(folder / "run"), "steps": 1000, "model": {"config": CONFIG},
        "batch": {"global": 4096, "chunk": 256}, "engine": {"zero_stage": 0, "precision": "fp32"},
        "reader": {"workers": 8},
    }  # fmt: skip
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({"name": "r", "train": {**plain, **train}}))
    return path


def planned(path: Path, cluster: Cluster, *words: str) -> TrainPlan:
    found = foretell(load(str(path), list(words)).section("train", TrainSettings), cluster)
    assert isinstance(found, TrainPlan)
    return found


def notes(plan: TrainPlan, level: str) -> list[Note]:
    return [note for note in plan.notes if note.level == level]


def test_the_whole_adds_up(tmp_path: Path) -> None:
    plan = planned(recipe(tmp_path, reader={"workers": 100}), cluster_of("h100", 2, 4, cores=1000, storage_gb_s=100))
    (stage,) = plan.stages
    assert (stage.rows, stage.chunk, stage.chunks) == (512, 256, 2)
    assert stage.step_s == pytest.approx(sum(stage.seconds.values())) and stage.held == sum(stage.memory.values())
    assert stage.samples_per_s == pytest.approx(4096 / stage.step_s)
    assert plan.train_s == pytest.approx(1000 * stage.step_s) and plan.pairs == 4_096_000
    assert plan.total_s == pytest.approx(plan.train_s + plan.save.number * plan.save.seconds + plan.save.lost_s)
    assert stage.used < 0.5 and plan.data_pairs is None and not notes(plan, "stop")
    assert any("35 kB a pair are taken for granted" in note.found for note in notes(plan, "note"))


def test_a_finished_dataset_says_what_a_pair_has(tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "data"), shards=3, pairs=32)
    manifest = Manifest.load(str(tmp_path / "data"))
    plan = planned(recipe(tmp_path), cluster_of())
    size = sum(path.stat().st_size for path in (tmp_path / "data").glob("*.tar"))
    assert (plan.data_pairs, plan.data_bytes) == (manifest.num_pairs, size)
    assert plan.pair_bytes == pytest.approx(size / 96)
    (stage,) = plan.stages
    assert stage.reader_mb_s == pytest.approx(4096 / sum(stage.seconds.values()) * size / 96 / 1e6)


def test_every_stage_is_foretold_for_itself(tmp_path: Path) -> None:
    stages = [{"until": 700, "model": {"image_size": 32}}, {"until": 1000, "batch": {"global": 2048}}]
    plan = planned(recipe(tmp_path, stages=stages), cluster_of(cores=1000, storage_gb_s=100))
    small, large = plan.stages
    assert [(each.first, each.steps, each.pairs) for each in plan.stages] == [(0, 700, 4096), (700, 300, 2048)]
    assert small.flops < 0.5 * large.flops and small.memory["activations"] < 0.5 * large.memory["activations"]
    assert plan.train_s == pytest.approx(700 * small.step_s + 300 * large.step_s)


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ([], ["precision"]),
        (["train.engine.precision=bf16", "train.batch.chunk=512"], ["chunk"]),
        (["train.engine.precision=bf16", "train.batch.global=8192", "train.batch.chunk=1024"], ["chunk"]),
    ],
)
def test_what_does_not_fit_fits_when_what_is_said_is_typed(tmp_path: Path, words: list[str], typed: list[str]) -> None:
    path, cluster = recipe(tmp_path), Cluster(SMALL, 1, 8)
    plan = planned(path, cluster, *words)
    (stop,) = notes(plan, "stop")
    assert "does not fit" in stop.found and not plan.stages[0].fits
    fix = [word for word in stop.fix.split() if word.startswith("train.")]
    assert fix and all(any(part in word for word in fix) for part in typed)
    after = planned(path, cluster, *words, *fix)
    assert not notes(after, "stop") and after.stages[0].fits


def test_what_nothing_helps_is_said_to_need_another_device(tmp_path: Path) -> None:
    tiny = Device("h100", 2.15, 989, 67, 3350, 450, 50, 50)
    (stop,) = notes(planned(recipe(tmp_path), Cluster(tiny, 1, 8)), "stop")
    assert "no setting makes it fit" in stop.fix


def test_fewer_pairs_than_ranks_are_refused(tmp_path: Path) -> None:
    plan = planned(recipe(tmp_path, batch={"global": 8, "chunk": 8}), cluster_of("h100", 2, 8))
    (stop,) = notes(plan, "stop")
    assert "8 pairs a step for 16 ranks" in stop.found and "train.batch.global=1024" in stop.fix


def test_small_chunks_wait_for_python_and_larger_ones_do_not(tmp_path: Path) -> None:
    path = recipe(tmp_path, engine={"zero_stage": 1, "precision": "bf16"}, batch={"global": 65536, "chunk": 16})
    cluster = cluster_of("b200", 1, 8, cores=10_000, storage_gb_s=1000)
    plan = planned(path, cluster, "train.reader.workers=1000")
    assert plan.stages[0].waits_for == "host"
    (slow,) = [note for note in notes(plan, "slow") if "Python" in note.found]
    after = planned(path, cluster, "train.reader.workers=1000", slow.fix)
    assert after.stages[0].step_s < 0.7 * plan.stages[0].step_s


def test_a_slow_network_is_named(tmp_path: Path) -> None:
    plan = planned(recipe(tmp_path), cluster_of("h100", 16, 8, network_gbit=1))
    assert plan.stages[0].waits_for == "network"
    assert any("gradients" in note.found and "train.batch.global=8192" in note.fix for note in notes(plan, "slow"))


def test_parameters_that_travel_too_often_are_named(tmp_path: Path) -> None:
    path = recipe(tmp_path, engine={"zero_stage": 3, "precision": "bf16"}, batch={"global": 4096, "chunk": 8})
    plan = planned(path, cluster_of("h100", 4, 8, network_gbit=1))
    assert any("train.engine.zero_stage=1" in note.fix for note in notes(plan, "slow"))


def test_a_reader_that_is_too_slow_is_what_is_waited_for(tmp_path: Path) -> None:
    by_disk = planned(recipe(tmp_path), cluster_of(storage_gb_s=0.01))
    assert by_disk.stages[0].waits_for == "storage" and any("own disks" in note.fix for note in notes(by_disk, "slow"))
    assert by_disk.stages[0].samples_per_s == pytest.approx(0.01e9 / 35_000)
    few = planned(recipe(tmp_path, reader={"workers": 1, "threads": 1}), cluster_of(cores=64))
    assert few.stages[0].waits_for == "decoding"
    assert any(note.fix.startswith("train.reader.workers=") for note in notes(few, "slow"))
    narrow = planned(recipe(tmp_path), cluster_of(cores=2))
    assert any("which has 2" in note.found and "min_side" in note.fix for note in notes(narrow, "slow"))


def test_what_is_not_counted_is_said(tmp_path: Path) -> None:
    """A teacher that is not here, and the term whose vectors are as wide as nobody knows; each by its name."""
    loss = [{"kind": "softmax"}, {"kind": "feature_distill", "teacher": "big", "weight": 0.25}]
    company = [{"kind": "stored", "set": "far", "teachers": ["big"]}]
    plan = planned(recipe(tmp_path, loss=loss, companions=company, eval={"every_steps": 10}), cluster_of())
    words = [note.found for note in notes(plan, "note") if "not counted" in note.found]
    assert [word.split("not counted: ")[1].split(":")[0] for word in words] == [
        "what feature_distill of train.loss exchanges and computes between the passes",
        "memory and forwards of stored in train.companions",
        "evaluations in the loop",
    ]
    assert "size of big.image is not known" in words[0] and "no reinforced.json" in words[1]
    assert plan.stages[0].terms["feature_distill"] == {"not_counted": "the size of big.image is not known here"}


def test_every_term_is_part_of_memory_traffic_and_time(tmp_path: Path) -> None:
    """And of the parameters, where it trains some; a term that never weighs anything is part of nothing."""
    cluster = cluster_of("h100", 1, 8)
    alone = planned(recipe(tmp_path), cluster).stages[0]
    head = {"kind": "label_head", "classes": 1_000_000}
    both = planned(recipe(tmp_path, loss=[{"kind": "softmax"}, head]), cluster).stages[0]
    assert both.terms["softmax"] == alone.terms["softmax"]
    assert both.terms["label_head"]["parameters"] == 64_000_000
    assert both.memory["weights of terms"] == 4 * 4 * 64_000_000 // 8 and "weights of terms" not in alone.memory
    assert both.memory["loss"] == max(int(cost["held"]) for cost in both.terms.values()) > alone.memory["loss"]
    more = both.terms["label_head"]["received"]
    assert both.traffic["loss"] == alone.traffic["loss"] + int(more) and int(more) > 0
    assert both.seconds["loss"] > 2 * alone.seconds["loss"]
    later = planned(recipe(tmp_path, loss=[{"kind": "softmax"}, {**head, "weight": [[0, 0], [1, 1]]}]), cluster)
    never = planned(recipe(tmp_path, loss=[{"kind": "softmax"}, {**head, "weight": 0}]), cluster)
    assert later.stages[0].terms == both.terms and never.stages[0].terms == alone.terms


def test_a_captioning_term_is_part_of_the_passes(tmp_path: Path) -> None:
    """Logits of every token and word, their logarithms of shares, and the gradient of both are more than all else."""
    loss = [{"kind": "softmax"}, {"kind": "caption", "weight": 2}]
    decoder = {"width": 64, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    config = {**CONFIG, "vision_cfg": vision, "multimodal_cfg": decoder}
    path = recipe(tmp_path, loss=loss, model={"config": config}, batch={"global": 64, "chunk": 8})
    (stage,) = planned(path, cluster_of("h100", 1, 8)).stages
    assert stage.memory["activations"] > 2.9 * 4 * 8 * 15 * 49408
    assert stage.terms["caption"] == {"received": 0, "flops": 0, "held": 0, "parameters": 0, "weights_held": 0}
    of_core = int(stage.terms["softmax"]["received"])
    assert stage.traffic["loss"] == of_core + 2 * (2 * 8 * 7 // 8)


def test_companions_take_memory(tmp_path: Path) -> None:
    company = [{"kind": "ema"}, {"kind": "momentum", "queue": 4096}]
    plan = planned(recipe(tmp_path, companions=company), cluster_of())
    (stage,) = plan.stages
    P = stage.parameters
    entries = 4096 * (2 * 4 * 64 + 8) // 8
    said = 512 * 2 * 4 * 64  # of this step's rows, on their way into the queue
    held = stage.memory["companions"] - 2 * entries - said  # a step reads a copy
    assert 4 * P // 8 + 4 * P <= held < 1.001 * (4 * P // 8 + 4 * P)
    assert stage.seconds["companions"] > 0


def test_towers_that_cannot_be_built_here_are_said(tmp_path: Path) -> None:
    text = {"hf_model_name": "nobody/nothing", "hf_tokenizer_name": "nobody/nothing"}
    path = recipe(tmp_path, model={"config": {**CONFIG, "text_cfg": text}})
    found = foretell(load(str(path)).section("train", TrainSettings), cluster_of())
    assert isinstance(found, Note) and found.level == "note" and "training is not foretold" in found.found
