"""Momentum towers at work, and the queue of what they said."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.errors import DataError, RecipeError
from training.companions.running.companion import Kept
from training.companions.running.frozen import Frozen
from training.companions.running.queue import Queue
from training.engine.full_state import persistent_buffers
from training.engine.interface import Engine
from training.reader.batch import Batch
from training.rows import Rows

_COLUMNS = ("image", "text", "id")


class Following(Frozen):
    """The towers as they are, then decay x before + (1 - decay) x the trained ones, after every step."""

    def __init__(self, name: str, decay: float, queue: int, engine: Engine) -> None:
        if engine.settings.zero_stage == 3:
            found = "a momentum encoder with ZeRO-3, under which no rank has the towers whole"
            raise RecipeError("train.companions", found, "train.engine.zero_stage of 0, 1 or 2")
        super().__init__(name, copy.deepcopy(engine.towers), engine)
        self._decay, self._peers = decay, engine.peers
        self._queue = Queue(queue, engine.peers) if queue else None
        self._said: Rows = {}

    def enrich(self, batch: Batch, wanted: frozenset[str], chunk: int) -> Rows:
        if self._queue is None:
            return super().enrich(batch, wanted, chunk)
        said = {f"{self.name}.image", f"{self.name}.text"}
        found = super().enrich(batch, wanted | said, chunk)
        valid_N = batch.rows["valid"]
        self._said = {base: found[f"{self.name}.{base}"][valid_N] for base in ("image", "text")}
        self._said["id"] = batch.rows["id"][valid_N]
        given = {f"{self.name}.queue/{base}": column for base, column in self._past(batch).items()}
        return {name: column for name, column in (found | given).items() if name in wanted}

    def _past(self, batch: Batch) -> Rows:
        """The queue without the pairs that this step has: they would be rivals of themselves."""
        assert self._queue is not None
        now_G, _ = self._peers.gather_rows(batch.rows["id"])
        if not self._queue.rows:
            return {name: column[:0] for name, column in self._said.items()}
        other = ~torch.isin(self._queue.rows["id"], now_G)
        return {name: column[other] for name, column in self._queue.rows.items()}

    @torch.no_grad()
    def after_step(self, engine: Engine, lr: float, skipped: bool) -> None:
        said, self._said = self._said, {}
        if skipped:
            return
        ours, theirs = dict(self.towers.named_parameters()), dict(engine.towers.named_parameters())
        followed = [theirs[name].detach() for name in ours]
        torch._foreach_lerp_([parameter.data for parameter in ours.values()], followed, 1 - self._decay)
        for (_, buffer), (_, other) in zip(
            persistent_buffers(self.towers), persistent_buffers(engine.towers), strict=True
        ):
            buffer.copy_(other)
        if self._queue is not None and said:
            self._queue.push(said)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((f"towers/{name}", tensor.detach().cpu()) for name, tensor in self.towers.state_dict().items())
        if self._queue is not None and self._queue.rows:
            yield from ((f"queue/{name}", self._queue.whole(name).cpu()) for name in _COLUMNS)

    def load(self, get: Kept) -> None:
        """Of a run that had none, the towers start as the trained ones are, and the queue is empty."""
        for name, tensor in self.towers.state_dict().items():
            found = get(f"towers/{name}")
            if found is not None and found.shape != tensor.shape:
                shapes = f"has shape {tuple(found.shape)}", f"these towers have {tuple(tensor.shape)}"
                raise DataError(f"checkpoint, {self.name}/{name}", *shapes)
            if found is not None:
                tensor.copy_(found)
        past = {name: get(f"queue/{name}") for name in _COLUMNS}
        rows = {name: column for name, column in past.items() if column is not None}
        if self._queue is not None and len(rows) == len(_COLUMNS):
            self._queue.fill(rows)
