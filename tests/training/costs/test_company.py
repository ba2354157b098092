"""Companions foretold, against those of a run: bytes that lie there, travel and are saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.contract.reinforced.manifest import ReinforcedManifest, TeacherEntry
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_run import MODEL
from tests.training.costs.test_model import CONFIG, tower_flops
from training.companions import COMPANIONS
from training.costs.company import KINDS, Company, company_of
from training.costs.model import Model
from training.settings import TrainSettings

PAIRS, QUEUE, N = 16, 20, 6
FOLLOWED = {
    "companions": [{"kind": "ema"}, {"kind": "momentum", "queue": QUEUE}],
    "loss": {"kind": "softmax", "queue": "momentum"},
}
TAUGHT = {"kind": "softmax", "target": {"kind": "teacher", "share": 0.5}}


def settings_of(data: str = "x", config: dict[str, Any] = MODEL, **train: Any) -> TrainSettings:
    plain = {"data": [data], "output": "y", "steps": 3, "model": {"config": config}, "engine": {"zero_stage": 0}}
    return TrainSettings.model_validate({**plain, "batch": {"global": PAIRS, "chunk": N}, **train})


def companies(settings: TrainSettings) -> dict[str, Company]:
    return {one.called: one for one in company_of(Model(settings), N)}


def test_every_kind_of_companion_is_known() -> None:
    assert set(KINDS) == set(COMPANIONS)


def at_work(peers: Any) -> dict[str, int]:
    """Of this rank: bytes that an average and a momentum encoder hold, move in a step, and save."""
    from training.engine.build import build_engine
    from training.reader.batch import Batch

    settings, b = settings_of(**FOLLOWED), PAIRS // peers.world
    engine: Any = build_engine(settings.towers(0), settings.engine, settings.optimizer, peers)
    average, momentum = (one.build(engine, 0) for one in settings.companions)
    wanted, moved = frozenset(f"momentum.queue/{name}" for name in ("image", "text", "id")), []
    for step in range(4):
        rows = {
            "image": torch.zeros(b, 3, 8, 8, dtype=torch.uint8), "tokens": torch.ones(b, 8, dtype=torch.int64),
            "id": torch.arange(b) + PAIRS * step + b * peers.rank, "valid": torch.ones(b, dtype=torch.bool),
        }  # fmt: skip
        before = peers.moved
        momentum.enrich(Batch(step, rows, [""] * b, [""] * b, [0] * b), wanted, N)
        momentum.after_step(engine, 0.1, False)
        moved.append(peers.moved - before)
    towers = momentum.towers
    return {
        "average": sum(part.nbytes for part in average._average.values()),
        "towers": sum(one.nbytes for one in (*towers.parameters(), *towers.buffers())),
        "queue": sum(column.nbytes for column in momentum._queue.rows.values()),
        "moved": moved[-1],
        "saved": sum(tensor.nbytes for one in (average, momentum) for _, tensor in one.state()),
        "tensors": sum(1 for one in (average, momentum) for _ in one.state()),
    }


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_what_averages_and_momentum_encoders_hold_move_and_save(world: int) -> None:
    """Twenty pairs of a queue are a step of sixteen and the last four of the one before, which are one rank's."""
    settings = settings_of(**FOLLOWED)
    model, pairs = Model(settings), PAIRS // world * world
    found, ranks = {one.called: one for one in company_of(model, N)}, run_ranks(at_work, world)
    average, momentum, weights = found["ema"], found["momentum"], model.weights()
    assert average.held(weights, 0, world, pairs) == max(one["average"] for one in ranks)
    assert momentum.towers == ranks[0]["towers"]
    assert momentum.entry * momentum.queued(pairs, world) == max(one["queue"] for one in ranks)
    assert {momentum.moved(pairs, world)} == {one["moved"] for one in ranks}
    assert average.saved(weights) + momentum.saved(weights) == ranks[0]["saved"]
    assert average.tensors + momentum.tensors == ranks[0]["tensors"]


