"""Every engine walks the same path, state moves between worlds and stages, the log scale stays within its limits."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import DataError, RecipeError
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_towers import TinyTowers, cut, tiny_batch
from training.engine.build import build_engine
from training.engine.interface import Engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.step.grad_cache import StepResult, cached_step
from training.step.objective import Objective, build_objective
from training.terms.softmax import Softmax
from training.wanted import LOG_SCALE

TILED = build_objective([Softmax(tile=8)])
WANT = frozenset({"image", "text"})
State = dict[str, dict[str, Tensor]]
OPTIMIZER = AdamW(lr=1e-2, weight_decay=0.1, eps=1e-6)
CLIP = 5.0  # every step's norm is above it, so that clipping is part of every path
ROWS = {1: [12], 2: [5, 7], 3: [0, 9, 3]}
TOLERANCE = 1e-5  # largest difference from the float64 path after six steps; float32 rounds the largest weight by 5e-7


def _engine(peers: Peers, stage: int, towers: nn.Module | None = None, **settings) -> Engine:
    chosen = EngineSettings(zero_stage=stage, grad_clip=CLIP, **settings)
    return build_engine(towers or TinyTowers(seed=peers.rank), chosen, OPTIMIZER, peers)


def _walk(engine: Engine, steps: range) -> list[StepResult]:
    counts, rank = ROWS[engine.peers.world], engine.peers.rank
    return [
        cached_step(
            engine,
            cut(tiny_batch(12, seed=step), counts, rank),
            build_objective([Softmax(tile=8)]),
            4,
            lr=1e-2 / (1 + step),
        )
        for step in steps
    ]


def _state(engine: Engine) -> State:
    return dict(engine.full_state())


def _worst(first: State, second: State) -> float:
    assert list(first) == list(second)
    pairs = [(tensor, second[name][key]) for name, parts in first.items() for key, tensor in parts.items()]
    return max((ours.double() - theirs).abs().max().item() for ours, theirs in pairs)


def _oracle(steps: int) -> tuple[State, list[StepResult]]:
    engine = build_engine(
        TinyTowers(dtype=torch.float64), EngineSettings(zero_stage=0, grad_clip=CLIP), OPTIMIZER, Peers.alone()
    )
    results = _walk(engine, range(steps))
    return _state(engine), results


def _leave(peers: Peers, stage: int) -> tuple[State, State, float, list[StepResult]]:
    """Three steps; three more; and the last three again in a new engine that was given the state in between."""
    engine = _engine(peers, stage)
    results = _walk(engine, range(3))
    between = _state(engine)
    results += _walk(engine, range(3, 6))
    again = _engine(peers, stage)
    again.load_full_state(between.__getitem__, 3)
    assert again.optimizer_steps == 3
    _walk(again, range(3, 6))
    return between, _state(engine), _worst(_state(engine), _state(again)), results


def _arrive(peers: Peers, stages: list[int], betweens: dict[tuple[int, int], State]) -> list[tuple[str, State, Tensor]]:
    ends = []
    for stage in stages:
        engine = _engine(peers, stage)
        for (world, was), between in betweens.items():
            engine.load_full_state(between.__getitem__, 3)
            loaded = _worst(_state(engine), between)
            assert engine.scalars()["log_scale"] == between["log_scale"]["param"].item()
            _walk(engine, range(3, 6))
            ends.append((f"world {world} stage {was} -> world {peers.world} stage {stage}", _state(engine), loaded))
    return ends


LEFT = [(1, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 3)]
QUICK = (0, 2, 5)


class _Left(dict):
    """(world, stage) -> what each rank gave back; run when it is first asked for."""

    def __missing__(self, key: tuple[int, int]) -> list:
        self[key] = run_ranks(_leave, *key)
        return self[key]


@pytest.fixture(scope="module")
def left() -> dict[tuple[int, int], list]:
    return _Left()


@pytest.fixture(scope="module")
def oracle() -> tuple[State, list[StepResult]]:
    return _oracle(6)


@pytest.mark.parametrize(("world", "stage"), sampled(LEFT, *QUICK))
def test_every_engine_walks_the_float64_path(world: int, stage: int, left, oracle) -> None:
    state, results = oracle
    for _, end, _, walked in left[world, stage]:
        assert _worst(end, state) < TOLERANCE
        for ours, theirs in zip(walked, results, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
            assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4) and ours.grad_norm > CLIP


def _begun(peers: Peers, stage: int) -> dict[str, Tensor]:
    towers = TinyTowers(seed=peers.rank)
    towers.register_buffer("kept", torch.full((3,), float(peers.rank)))
    live = {name: tensor.detach().clone() for name, tensor in _engine(peers, stage, towers).towers.state_dict().items()}
    return live


@pytest.mark.parametrize("stage", [0, 1])
def test_every_rank_begins_with_the_weights_and_buffers_of_rank_0(stage: int) -> None:
    want = {**TinyTowers(seed=0).state_dict(), "kept": torch.zeros(3)}
    for live in run_ranks(_begun, 2, stage):
        assert all(torch.equal(live[name], tensor) for name, tensor in want.items())


@pytest.mark.parametrize("stage", [0, 2])
def test_the_rate_of_each_part_is_the_steps_times_its_scale(stage: int) -> None:
    """A first step of AdamW moves every weight by its rate, whatever the gradient's size."""
    before, moved = TinyTowers().state_dict(), {}
    scales = {"image": 0.0, "text": 0.5}
    engine = build_engine(
        TinyTowers(),
        EngineSettings(zero_stage=stage),
        AdamW(lr=1e-2, eps=1e-12, weight_decay=0, lr_scales=scales),
        Peers.alone(),
    )
    cached_step(engine, tiny_batch(12), build_objective([Softmax(tile=8)]), 4, lr=1e-2)
    for name, tensors in ((name, parts) for name, parts in _state(engine).items() if "param" in parts):
        moved.setdefault(name.split(".")[0], []).append((tensors["param"] - before[name]).abs().max().item())
    assert moved.keys() >= {"image", "text"} and max(moved["image"]) == 0.0
    assert moved["text"] == pytest.approx([5e-3] * len(moved["text"]), rel=1e-2)


