"""The moving average of the weights along the run (Polyak and Juditsky, 1992)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.companions.companion import CompanionSettings

if TYPE_CHECKING:
    from training.companions.running.companion import Companion
    from training.engine.interface import Engine


class Ema(CompanionSettings):
    """Evaluated by `train.eval.of`, exported by `clipmill export --weights`. Each rank keeps its share of it."""

    kind: Literal["ema"] = "ema"
    decay: float = Field(0.9999, ge=0.0, lt=1.0, description="of one optimizer step, whatever every_steps says")
    warmup: bool = Field(True, description="decay at most (1 + steps) / (10 + steps): early weights are soon forgotten")
    every_steps: int = Field(1, ge=1, description="so many optimizer steps make one update")

    def build(self, engine: "Engine", seed: int) -> "Companion":
        from training.companions.running.ema import RunningEma

        return RunningEma(self.called, self.decay, self.warmup, self.every_steps, engine)
