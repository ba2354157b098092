"""The moving average, on each rank of those elements of the weights alone whose optimizer state it holds."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.log import get_logger
from training.companions.running.companion import Companion, Kept
from training.engine.full_state import whole_of
from training.engine.interface import Engine, Fragment

log = get_logger("train")


class RunningEma(Companion):
    """Starts as a copy of the weights. Not collective but for `state` and `whole`."""

    def __init__(self, name: str, decay: float, warmup: bool, every_steps: int, engine: Engine) -> None:
        self.name, self._peers = name, engine.peers
        self._decay, self._warmup, self._every = decay, warmup, every_steps
        self._trained = {name for name, parameter in engine.towers.named_parameters() if parameter.requires_grad}
        self._places = {one.name: one._replace(tensors={}) for one in self._mine(engine)}
        self._nothing = torch.zeros(0, dtype=next(engine.towers.parameters()).dtype, device=engine.device)
        self._average = {one.name: one.tensors["param"].clone() for one in self._mine(engine) if one.tensors}

    def _mine(self, engine: Engine) -> Iterator[Fragment]:
        return (one for one in engine.fragments() if one.name in self._trained)

    def decay_at(self, steps: int) -> float:
        """When `steps` optimizer steps are done."""
        decay = min(self._decay, (1 + steps) / (10 + steps)) if self._warmup else self._decay
        return decay**self._every

    @torch.no_grad()
    def after_step(self, engine: Engine, lr: float, skipped: bool) -> None:
        if skipped or engine.optimizer_steps % self._every:
            return
        weights = {one.name: one.tensors["param"] for one in self._mine(engine) if one.tensors}
        if weights:
            averages = [self._average[name] for name in weights]
            torch._foreach_lerp_(averages, list(weights.values()), 1 - self.decay_at(engine.optimizer_steps))

    def whole(self, name: str) -> Tensor:
        """The average of a parameter, whole, on every rank, on the CPU. Collective."""
        place = self._places[name]
        part = self._average.get(name)
        return whole_of(self._peers, place.shape, place.start, self._nothing if part is None else part)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((name, self.whole(name)) for name in self._places)

    def load(self, get: Kept) -> None:
        """Of a run that kept none, the weights stay what it starts from."""
        lacking = []
        for name, place in self._places.items():
            tensor = get(name)
            if tensor is None:
                lacking.append(name)
                continue
            if tuple(tensor.shape) != place.shape:
                found = f"has shape {tuple(tensor.shape)}"
                raise DataError(f"checkpoint, {self.name}/{name}", found, f"these towers have {place.shape}")
            if name in self._average:
                part = self._average[name]
                part.copy_(tensor.flatten()[place.start : place.start + part.numel()])
        if lacking and self._peers.rank == 0:
            words = "the checkpoint holds no average %r of %d parameters (%s, ...): it starts from their weights"
            log.info(words, self.name, len(lacking), lacking[0])
