"""A cached step's loss and gradients are those of the textbook on the whole batch, however it was cut.

The gradient is read where it matters, in the optimizer: after one step from nothing, exp_avg is (1 - beta1) times the
gradient Adam was given, so a missing or doubled sum over ranks shows, although Adam's update would hide it.
"""

import dataclasses
import itertools
import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ClipmillError
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.textbook import step_gradients
from tests.helpers.tiny_towers import TinyTowers, cut, tiny_batch
from training.companions.running.companion import Companion, Companions
from training.engine.build import build_engine
from training.engine.interface import Engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import GroupPeers, Peers
from training.reader.batch import Batch
from training.step.grad_cache import StepResult, cached_step
from training.step.objective import Objective, build_objective
from training.terms.softmax import Softmax
from training.towers.build import build_towers
from training.towers.settings import ModelSettings

TOLERANCE = 1e-5  # of the largest gradient of all parameters; float32 towers against float64
OPTIMIZER = AdamW(lr=1e-3, weight_decay=0.1)
EQUAL, RAGGED = [10, 10, 10, 10], [5, 0, 13, 1]
CLIP = build_objective([Softmax()])
CUTS = [1, 2, 5]  # chunks on the fullest rank


def gradients_of(engine: Engine) -> dict[str, Tensor]:
    return {
        name: tensors["exp_avg"] / (1 - OPTIMIZER.betas[0])
        for name, tensors in engine.full_state()
        if "exp_avg" in tensors
    }


def worst_error(got: dict[str, Tensor], want: dict[str, Tensor]) -> float:
    """The largest difference of any parameter's gradient, as a fraction of the largest gradient."""
    assert got.keys() == want.keys()
    largest = max(gradient.abs().max().item() for gradient in want.values())
    return max((got[name].double() - want[name]).abs().max().item() for name in want) / largest


def _every_cut(peers: Peers, stage: int) -> list[tuple[list[int], bool, int, StepResult, dict[str, Tensor]]]:
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=stage, check_cache=True), OPTIMIZER, peers)
    start = dict(engine.full_state())
    done = []
    for (every, masked), cuts in itertools.product(((EQUAL, False), (RAGGED, True)), CUTS):
        counts = every[: peers.world]
        batch = cut(tiny_batch(sum(counts), every_valid=not masked), counts, peers.rank)
        chunk = math.ceil(max(counts) / cuts)
        engine.load_full_state(start.__getitem__, 0)
        result = cached_step(engine, batch, build_objective([Softmax(tile=8)]), chunk, lr=1e-3)
        done.append((counts, masked, chunk, result, gradients_of(engine)))
    return done


WORLDS = {1: [0, 1], 2: [0, 1, 2, 3], 3: [0, 2], 4: [0, 1, 3]}


@pytest.mark.parametrize(
    ("world", "stage"),
    sampled([(world, stage) for world, stages in WORLDS.items() for stage in stages], 0, 3, 4, 7, 10),
)
def test_any_cut_gives_the_textbook_loss_and_gradients(world: int, stage: int) -> None:
    for cases in zip(*run_ranks(_every_cut, world, stage), strict=True):
        counts, masked, chunk, result, gradients = cases[0]
        where = f"rows {counts}, masked {masked}, chunk {chunk}"
        loss, want = step_gradients(TinyTowers(), tiny_batch(sum(counts), every_valid=not masked))
        assert result.loss == pytest.approx(loss, rel=1e-6), where
        assert worst_error(gradients, want) < TOLERANCE, where
        norm = math.sqrt(sum(gradient.square().sum().item() for gradient in want.values()))
        assert result.grad_norm == pytest.approx(norm, rel=1e-5), where
        assert result.metrics == pytest.approx(cases[-1][3].metrics), "every rank reports the same"
        assert not result.skipped and result.pairs == int(tiny_batch(sum(counts), 0, not masked).rows["valid"].sum())


class _MeanPeers(GroupPeers):
    """The classic mistake: gradients averaged over ranks although each rank has only its own rows' part."""

    def all_sum(self, tensor: Tensor) -> Tensor:
        total = super().all_sum(tensor)
        return total / self.world if tensor.dim() == 1 and tensor.numel() > 300 else total


def _averaging(peers: Peers) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    found = []
    for one in (peers, _MeanPeers(peers.device, owned=False)):
        engine = build_engine(TinyTowers(), EngineSettings(zero_stage=0), OPTIMIZER, one)
        cached_step(engine, cut(tiny_batch(12), [6, 6], peers.rank), CLIP, 3, lr=1e-3)
        found.append(gradients_of(engine))
    return tuple(found)


