"""The towers of a recipe without memory: shapes alone, for any tower that can be built on this machine.

Letters: N rows, S side of a picture, L tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.errors import RecipeError, one_line
from training.costs.watch import Watch, Work
from training.engine.body import Body
from training.engine.full_state import persistent_buffers
from training.engine.update.groups import groups_of
from training.rows import Rows
from training.step.objective import build_objective
from training.terms.term import TermSettings
from training.towers.config import WHERE
from training.towers.settings import ModelSettings
from training.wanted import FIXED, Wanted

if TYPE_CHECKING:
    from training.settings import TrainSettings
    from training.towers.towers import Towers

VIEWS = "views"  # the one group of pictures


@dataclass(frozen=True)
class Group:
    """Parameters that the optimizer treats alike: elements of each, in order, and how many moments it keeps."""

    sizes: tuple[int, ...]
    moments: int
    matrix: bool = False


@dataclass(frozen=True)
class Weights:
    """All of a model: `groups` are trained, `locked` are elements of what is not; `buffers`: bytes that are saved."""

    groups: tuple[Group, ...]
    locked: tuple[int, ...] = ()
    buffers: int = 0
    number: int = 0  # tensors of a checkpoint, moments included

    @property
    def trained(self) -> int:
        return sum(sum(group.sizes) for group in self.groups)

    @property
    def parameters(self) -> int:
        return self.trained + sum(self.locked)


@dataclass(frozen=True)
class Passes:
    """What a chunk costs: without a graph, with one, and backwards. `kept`: bytes that a graph holds beside parameters,
    as torch counts them; `peak`: most held at a time in a forward and its backward beside parameters, gradients and
    rows; `rows`: bytes of the columns of a pair; `outputs`: bytes of the cached features of a pair, `shapes` of one
    entry of each. Terms inside the replay are part of it."""

    plain: Work
    forward: Work
    backward: Work
    kept: int
    peak: int
    rows: float
    outputs: float
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """A forward without a graph, as a companion makes it of a chunk; `peak`: bytes at most beside weights and rows."""

    work: Work
    peak: int


class Seen:
    """Towers without memory, that can be looked at. `half`: they compute in 16 bits where they may."""

    def __init__(self, build: "Callable[[], Towers]", half: bool, wanted: Wanted, fixed: bool = False) -> None:
        with torch.device(
            "meta"
        ):  # as `check_stages`: what builds towers may ask for numbers, which a fake has none of
            self.towers = build()
        self.half, self._wanted, self._fixed = half, wanted, fixed
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self._fake:
            self.towers.to_empty(device="cpu")
            self.towers._mean_C11 = self.towers._std_C11 = torch.zeros(3, 1, 1)  # neither parameters nor buffers

    def entries(self, group: str) -> int:
        """Most of a pair."""
        return int(getattr(self._wanted, group)) if group else 1

    def look(self, chunk: int, want: frozenset[str]) -> Look:
        """As a frozen model's. RecipeError as `Model.passes`."""
        training = self.towers.training
        try:
            with self._fake, torch.no_grad():
                rows = self._rows(chunk)
                with Watch([*rows.values(), *self.towers.parameters(), *self.towers.buffers()]) as watch:
                    with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                        self.towers.eval()(rows, want)
                    return Look(watch.taken(), watch.peak)
        except (RuntimeError, NotImplementedError) as error:
            raise _not_by_shapes(error) from error
        finally:
            self.towers.train(training)

    def _rows(self, N: int) -> Rows:
        """The columns of a chunk that towers eat."""
        S, L = self.towers.image_size, self.towers.context_length
        rows = {
            "image": torch.zeros((N, 3, S, S), dtype=torch.uint8),
            "tokens": torch.zeros((N, L), dtype=torch.int64),
            **{name: torch.zeros(N, dtype=torch.int64) for name in ("id", "key")},
            "valid": torch.ones(N, dtype=torch.bool),
        }
        if self._fixed:  # no picture is opened
            rows[FIXED] = torch.zeros((N, self.towers.embed_dim))
            del rows["image"]
        for group in ("positives", "negatives", VIEWS):
            many = self.entries(group)
            if many:
                rows[f"{group}/owner"] = torch.zeros(N * many, dtype=torch.int64)
                what, shape = ("image", (3, S, S)) if group == VIEWS else ("tokens", (L,))
                rows[f"{group}/{what}"] = torch.zeros(
                    (N * many, *shape), dtype=torch.uint8 if group == VIEWS else torch.int64
                )
        return rows


