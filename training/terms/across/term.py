"""A term that is written down as a value: its gradients are those of the pieces of this room."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.rows import Rows
from training.terms.across.everyone import Everyone
from training.terms.term import TermOutput
from training.wanted import Scalar


class Written(Protocol):
    """Of `AcrossSettings`, what a term is made from."""

    @property
    def needs(self) -> frozenset[str]: ...

    def scalars(self) -> tuple[Scalar, ...]: ...

    def value(self, features: Rows, scalars: Rows, everyone: Everyone) -> tuple[Tensor, Rows]: ...


@dataclass(frozen=True)
class AcrossTerm:
    settings: Written

    @property
    def needs(self) -> frozenset[str]:
        return self.settings.needs

    def __call__(self, features: Rows, scalars: Rows, rows: Rows, peers: Peers) -> TermOutput:
        everyone = Everyone.of(rows, peers)
        leaves = {name: features[name].detach().requires_grad_() for name in sorted(self.needs)}
        numbers = {one.name: scalars[one.name].detach().requires_grad_() for one in self.settings.scalars()}
        with torch.enable_grad():
            kept = {name: leaf[everyone.valid_N] for name, leaf in leaves.items()}
            value, metrics = self.settings.value(kept, numbers, everyone)
        given = [*leaves.values(), *numbers.values()]
        found = torch.autograd.grad(value, given, allow_unused=True, materialize_grads=True)
        shares = dict(zip(numbers, found[len(leaves) :], strict=True))
        return TermOutput(
            value.detach(),
            dict(zip(leaves, found, strict=False)),
            {name: peers.all_sum(share.double()).to(share.dtype) for name, share in shares.items()},
            {name: part.detach() for name, part in metrics.items()},
        )
