"""One training step on a batch far larger than memory: gradient caching (Gao et al., 2021) around a pure loss.

Letters: N rows on this rank, D features.

Features of all chunks are computed first, without a graph; the loss turns them into gradients once, for the whole step;
each chunk is then computed again with a graph and its gradients are sent through. Only the last chunk keeps its graph
from the first pass, so K chunks cost K - 1 forwards more than a plain step, and one chunk is a plain step.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ClipmillError
from training.engine.interface import Engine, Features
from training.losses.loss import Loss, LossOutput
from training.reader.batch import Batch

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
    loss: Loss,
    chunk: int,
    lr: float,
) -> StepResult:
    """Forward, loss, backward and optimizer step for `batch`, holding the activations of `chunk` pairs at a time.

    Collective. Ranks may hold different numbers of rows, or none: all run as many forwards as the fullest one, on one
    row of weight zero where they have no more, because ZeRO-3 gathers parameters in every forward. Randomness drawn
    from torch's generators is the same in both passes.
    With `check_cache` in the engine's settings the features of both passes are compared (ClipmillError on every rank
    when they differ).
    """
    clock = _Clock(engine.device)
    chunks = _Chunks(engine, batch, chunk)
    image_ND, text_ND, last = chunks.first_pass()
    clock.lap("pass1")

    bias = None if last.bias is None else last.bias.detach()
    output = loss(image_ND, text_ND, last.log_scale.detach(), bias, batch.valid_N.to(engine.device), engine.peers)
    value = output.loss.item()
    clock.lap("loss")
    if not torch.isfinite(output.loss):
        clock.lap("pass2")
        clock.lap("optimizer")
        return StepResult(value, output.metrics, float("inf"), True, output.pairs, clock.laps)

    with engine.accumulate():
        drift = chunks.second_pass(output, last, (image_ND, text_ND) if engine.settings.check_cache else None)
    if engine.settings.check_cache:
        _require_agreement(engine, drift)
    clock.lap("pass2")
    info = engine.step(lr)
    clock.lap("optimizer")
    return StepResult(value, output.metrics, info.grad_norm, info.skipped, output.pairs, clock.laps)


class _Chunks:
    """The chunks of one rank's rows, as many on every rank."""

    def __init__(self, engine: Engine, batch: Batch, chunk: int) -> None:
        self._engine, self._batch = engine, batch
        rows = batch.images_NCHW.shape[0]
        most = int(engine.peers.all_max(torch.tensor([rows], device=engine.device)))
        count = max(1, -(-most // chunk))
        starts = range(0, rows, chunk)
        padding = [slice(rows, rows)] * (count - len(starts))
        self._slices = padding + [slice(start, min(start + chunk, rows)) for start in starts]
        self._replay: list[Callable[[], AbstractContextManager[None]]] = []

    def first_pass(self) -> tuple[Tensor, Tensor, Features]:
        """Every row's features without a graph, and those of the last chunk with it."""
        images, texts = [], []
        for where in self._slices:
            self._replay.append(_remembered(self._engine.device))
            last = where is self._slices[-1]
            with nullcontext() if last else torch.no_grad():
                features = self._forward(where)
            size = where.stop - where.start
            images.append(features.image_ND[:size].detach())
            texts.append(features.text_ND[:size].detach())
        return torch.cat(images), torch.cat(texts), features

    def second_pass(self, output: LossOutput, last: Features, seen: tuple[Tensor, Tensor] | None) -> Tensor:
        """All backwards; the largest difference from the `seen` features (zero when not asked)."""
        drift = torch.zeros(1, device=self._engine.device)
        self._backward(self._slices[-1], last, output, output.d_scale, output.d_bias)
        for where, replay in zip(self._slices[:-1], self._replay[:-1], strict=True):
            with replay():
                features = self._forward(where)
            if seen is not None and where.stop > where.start:
                for again_ND, before_ND in zip(features[:2], seen, strict=True):
                    drift = torch.maximum(drift, (again_ND.detach() - before_ND[where]).abs().max())
            self._backward(where, features, output, None, None)
        return drift

    def _forward(self, where: slice) -> Features:
        images_NCHW, tokens_NL = self._batch.images_NCHW[where], self._batch.tokens_NL[where]
        if where.stop == where.start:
            images_NCHW, tokens_NL = _one_row(self._batch.images_NCHW), _one_row(self._batch.tokens_NL)
        return self._engine.forward(images_NCHW, tokens_NL)

    def _backward(
        self, where: slice, features: Features, output: LossOutput, d_scale: Tensor | None, d_bias: Tensor | None
    ) -> None:
        d_image_ND, d_text_ND = output.d_image_ND[where], output.d_text_ND[where]
        if where.stop == where.start:
            d_image_ND, d_text_ND = torch.zeros_like(features.image_ND), torch.zeros_like(features.text_ND)
        self._engine.backward(features, d_image_ND, d_text_ND, d_scale, d_bias)


def _one_row(rows: Tensor) -> Tensor:
    """A row to compute for nothing: an own one, known to be harmless, or zeros when this rank has none."""
    return rows[:1] if rows.shape[0] else rows.new_zeros((1, *rows.shape[1:]))


def _remembered(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A context that gives torch's generators back their present state, and leaves no trace."""
    host = torch.get_rng_state()
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    class Replayed:
        def __enter__(self) -> None:
            self._fork = torch.random.fork_rng([device] if own is not None else [])
            self._fork.__enter__()
            torch.set_rng_state(host)
            if own is not None:
                torch.cuda.set_rng_state(own, device)

        def __exit__(self, *error: Any) -> None:
            self._fork.__exit__(*error)

    return Replayed


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
    """Seconds between laps, waiting for the device so that each lap holds its own work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
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
