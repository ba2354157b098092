"""What every term is held to: value and gradients of its textbook form on the whole batch, however the batch was cut.

A test of a term writes the textbook form down (plain torch on the whole batch in one process, by autograd, no code of
the project) and calls `check_features` and `check_steps`; ranks, masks, groups, chunks and ZeRO stages are in here.

Letters: N rows, M flat rows, D features.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.simulated import run_simulated
from tests.helpers.tiny_towers import LENGTH, SIDE, WIDTH, WORDS, TinyTowers, cut, lengths_mask, tiny_batch
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.rows import Rows, base_of, group_of, named, owners_of, spans
from training.rows import cut as cut_rows
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.term import TermOutput, TermSettings

Textbook = Callable[[Rows, Rows, Rows], Tensor]
"""(features, scalars, rows), all of the whole batch and float64, to the value. Rows that are not valid are in there."""

SHARES = ((7,), (4, 3), (5, 0, 4), (2, 3, 1, 4))
OPTIMIZER = AdamW(lr=1e-2, weight_decay=0.1)


@dataclass(frozen=True)
class Case:
    """A term with the settings to test, its textbook form, and the flat groups of the batch it reads.

    `groups`: most entries of a row, by group (`positives`, `negatives`, `views`): rows get from none up to that many.
    `textbook` and this must be importable: ranks are processes of their own.
    """

    settings: TermSettings
    textbook: Textbook
    groups: tuple[tuple[str, int], ...] = ()
    prepare: Callable[[Rows], Rows] = dict  # adds the columns that the term reads

    def batch(self, rows: int, masked: bool, seed: int = 0):
        batch = tiny_batch(rows, seed, not masked, dict(self.groups))
        batch.rows = self.prepare(batch.rows)
        return batch


def on_every_share(cases: Iterable[Any]) -> Callable:
    """Parametrizes a test by `case`, `counts` and `masked`: what `check_features` takes."""

    def decorated(test: Callable) -> Callable:
        for name, values in (("case", list(cases)), ("counts", SHARES), ("masked", sampled([False, True], 1))):
            test = pytest.mark.parametrize(name, values)(test)
        return test

    return decorated


def check_features(case: Case, counts: Sequence[int], masked: bool) -> None:
    """The term alone, on ranks that hold `counts` rows, in float64: exact to 1e-9. A ChunkTerm by chunks of two."""
    batch = case.batch(sum(counts), masked)
    term = case.settings.build()
    made = torch.Generator().manual_seed(len(counts))
    features = {name: _random(name, batch.rows, made) for name in sorted(term.needs)}
    scalars = {one.name: torch.tensor([one.init * 0.7 + 0.1]).double() for one in case.settings.scalars()}

    def on_rank(peers: Peers) -> TermOutput:
        first = sum(counts[: peers.rank])
        where = spans(owners_of(batch.rows), first, first + counts[peers.rank])
        own = {name: column[where[group_of(name)]] for name, column in features.items()}
        rows = cut_rows(batch.rows, where)
        return term(own, scalars, rows, peers) if not hasattr(term, "count") else _by_chunks(case, own, rows, peers)

    outputs = run_simulated(on_rank, len(counts))
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in (features | scalars).items()}
    value = case.textbook({n: leaves[n] for n in features}, {n: leaves[n] for n in scalars}, batch.rows)
    wanted = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
    for output in outputs:
        assert output.value.item() == pytest.approx(value.item(), rel=1e-9, abs=1e-12)
    for name, want in zip(leaves, wanted, strict=True):
        if name in scalars:
            for output in outputs:
                got = output.d_scalars.get(name, torch.zeros(1))
                assert torch.allclose(got.double(), want, rtol=1e-8, atol=1e-11), name
            continue
        zero = {rank: torch.zeros_like(want[:0]) for rank in range(len(counts))}
        got = [output.grads.get(name, zero[rank]) for rank, output in enumerate(outputs)]
        if not any(len(part) for part in got):
            got = [torch.zeros_like(want)]
        assert torch.allclose(torch.cat(got), want, rtol=1e-8, atol=1e-11), name


def _by_chunks(case: Case, features: Rows, rows: Rows, peers: Peers) -> TermOutput:
    """A ChunkTerm as a step takes it: every chunk of two rows by autograd, sums added over chunks and ranks."""
    objective, size = build_objective([case.settings]), len(rows["valid"])
    counts, leaves = objective.counts(rows, peers), {name: column.requires_grad_() for name, column in features.items()}
    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, max(size, 1), 2):
        where = spans(owners_of(rows), start, min(start + 2, size))
        outputs = {name: leaf[where[group_of(name)]] for name, leaf in leaves.items()}
        (value,) = objective.of_chunk(outputs, cut_rows(rows, where), counts).values()
        total = total + value
    grads = torch.autograd.grad(total, list(leaves.values()))
    return TermOutput(peers.all_sum(total), dict(zip(leaves, grads, strict=True)))


def check_steps(case: Case, world: int, stage: int, counts: Sequence[int], chunks: int, steps: int = 1) -> None:
    """Through towers, cache and engine over gloo: gradients after one step, weights after `steps`."""
    got = run_ranks(_steps, world, case, stage, tuple(counts), chunks, steps)
    gradients, values, weights = _textbook_steps(case, sum(counts), steps)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for ours, our_values, our_weights in got:
        assert our_values == pytest.approx(values, rel=2e-5, abs=1e-6)
        for name, want in gradients.items():
            assert (ours[name].double() - want).abs().max().item() < 2e-5 * largest, f"gradient of {name}"
        for name, want in weights.items():
            assert torch.allclose(our_weights[name].double(), want, rtol=1e-4, atol=2e-5), f"weights of {name}"


def _steps(peers: Peers, case: Case, stage: int, counts: tuple[int, ...], chunks: int, steps: int):
    objective = build_objective([case.settings])
    towers = TinyTowers(scalars=case.settings.scalars(), heads=case.settings.heads())
    engine = build_engine(towers, EngineSettings(zero_stage=stage, check_cache=True), OPTIMIZER, peers)
    gradients, values = {}, []
    for step in range(steps):
        batch = cut(case.batch(sum(counts), masked=True, seed=step), list(counts), peers.rank)
        chunk = max(1, math.ceil(max(counts) / chunks))
        values.append(cached_step(engine, batch, objective, chunk, lr=OPTIMIZER.lr).loss)
        if step == 0:
            state = engine.full_state()
            gradients = {n: parts["exp_avg"] / (1 - OPTIMIZER.betas[0]) for n, parts in state if "exp_avg" in parts}
    return gradients, values, {name: parts["param"] for name, parts in engine.full_state() if "param" in parts}


def _textbook_steps(case: Case, rows: int, steps: int) -> tuple[Rows, list[float], Rows]:
    """The same with plain torch in float64: gradients of the first step, values, and weights at the end."""
    towers = TinyTowers(scalars=case.settings.scalars(), heads=case.settings.heads()).double()
    named_parameters = dict(towers.named_parameters())
    groups = [
        {"params": [p], "weight_decay": OPTIMIZER.weight_decay if p.ndim > 1 else 0.0}
        for p in named_parameters.values()
    ]
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, betas=OPTIMIZER.betas, eps=OPTIMIZER.eps)
    needs = case.settings.build().needs
    first: Rows = {}
    values = []
    for step in range(steps):
        batch = case.batch(rows, masked=True, seed=step)
        optimizer.zero_grad()
        value = case.textbook(towers(batch.rows, needs), towers.scalars(), batch.rows)
        value.backward()
        values.append(value.item())
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named_parameters.items()}
        for name, parameter in named_parameters.items():
            parameter.grad = gradients[name].clone()
        first = first or gradients
        optimizer.step()
        with torch.no_grad():
            for scalar in case.settings.scalars():
                named_parameters[scalar.name].clamp_(scalar.low, scalar.high)
    return first, values, {name: parameter.detach() for name, parameter in named_parameters.items()}


def _random(name: str, rows: Rows, made: torch.Generator) -> Tensor:
    """Unit features for the entries of an output."""
    if base_of(name) == "word_mask":
        return lengths_mask(rows["tokens"]).double()
    column = rows[named(group_of(name), "tokens" if base_of(name) == "text" else "image")]
    if base_of(name) == "caption_logits":
        return torch.randn(len(column), LENGTH - 1, WORDS, generator=made, dtype=torch.float64)
    many = {"patches": (SIDE,), "words": (LENGTH,)}.get(base_of(name), ())
    return F.normalize(torch.randn(len(column), *many, WIDTH, generator=made, dtype=torch.float64), dim=-1)