def test_a_momentum_encoder_looks_at_a_chunk_as_it_is_evaluated() -> None:
    """Whole pictures, though the trained towers leave patches out; without a queue what is asked for alone."""
    train = {"config": CONFIG, "companions": [{"kind": "momentum"}]}
    whole = companies(settings_of(**train, loss={"kind": "softmax", "target": {**TAUGHT["target"], **SLOW}}))
    assert whole["momentum"].look.work.flops == N * tower_flops()
    dropped = {"config": CONFIG, "patch_dropout": 0.5}
    loss = [{"kind": "softmax"}, {"kind": "masked_view"}]
    image = companies(settings_of(**train, model=dropped, loss=loss))["momentum"]
    none = companies(settings_of(**train))["momentum"]
    assert 0 < image.look.work.flops < N * tower_flops() and none.look.work.flops == 0
    assert (image.row, none.row) == (4 * CONFIG["embed_dim"], 0) and image.moved(16, 2) == none.moved(16, 2) == 0
    texts = CONFIG["text_cfg"]
    without = {**CONFIG, "text_cfg": {**texts, "layers": 1}}
    assert companies(settings_of(config=without, companions=train["companions"], loss=loss))["momentum"].look.work == (
        image.look.work
    )


SLOW = {"image": "momentum.image", "text": "momentum.text"}


def test_a_teacher_is_towers_of_its_own(tmp_path: Path) -> None:
    """Of another size and width; its forwards on its own pixels. A run's model is that of the recipe beside it."""
    given = {"kind": "teacher", "model": {"config": CONFIG, "pretrained": "gone.pt"}}
    teacher = companies(settings_of(companions=[given], loss=TAUGHT))["teacher"]
    towers = settings_of(config=CONFIG).towers(0)
    held = sum(tensor.nbytes for tensor in (*towers.parameters(), *towers.buffers()))
    assert (teacher.towers, teacher.look.work.flops) == (held, N * tower_flops())
    assert teacher.widths == {"teacher.image": 32, "teacher.text": 32} and teacher.row == 2 * 4 * 32
    run = settings_of(config=CONFIG).model_dump(mode="json", by_alias=True)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"train": run}))
    for path in (tmp_path, tmp_path / "checkpoints/step-00000002"):
        of_run = companies(settings_of(companions=[{"kind": "teacher", "checkpoint": str(path)}], loss=TAUGHT))
        assert of_run["teacher"] == teacher
    idle = companies(settings_of(companions=[given]))["teacher"]
    assert idle.towers == held and idle.look.work.flops == idle.row == 0


def test_a_teacher_that_is_not_here_is_said_by_its_reason(tmp_path: Path) -> None:
    nowhere = {"kind": "teacher", "checkpoint": str(tmp_path / "gone")}
    assert "names no model" in companies(settings_of(companions=[nowhere], loss=TAUGHT))["teacher"].reason
    hub = {**CONFIG, "text_cfg": {"hf_model_name": "nobody/nothing", "hf_tokenizer_name": "nobody/nothing"}}
    unknown = {"kind": "teacher", "model": {"config": hub, "pretrained": "gone.pt"}}
    assert "looked at here" in companies(settings_of(companions=[unknown], loss=TAUGHT))["teacher"].reason


def test_stored_vectors_are_columns_and_a_locked_tower_does_not_run(tmp_path: Path) -> None:
    entry = TeacherEntry(name="big", image="0", text="0", image_width=20, text_width=24)
    made = ReinforcedManifest(data="0", seed=0, views=1, dtype="fp16", image={}, teachers=[entry], shards=[])
    made.save(str(tmp_path), "demo")
    loss = {"kind": "feature_distill", "teacher": "big", "of": "image"}
    given = {"kind": "stored", "set": "demo", "teachers": ["big"]}
    plain = {"data": str(tmp_path), "config": CONFIG, "model": {"config": CONFIG, "lock_image": True}}
    settings = settings_of(**plain, companions=[given], loss=[{"kind": "softmax"}, loss])
    stored = companies(settings)["stored"]
    assert (stored.widths, stored.row) == ({"big.image": 20, "big.text": 24}, 2 * 20)
    assert stored.held(Model(settings).weights(), 0, 2, PAIRS) == 8 * 2 * 20 and stored.towers == 0
    locked = settings_of(**plain, companions=[{**given, "locked": "big"}])
    whole, text_alone = Model(settings).passes(N), Model(locked).passes(N)
    text = CONFIG["text_cfg"]["layers"]
    assert 0 < text_alone.forward.flops < whole.forward.flops and text == 3
    assert text_alone.rows < whole.rows - 3 * 32 * 32 + 4 * 32 + 1
    gone = companies(settings.model_copy(update={"data": [str(tmp_path / "gone")]}))["stored"]
    assert "no reinforced.json" in gone.reason and not gone.widths


def test_a_queue_of_whole_steps_is_shared_out_alike() -> None:
    queue = Company("q", queue=64, entry=8)
    assert [queue.queued(16, ranks) for ranks in (1, 2, 4)] == [64, 32, 16]
    assert [replace(queue, queue=few).queued(16, 4) for few in (3, 9, 17)] == [3, 4, 5]
