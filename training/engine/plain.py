"""The engine without DeepSpeed: every rank holds everything. The oracle the others are tested against."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.engine.body import Body, on_device, outputs_of
from training.engine.full_state import buffers_of, checked, load_buffers
from training.engine.interface import Fragment, Outputs, StepInfo
from training.engine.settings import EngineSettings
from training.engine.update.guarded import Guard
from training.ranks.peers import Peers
from training.rows import Rows

if TYPE_CHECKING:
    from training.towers.towers import Towers


class PlainEngine:
    """See `training.engine.interface.Engine`. Parameters may be float64, for tests that want more digits."""

    def __init__(self, towers: "Towers", settings: EngineSettings, optimizer: Guard, peers: Peers) -> None:
        self.settings = settings
        self.peers = peers
        self.device = peers.device
        self.towers = towers
        self.optimizer_steps = 0
        self._body = Body(towers, settings.precision).train()
        self._optimizer, self.moments = optimizer, optimizer.moments
        self._trained = [parameter for parameter in towers.parameters() if parameter.requires_grad]
        optimizer.make_state(self._trained)

    def scalars(self) -> dict[str, float]:
        return {name: parameter.item() for name, parameter in self.towers.scalars().items()}

    def forward(self, rows: Rows, want: frozenset[str]) -> Outputs:
        return outputs_of(self._body(on_device(rows, self.device), want))

    @torch.no_grad()
    def evaluate(self, rows: Rows, want: frozenset[str]) -> Rows:
        self._body.eval()
        found = self.forward(rows, want).features
        self._body.train()
        return found

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        yield
        grads = self._grads()
        if self.peers.world > 1:
            flat = self.peers.all_sum(torch.cat([grad.flatten() for grad in grads]))
            for grad, piece in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(piece.view_as(grad))

    def _grads(self) -> list[Tensor]:
        """The gradient of every trained parameter; zeros where no backward reached it."""
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self._trained if parameter.grad is not None]

    def backward(self, total: Tensor) -> None:
        total.backward()

    def step(self, lr: float) -> StepInfo:
        grads = self._grads()
        norm = torch.stack([grad.norm() for grad in grads]).norm().item()
        skipped = not math.isfinite(norm)
        if not skipped:
            clip = self.settings.grad_clip
            if clip is not None and norm > clip:
                for grad in grads:
                    grad.mul_(clip / (norm + 1e-6))
            self._optimizer.set_lr(lr)
            self._optimizer.step()
            self.optimizer_steps += 1
        self._optimizer.zero_grad()
        return StepInfo(math.inf if skipped else norm, skipped)

    def fragments(self) -> Iterator[Fragment]:
        for name, parameter in self.towers.named_parameters():
            tensors = {"param": parameter.detach()}
            tensors |= {key: self._optimizer.state[parameter][key] for key in self.moments.get(name, ())}
            size = -(-parameter.numel() // self.peers.world)
            start = min(size * self.peers.rank, parameter.numel())
            held = {key: tensor.view(-1)[start : start + size] for key, tensor in tensors.items()}
            yield Fragment(name, tuple(parameter.shape), start, held if held["param"].numel() else {})

    @contextmanager
    def lent(self, whole: Callable[[str], Tensor]) -> Iterator[None]:
        trained = {name: p for name, p in self.towers.named_parameters() if p.requires_grad}
        before = {name: parameter.detach().clone() for name, parameter in trained.items()}
        try:
            for name, parameter in trained.items():
                parameter.data.copy_(whole(name))
            yield
        finally:
            for name, parameter in trained.items():
                parameter.data.copy_(before[name])

    def full_state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self.towers.named_parameters():
            tensors = {"param": parameter.detach()}
            if parameter.requires_grad:
                tensors |= {key: self._optimizer.state[parameter][key] for key in self.moments[name]}
            yield name, {key: tensor.cpu().clone() for key, tensor in tensors.items()}
        yield from buffers_of(self.towers, self.peers)

    @torch.no_grad()
    def load_full_state(self, get: Callable[[str], dict[str, Tensor]], step: int) -> None:
        for name, parameter in self.towers.named_parameters():
            tensors = checked(name, get(name), tuple(parameter.shape), self.moments.get(name, ()))
            parameter.copy_(tensors.pop("param"))
            for key, value in tensors.items():
                self._optimizer.state[parameter][key].copy_(value)
        load_buffers(self.towers, get)
        self._optimizer.set_steps(step)
        self.optimizer_steps = step
