"""Towers with blocks, walked by an engine under every ZeRO stage and by a hand-written update in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.ranks import run_ranks
from tests.helpers.textbook import step_gradients
from tests.helpers.tiny_towers import LENGTH, SIDE, WIDTH, WORDS, TinyTowers, cut, tiny_batch
from training.engine.build import build_engine
from training.engine.optimizers.optimizer import Optimizer
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.softmax import Softmax

State = dict[str, dict[str, Tensor]]
ROWS = {1: [12], 2: [5, 7], 3: [0, 9, 3]}
STEPS, RESUMED = 5, 3
RATES = {"image": 0.5, "image.blocks.0": 0.25}
WIDE = 7  # divided by no number of ranks: partitions end in padding and cut parameters anywhere


class _Block(nn.Module):
    """A fused projection of three, a filter of 7 channels by 2 places, one for each channel, and a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDE)
        self.in_proj_weight = nn.Parameter(torch.randn(3 * WIDE, WIDE) / 3)
        self.conv = nn.Conv1d(WIDE, WIDE, 2, padding=1)
        self.each = nn.Conv1d(WIDE, WIDE, 3, padding=1, groups=WIDE, bias=False)

    def forward(self, x_NW: Tensor) -> Tensor:
        query, key, value = F.linear(self.norm(x_NW), self.in_proj_weight).chunk(3, dim=-1)
        mixed = torch.stack([query * key, value], dim=-1)
        return x_NW + self.each(self.conv(mixed)).tanh().mean(-1)


class _Tower(nn.Module):
    def __init__(self, stem: nn.Module, blocks: int) -> None:
        super().__init__()
        self.proj = nn.Parameter(torch.randn(WIDE, WIDTH) / 3)
        self.stem = stem
        self.blocks = nn.ModuleList(_Block() for _ in range(blocks))
        self.ln_post = nn.LayerNorm(WIDE)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x) @ self.proj


class DeepTowers(TinyTowers):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.image = _Tower(nn.Linear(3 * SIDE * SIDE, WIDE), 2)
            self.text = _Tower(nn.EmbeddingBag(WORDS, WIDE), 1)
        assert LENGTH > 1


def lr_of(step: int, peak: float) -> float:
    return peak / (1 + step)


def _walk(engine: Any, settings: Optimizer, steps: range) -> None:
    rows, rank = ROWS[engine.peers.world], engine.peers.rank
    for step in steps:
        batch = cut(tiny_batch(12, seed=step), rows, rank)
        cached_step(engine, batch, build_objective([Softmax(tile=8)]), 4, lr=lr_of(step, settings.lr))


def walked(peers: Peers, settings: Optimizer, stages: list[int]) -> dict[int, tuple[State, bool, dict[str, list[str]]]]:
    """For each stage: the state after all steps, whether resuming gave the same bits, and the names of what is kept."""
    found = {}
    for stage in stages:
        engine = build_engine(DeepTowers(peers.rank), EngineSettings(zero_stage=stage), settings, peers)
        _walk(engine, settings, range(RESUMED))
        between = dict(engine.full_state())
        _walk(engine, settings, range(RESUMED, STEPS))
        end = dict(engine.full_state())
        again = build_engine(DeepTowers(9), EngineSettings(zero_stage=stage), settings, peers)
        again.load_full_state(between.__getitem__, RESUMED)
        _walk(again, settings, range(RESUMED, STEPS))
        other = dict(again.full_state())
        same = all(torch.equal(end[name][key], other[name][key]) for name in end for key in end[name])
        found[stage] = (end, same, {name: sorted(kept) for name, kept in end.items()})
    return found


Update = Callable[[str, Tensor, Tensor, dict[str, Any], float, float], None]
"""(name, weights, gradient, what is kept of this parameter, learning rate, decay): weights are changed in place."""


def by_hand(settings: Optimizer, update: Update) -> dict[str, Tensor]:
    """The weights after all steps in float64: whole-batch autograd, then `update` for every parameter."""
    towers = DeepTowers().double()
    kept: dict[str, dict[str, Any]] = {}
    for step in range(STEPS):
        _, gradients = step_gradients(towers, tiny_batch(12, seed=step))
        with torch.no_grad():
            for name, weights in towers.named_parameters():
                rate = 0.25 if name.startswith("image.blocks.0.") else 0.5 if name.startswith("image.") else 1.0
                decay = settings.weight_decay if weights.ndim > 1 else 0.0
                state = kept.setdefault(name, {"t": 0})
                state["t"] += 1
                update(name, weights, gradients[name], state, rate * lr_of(step, settings.lr), decay)
    return {name: weights.detach() for name, weights in towers.named_parameters()}


def worst(state: State, wanted: dict[str, Tensor]) -> float:
    return max((state[name]["param"].double() - weights).abs().max().item() for name, weights in wanted.items())


def moved(wanted: dict[str, Tensor]) -> float:
    """How far the parameter went that went least: a tolerance far below it says something."""
    before = dict(DeepTowers().named_parameters())
    return min((weights - before[name].double()).abs().max().item() for name, weights in wanted.items())


def held(
    settings: Optimizer, update: Callable[..., None], world: int, tolerance: float = 1e-5, least: float = 1e-3
) -> Iterator[Any]:
    """Weights move by `least` or more, each ZeRO stage ends where the hand-written update does and resumes bit for bit;
    yields what each kept, by name."""
    wanted = by_hand(settings, update)
    assert moved(wanted) > least
    for rank in run_ranks(walked, world, settings, [0, 1, 2, 3]):
        for stage, (end, same, kept) in rank.items():
            assert worst(end, wanted) < tolerance, f"stage {stage}"
            assert same, f"stage {stage}: resuming gave other bits"
            yield kept
