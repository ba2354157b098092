"""Towers that follow the trained ones slowly, and what they said of the pairs of past steps: MoCo (He et al., 2020) and
ALBEF (Li et al., 2021)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.companions.companion import CompanionSettings

if TYPE_CHECKING:
    from training.companions.running.companion import Companion
    from training.engine.interface import Engine


class Momentum(CompanionSettings):
    """Gives `<name>.image` and `<name>.text` of the rows and groups, as a teacher does (ALBEF's soft targets), and the
    `queue` pairs before this step as `<name>.queue/image`, `/text`, `/id`: further rivals for `queue: <name>` of a
    contrastive term. Pairs that are in the step are left out of its queue, and masked ones never enter it.

    Each rank holds the towers whole, so ZeRO-3 is refused; the queue is shared out, in the order of the pairs."""

    kind: Literal["momentum"] = "momentum"
    decay: float = Field(0.995, ge=0.0, lt=1.0, description="of one optimizer step")
    queue: int = Field(0, ge=0, le=1 << 24, description="pairs, over all ranks")

    def gives(self) -> frozenset[str]:
        queue = {f"{self.called}.queue/{name}" for name in ("image", "text", "id")} if self.queue else set()
        return frozenset({f"{self.called}.image", f"{self.called}.text", *queue})

    def build(self, engine: "Engine", seed: int) -> "Companion":
        from training.companions.running.following import Following

        return Following(self.called, self.decay, self.queue, engine)
