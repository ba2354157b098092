"""What a step minimises: terms with weights that may change over the run.

Letters: N rows on this rank, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.rows import Rows
from training.scheduled import Scheduled, value_at
from training.terms.term import ChunkTerm, Keeps, StepTerm, TermOutput, TermSettings


@dataclass(frozen=True)
class Objective:
    """The terms of a recipe, built. `step_terms` go through the gradient cache, `chunk_terms` are part of the replay.

    Metrics of the first term have plain names, those of the others begin with `<term>/`.
    """

    scheduled: dict[str, Scheduled]  # the weight of each term, in the order of the recipe
    step_terms: dict[str, StepTerm]
    chunk_terms: dict[str, ChunkTerm]
    progress: float = 0.0
    asked: dict[str, frozenset[str]] = field(default_factory=dict)  # columns that companions have to give, by term

    def at(self, progress: float) -> "Objective":
        """The terms that weigh something when `progress` (0 to 1) of the run is done: what is off costs nothing."""
        on = {name for name, weight in self.scheduled.items() if value_at(weight, progress)}
        whole = {name: term for name, term in self.step_terms.items() if name in on}
        chunked = {name: term for name, term in self.chunk_terms.items() if name in on}
        asked = {name: columns for name, columns in self.asked.items() if name in on}
        return Objective(self.scheduled, whole, chunked, progress, asked)

    @property
    def weights(self) -> dict[str, float]:
        return {name: value_at(weight, self.progress) for name, weight in self.scheduled.items()}

    @property
    def columns(self) -> frozenset[str]:
        """What companions have to give."""
        return frozenset().union(*self.asked.values())

    @property
    def keeping(self) -> dict[str, Keeps]:
        """Those terms that train weights of their own."""
        return {name: cast(Keeps, term) for name, term in self.step_terms.items() if hasattr(term, "after_step")}

    @property
    def cached(self) -> frozenset[str]:
        """Outputs of the towers that are needed for the whole step at once."""
        return frozenset().union(*(term.needs for term in self.step_terms.values()))

    @property
    def outputs(self) -> frozenset[str]:
        """All outputs of the towers that some term needs."""
        return self.cached.union(*(term.needs for term in self.chunk_terms.values()))

    def of_step(self, features: Rows, scalars: Rows, rows: Rows, peers: Peers) -> TermOutput:
        """The weighted sum of the terms that see the whole step. Collective."""
        first, weights = next(iter(self.scheduled)), self.weights
        total = torch.zeros((), dtype=torch.float64, device=peers.device)
        grads: Rows = {}
        d_scalars: Rows = {}
        metrics: Rows = {}
        for name, term in self.step_terms.items():
            found = term(features, scalars, rows, peers)
            total = total + weights[name] * found.value.double()
            _add(grads, found.grads, weights[name])
            _add(d_scalars, found.d_scalars, weights[name])
            metrics |= {key if name == first else f"{name}/{key}": value for key, value in found.metrics.items()}
            if len(self.scheduled) > 1:
                metrics[f"{name}/loss"] = found.value
        return TermOutput(total, grads, d_scalars, metrics)

    def counts(self, rows: Rows, peers: Peers) -> dict[str, Tensor]:
        """What each chunk term divides by: a count of the whole batch. Collective if there is such a term."""
        if not self.chunk_terms:
            return {}
        mine = torch.stack([term.count(rows).double() for term in self.chunk_terms.values()])
        return dict(zip(self.chunk_terms, peers.all_sum(mine).clamp_(min=1e-30).unbind(), strict=True))

    def of_chunk(self, outputs: Rows, rows: Rows, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        """These rows' share of each chunk term, not weighted, with a graph."""
        return {name: term(outputs, rows) / counts[name] for name, term in self.chunk_terms.items()}


def build_objective(settings: Sequence[TermSettings]) -> Objective:
    """Of terms with a name of its own each."""
    built: dict[str, Any] = {each.called: each.build() for each in settings}
    chunked = {name: term for name, term in built.items() if hasattr(term, "count")}
    whole = {name: term for name, term in built.items() if name not in chunked}
    asked = {each.called: each.wanted().columns for each in settings}
    return Objective({each.called: each.weight for each in settings}, whole, chunked, asked=asked)


def _add(total: Rows, more: Rows, weight: float) -> None:
    for name, part in more.items():
        part = part if weight == 1 else part * weight
        total[name] = total[name] + part if name in total else part
