"""One training step on a batch far larger than memory: gradient caching (Gao et al., 2021) around pure terms.

Letters: N rows on this rank, D features.

The features that terms compare are computed first for all chunks, without a graph; the terms turn them into gradients
once, for the whole step; each chunk is then computed again with a graph, the gradients are sent through, and terms that
need no other rows add theirs. Only the last chunk keeps its graph from the first pass, so K chunks cost K - 1 forwards
more than a plain step, and one chunk is a plain step. Without a term that compares rows there is no first pass.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.draws import keyed_u64
from pipeline.errors import ClipmillError
from training.companions.running.companion import NONE, Companions
from training.engine.interface import Engine, Outputs
from training.ranks.place import Place
from training.reader.batch import Batch
from training.rows import VALID, Rows, Spans, cut, group_of, harmless, owners_of, spans
from training.step.objective import Objective
from training.terms.term import TermOutput

_AGREE = 1e-4  # largest difference of a feature between passes: reordered sums, not other dropout masks


@dataclass(frozen=True)
class StepResult:
    """One step's numbers, the same on every rank except `timings`."""

    loss: float
    metrics: dict[str, float]
    grad_norm: float  # infinite when the loss or a gradient was not finite
    skipped: bool  # loss or gradient was not finite: nothing changed
    pairs: int  # valid pairs on all ranks
    timings: dict[str, float]  # seconds: pass1, loss, pass2, optimizer; they add up to the step


def cached_step(
    engine: Engine,
    batch: Batch,
    objective: Objective,
    chunk: int,
    lr: float,
    progress: float = 0.0,
    companions: Companions = NONE,
) -> StepResult:
    """Forward, terms, backward and optimizer step for `batch`, holding the activations of `chunk` pairs at a time.

    Collective. Ranks may hold different numbers of rows, or none: all run as many forwards as the fullest one, on one
    row that does not count where they have no more, because ZeRO-3 gathers parameters in every forward. What towers
    draw from torch's generators is keyed by (seed, step, first pair of the chunk): the same in both passes, and after a
    restart. `progress` (0 to 1) of the run, for weights that change. `companions` add columns before, and see what
    came of the step.
    With `check_cache` in the engine's settings the features of both passes are compared (ClipmillError on every rank
    when they differ).
    """
    clock = _Clock(engine.device, engine.peers.place)
    objective = objective.at(progress)
    batch = companions.enriched(batch, objective.columns, chunk)
    chunks = _Chunks(engine, batch, objective, chunk)
    features, last = chunks.first_pass()
    clock.lap("pass1")

    given = {name: scalar.detach() for name, scalar in last.scalars.items()}
    found = objective.of_step(features, given, batch.rows, engine.peers)
    value, pairs, metrics = _numbers(found, chunks.valid, engine)
    clock.lap("loss")
    if not math.isfinite(value):
        companions.after_step(engine, lr, skipped=True)
        clock.lap("pass2")
        clock.lap("optimizer")
        return StepResult(value, metrics, math.inf, True, pairs, clock.laps)

    with engine.accumulate():
        sums, drift = chunks.second_pass(found, last, features if engine.settings.check_cache else None)
    if engine.settings.check_cache:
        _require_agreement(engine, drift)
    for name, part in _summed(sums, engine).items():
        value += objective.weights[name] * part
        metrics[f"{name}/loss"] = part
    clock.lap("pass2")
    info = engine.step(lr)
    companions.after_step(engine, lr, info.skipped)
    clock.lap("optimizer")
    return StepResult(value, metrics, info.grad_norm, info.skipped, pairs, clock.laps)