@pytest.mark.parametrize(("world", "stage"), sampled(LEFT, *QUICK))
def test_the_same_world_and_stage_goes_on_bit_for_bit(world: int, stage: int, left) -> None:
    assert [difference for _, _, difference, _ in left[world, stage]] == [0.0] * world


ARRIVED = [(2, [0, 3], [LEFT[at] for at in QUICK]), (1, [0, 2], LEFT), (2, [0, 3], LEFT), (3, [1, 3], LEFT)]


@pytest.mark.parametrize(("world", "stages", "origins"), sampled(ARRIVED, 0))
def test_state_left_under_any_world_and_stage_goes_on_under_any_other(world, stages, origins, left, oracle) -> None:
    betweens = {key: left[key][0][0] for key in origins}
    for rank in run_ranks(_arrive, world, stages, betweens):
        for where, end, loaded in rank:
            assert loaded == 0, f"{where}: loading changed a number"
            assert _worst(end, oracle[0]) < TOLERANCE, where


class _Pushing:
    """A loss that pushes the log scale as hard as float32 allows."""

    needs = WANT

    def __init__(self, push: float) -> None:
        self.push = push

    def __call__(self, *given):
        output = Softmax().build()(*given)
        return dataclasses.replace(output, d_scalars={"log_scale": torch.full_like(given[1]["log_scale"], self.push)})


def _push(peers: Peers, stage: int) -> list[tuple[float, float]]:
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=stage), OPTIMIZER, peers)
    seen = []
    for push in [-1e6] * 9 + [1e6] * 22:
        cached_step(
            engine,
            cut(tiny_batch(12), ROWS[peers.world], peers.rank),
            Objective({"softmax": 1.0}, {"softmax": _Pushing(push)}, {}),
            12,
            lr=0.7,
        )
        seen.append((engine.scalars()["log_scale"], _state(engine)["log_scale"]["param"].item()))
    return seen


@pytest.mark.parametrize(("world", "stage"), sampled([(1, 0), (2, 1), (2, 2), (2, 3)], 0))
def test_the_log_scale_does_not_wind_up_behind_its_limit(world: int, stage: int) -> None:
    low, high = (torch.tensor(limit).item() for limit in (LOG_SCALE.low, LOG_SCALE.high))  # as float32
    alone = _push(Peers.alone(), 0)
    assert alone[8] == (high, high) and alone[-1] == (low, low)
    for seen in run_ranks(_push, world, stage):
        assert all(live == master for live, master in seen), "master and live copy differ"
        assert [live for live, _ in seen] == pytest.approx([live for live, _ in alone], abs=1e-5)
        assert seen[8] == (high, high) and seen[-1] == (low, low)


def _look(peers: Peers, stage: int) -> list[dict[str, Tensor]]:
    """Both towers and each alone, between steps."""
    engine, batch = _engine(peers, stage), tiny_batch(7)
    seen = []
    for step in range(2):
        for names in ({"image", "tokens"}, {"tokens"}, {"image"}):
            want = frozenset({"image": "image", "tokens": "text"}[name] for name in names)
            seen.append(engine.evaluate({name: batch.rows[name] for name in names}, want))
        _walk(engine, range(step, step + 1))
    return seen


