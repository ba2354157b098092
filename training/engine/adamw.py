"""AdamW as every engine runs it: with a veto, with hard limits on the masters, and with its state made beforehand.

DeepSpeed steps this same class on its flat fp32 partitions, so clamping here reaches the master and, since DeepSpeed
copies masters to live parameters right after, the live copy; nothing can wind up behind the limit.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.errors import RecipeError

if TYPE_CHECKING:
    from training.towers.towers import Towers

MOMENTS = ("exp_avg", "exp_avg_sq")


class GuardedAdamW(torch.optim.AdamW):
    """torch's AdamW; `may_step` is asked before every update, `limits` of a group bound its masters after it."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=0.0, fused=True)
        self.may_step: Callable[[], bool] = lambda: True

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

    def make_state(self, masters: Sequence[Tensor]) -> None:
        """Zero moments for `masters`, so that there is something to save or load before the first step."""
        for master in masters:
            moments = {key: torch.zeros_like(master, requires_grad=False) for key in MOMENTS}
            self.state[master] = {"step": torch.zeros((), dtype=torch.float32, device=master.device), **moments}

    def set_steps(self, steps: int) -> None:
        """The count that corrects Adam's bias."""
        for state in self.state.values():
            state["step"].fill_(steps)


def adamw_for(
    towers: "Towers", lr: float, betas: tuple[float, float], eps: float, decay: float, lr_scales: dict[str, float]
) -> GuardedAdamW:
    """The optimizer over the trained parameters; only those of two or more dimensions decay.

    A scalar with limits has a group of its own, which DeepSpeed keeps in a flat partition of its own: they touch
    nothing else. RecipeError: a prefix in `lr_scales` names no trained parameter, or nothing is trained.
    """
    groups: dict[tuple[float, float, tuple[float, float] | None], list[nn.Parameter]] = {}
    unused = set(lr_scales)
    for name, parameter in towers.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = [prefix for prefix in lr_scales if name == prefix or name.startswith(prefix.rstrip(".") + ".")]
        unused -= set(prefixes)
        scale = lr_scales[max(prefixes, key=len)] if prefixes else 1.0
        key = (decay if parameter.ndim > 1 else 0.0, scale, towers.limits.get(name))
        groups.setdefault(key, []).append(parameter)
    if unused:
        names = sorted({name.split(".")[0] for name, _ in towers.named_parameters()})
        raise RecipeError(
            "train.optimizer.lr_scales", f"no trained parameter under {sorted(unused)}", f"one of {names}"
        )
    if not groups:
        raise RecipeError("train.model", "every parameter is locked", "something to train", "unlock a tower")
    made = [
        {
            "params": parameters,
            "weight_decay": group_decay,
            "lr_scale": scale,
            "limits": limits,
        }
        for (group_decay, scale, limits), parameters in groups.items()
    ]
    return GuardedAdamW(made, lr=lr, betas=betas, eps=eps)
