"""What every target can be given besides its kind: it composes with all of them."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.settings import Settings
from training.terms.costs import StepSizes, TargetCost

if TYPE_CHECKING:
    from training.terms.cores.step import Step
    from training.terms.cores.targets import Spread


class TargetSettings(Settings):
    """A target of `training.terms.cores.targets`; a kind says how it spreads."""

    smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="share of the target spread over all candidates alike")
    positive_margin: float = Field(0.0, description="taken off the scores of pairs (scale included)")
    negative_margin: float = Field(0.0, description="added to the scores of rivals (scale included)")

    @property
    def names(self) -> tuple[tuple[Literal["rows", "texts"], str], ...]:
        """The fields that are asked for, and of what."""
        return ()

    @property
    def numbers(self) -> frozenset[str]:
        """Those of them that are numbers in KEY.json; companions give the others."""
        return frozenset()

    @property
    def positives(self) -> Literal["first", "all", "each"]:
        """Which of a row's own texts are its answers: `training.terms.cores.positives.of_rows`."""
        return "all"

    def costs(self, at: StepSizes) -> TargetCost | None:
        """What it adds to a core, smoothing apart, for plans. None: it does not say."""
        return None

    def spread(self, step: "Step") -> "Spread | None":
        return None
