"""What a checkpoint keeps of the reader (under 1 KB) and the digest that proves which pairs a step saw.

Order is a function, so the state is only the function's arguments and the step; resuming seeks, nothing is replayed.
"""

from pipeline.errors import DataError
from pipeline.settings import Settings


class ReaderState(Settings):
    """The arguments of the order. `step` is the next step to read; the rest may never change within a run."""

    data: str  # digest of the datasets, in the order of the recipe
    pairs: int
    seed: int
    global_batch: int
    lanes: int
    window: int
    step: int
    stored: str | None = None  # digest of the reinforced sets that are replayed
    drawn: int | None = None  # pairs drawn by the steps before; None (older checkpoints): step x global_batch

    @property
    def pairs_drawn(self) -> int:
        return self.step * self.global_batch if self.drawn is None else self.drawn


_HINTS = {
    "stored": "put the reinforced set back, and train.companions, or start a new run with another train.output",
    "data": "give `train.data` the same datasets as before, or start a new run with another train.output",
    "pairs": "give `train.data` the same datasets as before, or start a new run with another train.output",
    "seed": "seed={saved}",
    "global_batch": "train.batch.global={saved}",
    "lanes": "train.reader.lanes={saved}",
    "window": "train.reader.window={saved}",
}


def check_state(saved: ReaderState, current: ReaderState, new_stage: bool = False) -> None:
    """DataError if resuming with `current` would not go on with the order of `saved`; the step may differ.

    At the start of a stage (`new_stage`) the global batch may, too: as many pairs must have been drawn before."""
    for name, hint in _HINTS.items():
        before, now = getattr(saved, name), getattr(current, name)
        if before != now and not (new_stage and name == "global_batch"):
            expected = f"the checkpoint was made with {name} {before}; going on would repeat and lose pairs"
            raise DataError("reader state", f"{name} is {now}", expected, hint.format(saved=before))
    if current.step == saved.step and saved.pairs_drawn != current.pairs_drawn:
        found, expected = f"{current.pairs_drawn} pairs before step {current.step}", f"{saved.pairs_drawn} were drawn"
        raise DataError("reader state", found, expected, "give the stages that are done the batches they had")