def test_the_check_sees_gradients_divided_by_the_world() -> None:
    right, wrong = run_ranks(_averaging, 2)[0]
    _, want = step_gradients(TinyTowers(), tiny_batch(12))
    assert worst_error(right, want) < TOLERANCE
    assert worst_error(wrong, want) == pytest.approx(0.5, rel=1e-3)
    scale_twice = right | {"log_scale": right["log_scale"] * 2}
    assert worst_error(scale_twice, want) > 100 * TOLERANCE


class _CountingTowers(TinyTowers):
    def forward(self, *inputs, **keyed):
        self.forwards = getattr(self, "forwards", 0) + 1
        return super().forward(*inputs, **keyed)


@pytest.mark.parametrize(("chunk", "forwards"), [(20, 1), (12, 1), (6, 3), (5, 5), (1, 23)])
def test_k_chunks_cost_2k_minus_1_forwards_and_one_chunk_is_a_plain_step(chunk: int, forwards: int) -> None:
    engine = build_engine(_CountingTowers(), EngineSettings(zero_stage=0), OPTIMIZER, Peers.alone())
    result = cached_step(engine, tiny_batch(12), CLIP, chunk, lr=1e-3)
    assert engine.towers.forwards == forwards
    assert list(result.timings) == ["pass1", "loss", "pass2", "optimizer"]


def _alone(towers: TinyTowers, chunk: int) -> dict[str, Tensor]:
    engine = build_engine(towers, EngineSettings(zero_stage=0, check_cache=True), OPTIMIZER, Peers.alone())
    cached_step(engine, tiny_batch(12), CLIP, chunk, lr=1e-3)
    return gradients_of(engine)


def test_dropout_is_keyed_the_same_in_both_passes_and_after_a_restart_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    one = _alone(TinyTowers(dropout=0.5), 3)  # the check of both passes is on
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after), "the step drew from the generator of the process"
    torch.manual_seed(6)
    other = _alone(TinyTowers(dropout=0.5), 3)
    assert all(torch.equal(one[name], other[name]) for name in one), "masks depend on the state of the process"


def test_dropout_of_another_step_is_another_one() -> None:
    def gradients(step: int) -> dict[str, Tensor]:
        engine = build_engine(TinyTowers(dropout=0.5), EngineSettings(zero_stage=0), OPTIMIZER, Peers.alone())
        cached_step(engine, dataclasses.replace(tiny_batch(12), step=step), CLIP, 3, lr=1e-3)
        return gradients_of(engine)

    first, again, next_one = gradients(0), gradients(0), gradients(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], next_one[name]) for name in first)


class _SeenTowers(TinyTowers):
    def forward(self, *inputs, **keyed):
        found = super().forward(*inputs, **keyed)
        self.shown = [*getattr(self, "shown", []), found["image"].detach().clone()]
        return found


def test_no_two_chunks_of_a_step_are_dropped_alike() -> None:
    """The same pictures in every chunk: what differs are the masks."""
    batch = tiny_batch(12)
    batch.rows["image"] = batch.rows["image"][:3].repeat(4, 1, 1, 1)
    engine = build_engine(_SeenTowers(dropout=0.5), EngineSettings(zero_stage=0), OPTIMIZER, Peers.alone())
    cached_step(engine, batch, CLIP, 3, lr=1e-3)
    first, again = engine.towers.shown[:4], engine.towers.shown[4:]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=False)) and len(again) == 3
    assert not any(torch.equal(one, other) for at, one in enumerate(first) for other in first[:at])


class _LikeHuggingFace(torch.nn.Module):
    """Dropout of every sort that text towers of transformers have: layers, functions, attention, whole layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = torch.nn.Embedding(17, 8), torch.nn.Linear(8, 6)
        self.dropout = torch.nn.Dropout(0.3)

    def forward(self, tokens_NL: Tensor) -> Tensor:
        x_NLD = self.dropout(self.words(tokens_NL))
        if torch.rand([]) > 0.2:  # LayerDrop
            x_NLD = x_NLD + F.scaled_dot_product_attention(x_NLD, x_NLD, x_NLD, dropout_p=0.3)
        return self.out(F.dropout(x_NLD.mean(1), 0.3))


def test_dropout_of_text_towers_is_keyed_too() -> None:
    found = []
    for state in (5, 6):
        towers = TinyTowers()
        torch.manual_seed(1)
        towers.text = _LikeHuggingFace()
        torch.manual_seed(state)
        found.append(_alone(towers, 3))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


class _FickleTowers(TinyTowers):
    """Draws from a generator nobody replays."""

    def forward(self, rows, want=None):
        found = super().forward(rows, want)
        return found | {"image": found["image"].roll(random.randrange(1, 6), 1)}


def test_the_debug_check_names_features_that_differ_between_passes() -> None:
    with pytest.raises(ClipmillError, match="differs by .* between the two passes"):
        _alone(_FickleTowers(), 3)


class _Spoilt:
    """A term whose value or gradient on rank 0 stops being finite in the steps named."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.needs = Softmax().build().needs

    def __call__(self, *given):
        output = Softmax().build()(*given)
        if self.what == "loss":
            return dataclasses.replace(output, value=output.value * torch.nan)
        if self.what == "gradient" and given[-1].rank == 0:
            return dataclasses.replace(output, grads=output.grads | {"image": output.grads["image"] * torch.inf})
        return output


