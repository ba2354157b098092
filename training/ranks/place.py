"""Where in a run a rank is, in words: for the message of a failure, and for whoever looks at a rank that hangs."""

from dataclasses import dataclass

PHASES = {
    "reader": "the reader",
    "pass1": "the forward (first pass)",
    "loss": "the loss",
    "pass2": "the second pass (forward and backward)",
    "optimizer": "the optimizer step",
    "log": "the log",
    "evaluation": "the evaluation",
    "save": "the save",
}


@dataclass
class Place:
    """Kept up to date by who does the work; costs an assignment a phase."""

    phase: str = "start"
    step: int | None = None

    def enter(self, phase: str, step: int | None = None) -> None:
        """`step`: from 0, where it is another than before."""
        self.phase = phase
        self.step = self.step if step is None else step

    def __str__(self) -> str:
        """Empty before the first step: what fails there fails on its own account."""
        if self.phase == "start" and self.step is None:
            return ""
        words = PHASES.get(self.phase, self.phase)
        return f"in {words}" if self.step is None else f"in {words} of step {self.step}"