class _Chunks:
    """The chunks of one rank's rows, as many on every rank."""

    def __init__(self, engine: Engine, batch: Batch, objective: Objective, chunk: int) -> None:
        self._engine, self._batch, self._objective = engine, batch, objective
        most = int(engine.peers.all_max(torch.tensor([batch.size], device=engine.device)))
        count = max(1, -(-most // chunk))
        starts = range(0, batch.size, chunk)
        padding = [(batch.size, batch.size)] * (count - len(starts))
        owners = owners_of(batch.rows)
        edges = padding + [(start, min(start + chunk, batch.size)) for start in starts]
        self._spans = [spans(owners, *edge) for edge in edges]
        self._counts = objective.counts(batch.rows, engine.peers)
        self.valid = batch.rows[VALID].sum()

    def first_pass(self) -> tuple[Rows, Outputs]:
        """Features of every row without a graph, and the last chunk's outputs with it."""
        parts, cached = [], self._objective.cached
        for where in self._spans[:-1] if cached else ():
            with torch.no_grad():
                parts.append(_kept(self._forward(where, cached).features, where))
        last = self._forward(self._spans[-1], self._objective.outputs)
        parts.append(_kept({name: last.features[name].detach() for name in cached}, self._spans[-1]))
        return {name: torch.cat([part[name] for part in parts]) for name in cached}, last

    def second_pass(self, found: TermOutput, last: Outputs, seen: Rows | None) -> tuple[dict[str, Tensor], Tensor]:
        """All backwards; this rank's sums of the chunk terms, and the largest difference from the `seen` features (zero
        when not asked)."""
        drift = torch.zeros(1, device=self._engine.device)
        sums = self._backward(self._spans[-1], last, found.grads, found.d_scalars)
        for where in self._spans[:-1]:
            outputs = self._forward(where, self._objective.outputs)
            for name, before in (seen or {}).items():
                again, before = _kept(outputs.features, where)[name].detach(), before[where[group_of(name)]]
                drift = torch.maximum(drift, (again - before).abs().max()) if len(again) else drift
            more = self._backward(where, outputs, found.grads, None)
            sums = {name: sums[name] + part for name, part in more.items()}
        return sums, drift

    def _rows(self, where: Spans) -> Rows:
        return harmless(self._batch.rows) if _is_empty(where) else cut(self._batch.rows, where)

    def _forward(self, where: Spans, want: frozenset[str]) -> Outputs:
        first = where[""].start
        uid = self._batch.uids[first] if first < self._batch.size else ""
        with _keyed(self._engine.device, keyed_u64(self._batch.seed, "towers", self._batch.step, uid)):
            return self._engine.forward(self._rows(where), want)

    def _backward(self, where: Spans, outputs: Outputs, grads: Rows, d_scalars: Rows | None) -> dict[str, Tensor]:
        """Sends a scalar through the towers whose gradients are the given ones and those of the chunk terms.

        `d_scalars` are those of the whole batch: every rank gives its share of them, with one of its chunks.
        """
        sums = self._objective.of_chunk(outputs.features, self._rows(where), self._counts)
        total = torch.zeros((), device=self._engine.device)
        for name, part in sums.items():
            total = total + self._objective.weights[name] * part
        features = _kept(outputs.features, where)
        for name, gradient in grads.items():
            total = total + (features[name] * gradient[where[group_of(name)]]).sum()
        if d_scalars is not None:
            for name, scalar in outputs.scalars.items():
                share = d_scalars[name] / self._engine.peers.world if name in d_scalars else 0.0
                total = total + (scalar * share).sum()
        self._engine.backward(total)
        return {name: part.detach() for name, part in sums.items()}


def _is_empty(where: Spans) -> bool:
    return where[""].stop == where[""].start


def _kept(features: Rows, where: Spans) -> Rows:
    """Without the row that an empty chunk was computed on."""
    return {name: column[:0] for name, column in features.items()} if _is_empty(where) else features


def _numbers(found: TermOutput, valid: Tensor, engine: Engine) -> tuple[float, int, dict[str, float]]:
    """Value, valid pairs of all ranks and metrics on the host: the one time before the replay that a step waits."""
    pairs = engine.peers.all_sum(valid.double())
    numbers = torch.stack([found.value.double(), pairs, *(metric.double() for metric in found.metrics.values())])
    value, count, *metrics = numbers.tolist()
    return value, int(count), dict(zip(found.metrics, metrics, strict=True))


def _summed(sums: dict[str, Tensor], engine: Engine) -> dict[str, float]:
    """The values of chunk terms over all ranks."""
    if not sums:
        return {}
    total = engine.peers.all_sum(torch.stack([part.double() for part in sums.values()]))
    return dict(zip(sums, total.tolist(), strict=True))


@contextmanager
def _keyed(device: torch.device, key: int) -> Iterator[None]:
    """torch's generators seeded with `key` inside, and left where they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(key)
        yield


def _require_agreement(engine: Engine, drift: Tensor) -> None:
    worst = engine.peers.all_max(drift).item()
    if not worst <= _AGREE:
        raise ClipmillError(
            "gradient cache",
            f"a feature differs by {worst:.3g} between the two passes",
            f"at most {_AGREE:g}",
            "something in the towers draws randomness of its own; key it by the pair",
        )


class _Clock:
    """Seconds between laps, waiting for the device so that each lap holds its own work; and the lap that is under way,
    told to `place`."""

    _NEXT = {"pass1": "loss", "loss": "pass2", "pass2": "optimizer", "optimizer": "log"}

    def __init__(self, device: torch.device, place: Place) -> None:
        self._device, self._place = device, place
        place.enter("pass1")
        self.laps: dict[str, float] = {}
        self._since = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def lap(self, name: str) -> None:
        now = self._now()
        self.laps[name] = now - self._since
        self._since = now
        self._place.enter(self._NEXT[name])