class _Listening(Companion):
    name = "listening"

    def __init__(self) -> None:
        self.heard: list[bool] = []

    def after_step(self, engine: Engine, lr: float, skipped: bool) -> None:
        self.heard.append(skipped)


def _spoil(peers: Peers, stage: int) -> tuple[list[StepResult], bool, bool]:
    """Three good steps with spoilt ones between them, and the same three without."""
    states, results, kept, one = [], [], True, _Listening()
    for plan in (["", "", ""], ["loss", "", "gradient", "", "loss", "gradient", ""]):
        engine = build_engine(TinyTowers(), EngineSettings(zero_stage=stage), OPTIMIZER, peers)
        assert engine.scalars()["log_scale"] == _state_of(engine, "log_scale")
        good = 0
        for what in plan:
            batch = cut(tiny_batch(12, seed=good), [5, 7] if peers.world == 2 else [12], peers.rank)
            before = dict(engine.full_state())
            objective = Objective({"softmax": 1.0}, {"softmax": _Spoilt(what)}, {})
            result = cached_step(engine, batch, objective, 3, lr=1e-2, companions=Companions((one,)))
            results.append(result)
            assert result.skipped == one.heard[-1] == bool(what) and len(one.heard) == len(results)
            assert engine.scalars()["log_scale"] == _state_of(engine, "log_scale")
            if what:
                kept &= _same(before, dict(engine.full_state()))
            good += not what
        assert engine.optimizer_steps == 3
        states.append(dict(engine.full_state()))
    return results, kept, _same(*states)


def _state_of(engine: Engine, name: str) -> float:
    return dict(engine.full_state())[name]["param"].item()


def _same(first: dict[str, dict[str, Tensor]], second: dict[str, dict[str, Tensor]]) -> bool:
    return all(torch.equal(tensor, second[name][key]) for name, parts in first.items() for key, tensor in parts.items())


@pytest.mark.parametrize(("world", "stage"), sampled([(1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (1, 3)], 0, 4))
def test_a_step_that_is_not_finite_changes_nothing_and_the_next_ones_are_as_if_it_had_not_been(world, stage) -> None:
    for results, kept, same in run_ranks(_spoil, world, stage):
        assert kept, "a skipped step left something behind"
        assert same, "the good steps came out differently"
        assert sum(result.skipped for result in results) == 4
        assert all(math.isinf(result.grad_norm) == result.skipped for result in results)


OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
OPEN_CLIP_COUNTS = [3, 6]


def _open_clip() -> tuple[torch.nn.Module, Batch]:
    towers = build_towers(ModelSettings(config=OPEN_CLIP), seed=1)
    made = torch.Generator().manual_seed(0)
    batch = tiny_batch(sum(OPEN_CLIP_COUNTS), every_valid=False)
    batch.rows["image"] = torch.randint(0, 256, (len(batch.uids), 3, 32, 32), generator=made, dtype=torch.uint8)
    batch.rows["tokens"] = towers.tokenize([f"a drawing of number {uid[-1]}" for uid in batch.uids])
    return towers, batch


def _open_clip_step(peers: Peers) -> list[dict[str, Tensor]]:
    found = []
    for stage in (0, 1, 2, 3):
        towers, batch = _open_clip()
        engine = build_engine(towers, EngineSettings(zero_stage=stage, check_cache=True), OPTIMIZER, peers)
        cached_step(engine, cut(batch, OPEN_CLIP_COUNTS, peers.rank), CLIP, 2, lr=1e-3)
        found.append(gradients_of(engine))
    return found


def test_open_clip_towers_get_the_textbook_gradients_under_every_stage() -> None:
    _, want = step_gradients(*_open_clip())
    for gradients in run_ranks(_open_clip_step, 2)[0]:
        assert worst_error(gradients, want) < 1e-4  # their features are rounded to float32 in the textbook too