class Model(Seen):
    """The towers of one stage of a run. RecipeError as `build_towers`: unknown, or files that are not here."""

    def __init__(self, settings: "TrainSettings") -> None:
        self.settings = settings.model_copy(update={"model": bare(settings.model)})
        self.loss = ever_on(settings.loss)
        self.columns = build_objective(self.loss).columns
        stored = settings.stored
        fixed = stored is not None and stored.locked is not None
        super().__init__(lambda: self.settings.towers(0), settings.engine.precision == "bf16", settings.wanted, fixed)
        with self._fake:
            made = self.settings.optimizer.build(groups_of(self.towers, self.settings.optimizer))
        self.moments: dict[str, tuple[str, ...]] = made.moments
        self.groups: list[dict[str, Any]] = made.param_groups

    def weights(self) -> Weights:
        groups = tuple(
            Group(
                tuple(parameter.numel() for parameter in group["params"]),
                len(group["moments"]),
                bool(group["matrix"]),
            )
            for group in self.groups
        )
        locked = tuple(p.numel() for p in self.towers.parameters() if not p.requires_grad)
        buffers = [buffer for _, buffer in persistent_buffers(self.towers)]
        number = sum(len(group.sizes) * (1 + group.moments) for group in groups) + len(locked) + len(buffers)
        return Weights(groups, locked, sum(buffer.nbytes for buffer in buffers), number)

    def passes(self, chunk: int) -> Passes:
        """Of `chunk` pairs, with as many texts and views as the terms may ask for. RecipeError: the towers look at
        numbers, not at shapes alone."""
        try:
            return self._passes(chunk)
        except (RuntimeError, NotImplementedError) as error:
            raise _not_by_shapes(error) from error

    def _passes(self, chunk: int) -> Passes:
        objective = build_objective(self.loss)
        body = Body(self.towers, self.settings.engine.precision).train()
        with self._fake:
            rows = self._rows(chunk)
            for parameter in self.towers.parameters():
                parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
            grads = [parameter.grad for parameter in self.towers.parameters() if parameter.grad is not None]
            counts = {name: torch.ones(()) for name in objective.chunk_terms}
            known = [*rows.values(), *self.towers.parameters(), *self.towers.buffers(), *grads, *counts.values()]
            plain = Work()
            if objective.cached:
                with torch.no_grad(), Watch(known) as watch:
                    features = body(rows, objective.cached)
                    plain = watch.taken()
            kept = _Kept(known)
            with Watch(known) as watch:
                with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
                    found = body(rows, objective.outputs)
                    parts = objective.of_chunk(found, rows, counts)
                forward = watch.taken()
                alone = objective.outputs - objective.cached  # what chunk terms read, and no other
                sums = [column.sum() for name, column in found.items() if name not in alone]
                torch.stack([*(each.reshape(()) for each in sums), *parts.values()]).sum().backward()
                backward = watch.taken()
        outputs = sum(features[name].nbytes for name in objective.cached) / chunk if objective.cached else 0.0
        shapes = {name: tuple(features[name].shape[1:]) for name in objective.cached}
        size = sum(column.nbytes for column in rows.values()) / chunk
        return Passes(plain, forward, backward, kept.bytes, watch.peak, size, outputs, shapes)


def ever_on(loss: "Sequence[TermSettings]") -> "tuple[TermSettings, ...]":
    """The terms that weigh something at some time of the run: a plan is of the steps that have most to do."""
    weights = [[each for _, each in t.weight] if isinstance(t.weight, list) else [t.weight] for t in loss]
    return tuple(term for term, weight in zip(loss, weights, strict=True) if any(weight))


def bare(model: ModelSettings) -> ModelSettings:
    """Without weights: sizes alone count."""
    return model.model_copy(update={"pretrained": None, "image_pretrained": None, "text_pretrained": None})


def _not_by_shapes(error: Exception) -> RecipeError:
    found = f"these towers cannot be run on shapes alone: {one_line(error)}"
    return RecipeError(WHERE, found, "", "try one step of the run itself")


class _Kept:
    """Bytes that a graph saves, each storage once."""

    def __init__(self, known: list[Tensor]) -> None:
        self._seen = {tensor.untyped_storage()._cdata: tensor for tensor in known}
        self.bytes = 0

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = tensor
            self.bytes += storage.nbytes()
        return tensor
