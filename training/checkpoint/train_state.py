"""What a checkpoint holds besides tensors: state.json. Randomness needs no state here, every draw is keyed."""

import json
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.errors import DataError
from pipeline.settings import Settings
from training.reader.state import ReaderState


class Goodput(Settings):
    """Where the run's wall time went, over all its restarts; in seconds, as rank 0 saw it."""

    train_s: float = 0.0  # in steps whose result is in this checkpoint
    save_s: float = 0.0
    eval_s: float = 0.0
    start_s: float = 0.0  # from the start of the process to its first step
    restarts: int = 0

    def share(self) -> float:
        """Steps' share of all the time counted, 0 to 1."""
        total = self.train_s + self.save_s + self.eval_s + self.start_s
        return self.train_s / total if total else 0.0


class TrainState(Settings):
    """`step` steps are done. What may not change on resuming is in `reader` and `model`; the rest informs."""

    format_version: Literal[1] = 1
    step: int
    samples: int
    reader: ReaderState
    optimizer_steps: int
    nonfinite_steps: int = 0
    model: str  # digest of what shapes the model
    recipe_digest: str
    recipe: dict[str, Any] | None = None  # settings as they were resolved, and versions (`training.changes.kept`)
    schedule: dict[str, Any]
    lr: float | None = None  # learning rate of the last step
    engine: dict[str, Any]
    world: int
    tiles: dict[str, tuple[int, int]] = {}  # of terms with `tile: auto`: what was chosen, on a `tiled_on` device
    tiled_on: str | None = None
    save_cost_s: float | None = None  # measured; sets the next interval
    job: str | None = None  # the scheduler's job that wrote it; see `train.fresh`
    goodput: Goodput = Goodput()

    def as_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    @staticmethod
    def from_bytes(data: bytes, where: str) -> "TrainState":
        """DataError naming `where` for a newer format or anything that a save would not write."""
        try:
            content = json.loads(data)
            version = content.get("format_version")
        except (ValueError, AttributeError):
            raise DataError(where, "is not a JSON object", "the state that a save wrote") from None
        if isinstance(version, int) and version > 1:
            raise DataError(where, f"has format {version}", "this clipmill reads format 1", "update clipmill")
        try:
            return TrainState.model_validate(content)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            dotted = ".".join(str(word) for word in fault["loc"])
            raise DataError(where, f"{dotted}: {fault['msg']}", "the state that a save wrote") from None
