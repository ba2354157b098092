"""What of a reinforced set a run is to replay. Imports no torch: settings are read without it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredSet:
    """`teachers`: whose vectors become columns, under their names in the set.

    `locked`: the one of them that is this run's own image tower, which stays as it is: its vectors of the views are the
    image features, and no picture is opened.
    """

    name: str
    teachers: tuple[str, ...]
    locked: str | None = None

    def gives(self) -> frozenset[str]:
        return frozenset(f"{teacher}.{side}" for teacher in self.teachers for side in ("image", "text"))