def test_evaluation_between_steps_gives_the_same_features_under_every_stage() -> None:
    want = _look(Peers.alone(), 0)
    for stage in (1, 2, 3):
        for rank in run_ranks(_look, 2, stage):
            for got, wanted in zip(rank, want, strict=True):
                assert got.keys() == wanted.keys()
                for name, ours in got.items():
                    assert not ours.requires_grad and (ours - wanted[name]).abs().max() < 1e-4


class _Dropping(TinyTowers):
    def __init__(self) -> None:
        super().__init__(dropout=0.9)


def test_evaluation_uses_eval_mode_and_goes_back_to_training() -> None:
    engine, batch = _engine(Peers.alone(), 0, _Dropping()), tiny_batch(7)
    first, second = (engine.evaluate(batch.rows, frozenset({"image"}))["image"] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(*(engine.forward(batch.rows, WANT).features["image"] for _ in range(2)))


def _locked(peers: Peers, stage: int) -> tuple[State, State]:
    towers = TinyTowers()
    towers.image.requires_grad_(False)
    engine = _engine(peers, stage, towers)
    before = _state(engine)
    _walk(engine, range(2))
    towers.seen.fill_(3.5 + peers.rank)  # running statistics differ between ranks: rank 0's are kept
    after = _state(engine)
    assert after["seen"]["buffer"].item() == 3.5
    other = TinyTowers(seed=9)
    other.image.requires_grad_(False)
    fresh = _engine(peers, stage, other)
    fresh.load_full_state(after.__getitem__, 2)
    assert _worst(_state(fresh), after) == 0
    return before, after


@pytest.mark.parametrize("stage", sampled([0, 1, 2, 3], 0, 3))
def test_a_locked_tower_stays_and_is_saved_without_moments(stage: int) -> None:
    for before, after in run_ranks(_locked, 2, stage):
        for name, tensors in after.items():
            moved = not torch.equal(tensors.get("param", torch.ones(1)), before[name].get("param", torch.ones(1)))
            kind = "buffer" if name == "seen" else "locked" if name.startswith("image.") else "trained"
            keys = {"buffer": ["buffer"], "locked": ["param"], "trained": ["exp_avg", "exp_avg_sq", "param"]}
            assert sorted(tensors) == keys[kind], name
            assert moved == (kind == "trained"), name


def _halved(peers: Peers, stage: int) -> tuple[list[StepResult], State]:
    engine = _engine(peers, stage, precision="bf16")
    found = engine.forward(tiny_batch(3).rows, WANT)
    assert found.scalars["log_scale"].dtype == found.features["image"].dtype == torch.float32
    return _walk(engine, range(3)), _state(engine)


def test_bf16_computes_in_half_and_keeps_everything_in_fp32(oracle) -> None:
    plain, _ = _halved(Peers.alone(), 0)
    assert plain[0].loss != pytest.approx(oracle[1][0].loss, rel=1e-6), "autocast was off"
    assert plain[0].loss == pytest.approx(oracle[1][0].loss, rel=2e-2)
    for stage in (1, 3):
        results, state = run_ranks(_halved, 2, stage)[0]
        assert [result.loss for result in results] == pytest.approx([result.loss for result in plain], rel=2e-2)
        assert {tensor.dtype for tensors in state.values() for tensor in tensors.values()} == {torch.float32}


def test_what_cannot_work_is_refused_before_any_work() -> None:
    def build(towers: nn.Module, stage: int = 0, **settings) -> None:
        optimizer = AdamW(**settings)
        build_engine(towers, EngineSettings(zero_stage=stage), optimizer, Peers.alone())

    with pytest.raises(RecipeError, match="fp32 parameters"):
        build(TinyTowers(dtype=torch.float64), stage=2)
    with pytest.raises(RecipeError, match="fp32 parameters"):
        build(TinyTowers(dtype=torch.bfloat16))
    with pytest.raises(RecipeError, match="every parameter is locked"):
        build(TinyTowers().requires_grad_(False))
    with pytest.raises(RecipeError, match="imagee"):
        build(TinyTowers(), lr_scales={"imagee": 0.1})
    scalar = TinyTowers()
    scalar.log_scale = nn.Parameter(torch.tensor(math.log(14.0)))
    with pytest.raises(RecipeError, match=r"shape \[1\]"):
        build(scalar, stage=1)


def test_state_of_other_towers_is_refused_by_name() -> None:
    def load(change) -> None:
        engine = _engine(Peers.alone(), 0)
        state = _state(engine)
        change(state)
        engine.load_full_state(state.__getitem__, 1)

    with pytest.raises(DataError, match=r"text.2.weight/param.*\(3, 3\).*\(6, 7\)"):
        load(lambda state: state["text.2.weight"].update(param=torch.zeros(3, 3)))
    with pytest.raises(DataError, match="text.2.bias"):
        load(lambda state: state["text.2.bias"].pop("param"))
    load(lambda state: state["text.2.bias"].pop("exp_avg"))
