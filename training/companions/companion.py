"""A companion as a recipe names it: it looks at each step, and may add columns to it, but is not trained."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.settings import Settings

if TYPE_CHECKING:
    from training.companions.running.companion import Companion
    from training.engine.interface import Engine
    from training.reader.stored.asked import StoredSet


class CompanionSettings(Settings):
    """`name`: in checkpoints, and before the columns it gives."""

    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]*$", description="default: the kind")

    @property
    def called(self) -> str:
        return self.name or str(type(self).model_fields["kind"].default)

    def gives(self) -> frozenset[str]:
        """Columns, by their names within a group."""
        return frozenset()

    def of_reader(self) -> "StoredSet | None":
        """What the reader has to replay and to hand over for it."""
        return None

    @abstractmethod
    def build(self, engine: "Engine", seed: int) -> "Companion":
        """As it is at the start, with the engine's weights as they are now. Torch is imported there, not before."""
