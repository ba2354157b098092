"""What a rank receives in a step, against what peers count."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import load
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_run import MODEL, write_recipe
from tests.helpers.tiny_towers import WIDTH, TinyTowers, cut, tiny_batch
from training.costs import traffic
from training.costs.model import Group, Passes, Weights
from training.costs.stage import Shape, moved_by, shape_of, term_costs
from training.costs.watch import Work
from training.settings import TrainSettings

LOSSES: list[Any] = [
    *({"kind": kind, "exchange": way} for kind in ("softmax", "sigmoid") for way in ("gather", "gather2", "ring")),
    {"kind": "softmax", "exchange": "gather", "wire": "bf16"},
    {"kind": "softmax", "exchange": "ring", "wire": "bf16"},
    [{"kind": "softmax"}, {"kind": "caption", "weight": 2}],
    [{"kind": "uniformity_alignment"}, {"kind": "caption"}, {"kind": "caption", "name": "again"}],
]
PAIRS, LOOP = 20, 2 * (2 * 16 // 2)  # digest and rows; signal and save: 16 bytes each, all-reduced over two ranks

WIDE = {"image": (WIDTH,), "text": (WIDTH,)}
PASSES = Passes(Work(), Work(), Work(), kept=0, peak=0, rows=0.0, outputs=0.0, shapes=WIDE)


def settings_of(loss: Any, stage: int = 0, pairs: int = PAIRS) -> TrainSettings:
    model = {"name": "coca_ViT-B-32"} if chunk_terms(loss) else {"config": MODEL}
    plain = {"data": ["x"], "output": "y", "steps": 3, "model": model, "loss": loss}
    return TrainSettings.model_validate(
        {**plain, "batch": {"global": pairs, "chunk": 3}, "engine": {"zero_stage": stage}}
    )


def count(peers: Any) -> list[tuple[int, int]]:
    """(parameters, bytes counted in one step) for each loss, without ZeRO, ranks of unequal size."""
    from training.engine.build import build_engine
    from training.step.grad_cache import cached_step
    from training.step.objective import build_objective

    found = []
    for loss in LOSSES:
        settings = settings_of(loss)
        towers: Any = TinyTowers(scalars=settings.scalars)
        parameters = sum(p.numel() for p in towers.parameters())
        engine = build_engine(towers, settings.engine, settings.optimizer, peers)
        batch, before = cut(tiny_batch(PAIRS), [10, 10], peers.rank), peers.moved
        cached_step(engine, batch, build_objective(settings.loss), settings.batch.chunk, 1e-3)
        found.append((parameters, peers.moved - before))
    return found


def said_of(loss: Any, parameters: int, chunks: int, W: int) -> dict[str, int]:
    """Of a model of so many parameters, whose features are as wide as the tiny towers'."""
    shape = Shape(settings_of(loss), Weights((Group((parameters,), 2),)), PASSES, chunk_terms=chunk_terms(loss))
    return moved_by(shape, W, term_costs(shape, W))


def chunk_terms(loss: Any) -> int:
    return sum(one["kind"] == "caption" for one in (loss if isinstance(loss, list) else [loss]))


def test_a_step_without_zero_moves_what_the_formulae_say_for_every_exchange() -> None:
    for counted in run_ranks(count, 2):
        for loss, (parameters, moved) in zip(LOSSES, counted, strict=True):
            assert sum(said_of(loss, parameters, 4, 2).values()) - LOOP == moved, loss


def train(peers: Any, recipe: str, steps: int) -> int:
    """Bytes that a whole run of so many steps has moved."""
    from pipeline.signals import StopSignals
    from training.loop import train as whole

    loaded = load(recipe, [f"train.steps={steps}", f"train.output={Path(recipe).parent / str(steps)}"])
    before = peers.moved
    with StopSignals() as stop:
        whole(loaded.section("train", TrainSettings), seed=7, recipe=loaded, peers=peers, stop=stop)
    return peers.moved - before


@pytest.mark.exhaustive
@pytest.mark.slow
def test_each_further_step_of_a_run_moves_what_the_plan_says(tmp_path: Path) -> None:
    """Two runs that differ in steps alone: what they save at their end is the same."""
    loss = [{"kind": "softmax", "queue": "momentum"}, {"kind": "cyclip"}]
    company = [{"kind": "momentum", "queue": 16}, {"kind": "ema"}]
    recipe = write_recipe(
        tmp_path, checkpoint={"every_steps": 100}, schedule={"kind": "constant"}, loss=loss, companions=company
    )
    shape = shape_of(load(str(recipe)).section("train", TrainSettings), 2)
    said = sum(moved_by(shape, 2, term_costs(shape, 2)).values())
    two, five = run_ranks(train, 2, str(recipe), 2), run_ranks(train, 2, str(recipe), 5)
    assert [more - less for less, more in zip(two, five, strict=True)] == [3 * said] * 2


def test_zero_stages_by_hand() -> None:
    """W = 4: 3 / 4 of P for a gather or scatter, twice that for an all-reduce."""
    P = 400_000
    weights = Weights((Group((P,), 2),))
    by_stage = {stage: traffic.moved(stage, weights, 4, 4) for stage in range(4)}
    assert by_stage[0]["gradients"] == 6 * P and "parameters" not in by_stage[0]
    for stage in (1, 2):
        assert (by_stage[stage]["gradients"], by_stage[stage]["parameters"]) == (6 * P, 3 * P)
    assert by_stage[3]["gradients"] == 3 * P
    assert by_stage[3]["parameters"] == (4 + 3 + 4) * 3 * P  # forwards of both passes, and backwards


def test_small_parameters_of_stage_3_stay_where_they_are() -> None:
    weights = Weights((Group((100_000, 100_001), 2),))
    found = traffic.moved(3, weights, 1, 2)
    assert found["parameters"] == 2 * 4 * 100_001 // 2


def test_alone_nothing_moves() -> None:
    assert sum(said_of({"kind": "softmax"}, 10, 1, 1).values()) == 0
