"""What an evaluation is: settings of one set that can score towers. Imports no torch: settings are read without it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from training.evals.model import Model


@dataclass(frozen=True)
class Scored:
    """Scores of one set by metric name, the scores of guessing, and what the set holds."""

    scores: dict[str, float]
    chance: dict[str, float]
    counts: dict[str, int]


class Evaluation(Protocol):
    """Settings of one set that can score towers."""

    name: str
    kind: str

    def check(self) -> None:
        """RecipeError when the set is not there."""
        ...

    def run(self, model: "Model") -> Scored:
        """Scores the model on the set; the same numbers on every rank. Collective."""
        ...


def as_results(name: str, scored: Scored) -> dict[str, float]:
    """Scores under "<set>/<metric>"."""
    return {f"{name}/{metric}": value for metric, value in scored.scores.items()}


def about(one: Evaluation, scored: Scored) -> dict[str, Any]:
    """The set's entry in eval.json."""
    return {"name": one.name, "kind": one.kind, **scored.counts, "chance": scored.chance}
