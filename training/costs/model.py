"""The towers of a recipe without memory: shapes alone, for any tower that can be built on this machine.

Letters: N rows, S side of a picture, L tokens.
"""

from dataclasses import dataclass
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
from training.towers.config import WHERE

if TYPE_CHECKING:
    from training.settings import TrainSettings

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
    rows; `rows`: bytes of the columns of a pair; `outputs`: bytes of the cached features of a pair."""

    plain: Work
    forward: Work
    backward: Work
    kept: int
    peak: int
    rows: float
    outputs: float


class Model:
    """The towers of one stage of a run. RecipeError as `build_towers`: unknown, or files that are not here."""

    def __init__(self, settings: "TrainSettings") -> None:
        bare = {"pretrained": None, "image_pretrained": None, "text_pretrained": None}
        self.settings = settings.model_copy(update={"model": settings.model.model_copy(update=bare)})
        with torch.device(
            "meta"
        ):  # as `check_stages`: what builds towers may ask for numbers, which a fake has none of
            self.towers = self.settings.towers(0)
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self._fake:
            self.towers.to_empty(device="cpu")
            self.towers._mean_C11 = self.towers._std_C11 = torch.zeros(3, 1, 1)  # neither parameters nor buffers
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
            found = f"these towers cannot be run on shapes alone: {one_line(error)}"
            raise RecipeError(WHERE, found, "", "try one step of the run itself") from error

    def _passes(self, chunk: int) -> Passes:
        objective = build_objective(self.settings.loss).at(0.0)
        body = Body(self.towers, self.settings.engine.precision).train()
        with self._fake:
            rows = self._rows(chunk)
            for parameter in self.towers.parameters():
                parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
            grads = [parameter.grad for parameter in self.towers.parameters() if parameter.grad is not None]
            known = [*rows.values(), *self.towers.parameters(), *self.towers.buffers(), *grads]
            plain = Work()
            if objective.cached:
                with torch.no_grad(), Watch(known) as watch:
                    features = body(rows, objective.cached)
                    plain = watch.taken()
            kept = _Kept(known)
            with Watch(known) as watch:
                with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
                    found = body(rows, objective.outputs)
                forward = watch.taken()
                sum(column.sum() for column in found.values()).backward()
                backward = watch.taken()
        outputs = sum(features[name].nbytes for name in objective.cached) / chunk if objective.cached else 0.0
        size = sum(column.nbytes for column in rows.values()) / chunk
        return Passes(plain, forward, backward, kept.bytes, watch.peak, size, outputs)

    def _rows(self, N: int) -> Rows:
        """The columns of a chunk that towers eat."""
        S, L, wanted = self.towers.image_size, self.towers.context_length, self.settings.wanted
        rows = {
            "image": torch.zeros((N, 3, S, S), dtype=torch.uint8),
            "tokens": torch.zeros((N, L), dtype=torch.int64),
            **{name: torch.zeros(N, dtype=torch.int64) for name in ("id", "key")},
            "valid": torch.ones(N, dtype=torch.bool),
        }
        for group, many in (("positives", wanted.positives), ("negatives", wanted.negatives), (VIEWS, wanted.views)):
            if many:
                rows[f"{group}/owner"] = torch.zeros(N * many, dtype=torch.int64)
                what, shape = ("image", (3, S, S)) if group == VIEWS else ("tokens", (L,))
                rows[f"{group}/{what}"] = torch.zeros((N * many, *shape), dtype=rows[what].dtype)
        return rows


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
