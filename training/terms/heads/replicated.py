"""Small weights that a term trains by itself: whole on every rank, with an AdamW of their own."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pipeline.errors import DataError

SIDES = ("image", "text")
_MOMENTS = ("exp_avg", "exp_avg_sq")
_BETAS, _EPS = (0.9, 0.98), 1e-6


class Replicated:
    """One matrix a side, made when it is first asked for, and the same on every rank: gradients are global."""

    def __init__(self, lr_scale: float, weight_decay: float, seed: int) -> None:
        self._lr_scale, self._decay, self._seed = lr_scale, weight_decay, seed
        self._optimizers: dict[str, torch.optim.AdamW] = {}
        self._weights: dict[str, Tensor] = {}
        self._found: dict[str, Tensor] = {}  # in a checkpoint, and not asked for yet
        self.gradients: dict[str, Tensor] = {}  # of the step in hand, of the whole batch

    def weight(self, side: str, shape: tuple[int, int], like: Tensor) -> Tensor:
        """The matrix of a side, in the dtype and place of `like`, at first drawn from the seed, with a gradient."""
        if side not in self._weights:
            drawn = torch.Generator().manual_seed(2 * self._seed + SIDES.index(side))
            start = torch.randn(shape, generator=drawn) * shape[1] ** -0.5
            weight = start.to(like).requires_grad_()
            self._weights[side] = weight
            self._optimizers[side] = torch.optim.AdamW([weight], betas=_BETAS, eps=_EPS, weight_decay=self._decay)
            zeros = {key: torch.zeros_like(weight, requires_grad=False) for key in _MOMENTS}
            self._optimizers[side].state[weight] = {"step": torch.zeros(()), **zeros}
            for name, tensor in self._tensors(side).items():
                if name in self._found:
                    tensor.data.copy_(self._fitting(name, tensor))
        return self._weights[side]

    def _fitting(self, name: str, like: Tensor) -> Tensor:
        found = self._found.pop(name)
        if found.shape != like.shape:
            shapes = f"has shape {tuple(found.shape)}", f"this run needs {tuple(like.shape)}"
            raise DataError(f"checkpoint, {name}", *shapes, "put the teacher and the model back")
        return found

    def after_step(self, lr: float, skipped: bool) -> None:
        for side, gradient in self.gradients.items() if not skipped else ():
            self._weights[side].grad = gradient.to(self._weights[side])
            self._optimizers[side].param_groups[0]["lr"] = lr * self._lr_scale
            self._optimizers[side].step()
            self._weights[side].grad = None
        self.gradients = {}

    def _tensors(self, side: str) -> dict[str, Tensor]:
        weight = self._weights[side]
        return {f"{side}/param": weight} | {f"{side}/{k}": v for k, v in self._optimizers[side].state[weight].items()}

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._found.items()
        for side in self._weights:
            yield from ((name, tensor.detach().cpu()) for name, tensor in self._tensors(side).items())

    def load(self, get: Callable[[str], Tensor | None]) -> None:
        for side in SIDES:
            for part in ("param", "step", *_MOMENTS):
                tensor = get(f"{side}/{part}")
                if tensor is not None:
                    self._found[f"{side}/{part}"] = tensor
