"""The guards every optimizer runs under: a veto, hard limits on the masters, and a state made beforehand.

DeepSpeed steps the same object on its flat fp32 partitions, so clamping here reaches the master and, since DeepSpeed
copies masters to live parameters right after, the live copy; nothing can wind up behind the limit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.engine.update.spans import Layout, Span


class Guard(torch.optim.Optimizer):
    """Goes before a torch optimizer in a class of both; groups are those of `update.groups`.

    `may_step` is asked before every update. `layout` and `all_sum` tell an update that needs whole parameters which
    parts of them the masters hold and how to add over the ranks that share them.
    """

    moments: dict[str, tuple[str, ...]]  # of each parameter: what is kept for every element, by its name in checkpoints

    def guard(self) -> None:
        self.may_step: Callable[[], bool] = lambda: True
        self.all_sum: Callable[[Tensor], Tensor] = torch.clone
        self.layout: Layout = self._whole
        self._names = {id(one): name for group in self.param_groups for name, one in named(group)}
        self.moments = {name: group["moments"] for group in self.param_groups for name, _ in named(group)}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever given
        if not self.may_step():
            return
        super().step(closure)
        for group in self.param_groups:
            if group["limits"] is not None:
                for master in group["params"]:
                    master.clamp_(*group["limits"])

    def set_lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def make_state(self, masters: Sequence[Tensor], names: Callable[[Tensor], str] | None = None) -> None:
        """Zero moments for `masters`, so that there is something to save or load before the first step.

        `names`: any one parameter of a master's group; default: masters are the parameters.
        """
        for master in masters:
            moments = self.moments[names(master) if names else self._names[id(master)]]
            zeros = {key: torch.zeros_like(master, requires_grad=False) for key in moments}
            self.state[master] = {"step": torch.zeros((), dtype=torch.float32, device=master.device), **zeros}

    def set_steps(self, steps: int) -> None:
        """The count that corrects Adam's bias."""
        for state in self.state.values():
            state["step"].fill_(steps)

    def _whole(self, master: Tensor) -> list[Span]:
        return [Span(self._names[id(master)], tuple(master.shape), 0, 0, master.numel())]


def named(group: dict[str, Any]) -> list[tuple[str, Tensor]]:
    return list(zip(group["names"], group["params"], strict=True))


def guarded(kind: type, groups: list[dict[str, Any]], moments: tuple[str, ...], **options: Any) -> Guard:
    """An optimizer of the torch class `kind` over `groups`, under the guards.

    `moments`: what it keeps of each element, as named in its state and in checkpoints; a group may say other.
    """
    groups = [{"moments": moments} | group for group in groups]
    made: Guard = type(f"Guarded{kind.__name__}", (Guard, kind), {})(groups, **options)
    made.guard()
    return made
