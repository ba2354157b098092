"""Teachers that looked before the run: dataset reinforcement (Faghri et al., 2023), MobileCLIP (Vasu et al., 2024)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from training.companions.companion import CompanionSettings
from training.reader.stored.asked import StoredSet

if TYPE_CHECKING:
    from training.companions.running.companion import Companion
    from training.engine.interface import Engine


class Stored(CompanionSettings):
    """Replays the views that `clipmill reinforce` has stored beside the shards, and gives `<teacher>.image` and
    `<teacher>.text` of rows and further texts, as a teacher at work would for the same pixels, rounded as they are
    stored. The views of a pair come in turn, from a drawn one, by epoch; `train.image` then crops and mirrors nothing.

    `locked`: the teacher of the set that is `train.model`'s own image tower. Where a stage locks that tower, the stored
    vectors are its features: no picture is opened, and the tower does not run.
    """

    kind: Literal["stored"] = "stored"
    set: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="the folder in <data>/reinforced")
    teachers: tuple[str, ...] = Field(("teacher",), description="whose vectors terms may want")
    locked: str | None = None

    @model_validator(mode="after")
    def _once_each(self) -> "Stored":
        if len({*self.teachers}) != len(self.teachers):
            raise ValueError(f"a teacher twice: {list(self.teachers)}")
        return self

    def of_reader(self) -> StoredSet:
        return StoredSet(self.set, self.teachers, self.locked)

    def gives(self) -> frozenset[str]:
        return self.of_reader().gives()

    def build(self, engine: "Engine", seed: int) -> "Companion":
        """Nothing is left to do in a step: the reader has handed over all columns."""
        from training.companions.running.companion import Companion

        made = Companion()
        made.name = self.called
        return made
