"""Scores of a teacher, or of the model as it was: CLIP distillation (CLIP-KD and MobileCLIP, 2024), Mod-X (2023)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.costs import StepSizes, TargetCost
from training.terms.targets.settings import TargetSettings

if TYPE_CHECKING:
    from training.terms.cores.step import Step
    from training.terms.cores.targets import Spread


class Teacher(TargetSettings):
    """The target of an image is the softmax of the teacher's scores of it with all texts, that of a text likewise; in
    the sigmoid core the answer is their sigmoid. `row_fields[image]` (rows, and the queue) and `text_fields[text]` are
    the teacher's vectors, of any width, normalised if they are to be. What a row's own texts are given they share
    alike."""

    kind: Literal["teacher"] = "teacher"
    image: str = Field("teacher.image", description="name of the teacher's vectors among the fields of rows")
    text: str = Field("teacher.text", description="name of the teacher's vectors among the fields of texts")
    scale: float = Field(100.0, gt=0.0, description="of the teacher's scores, not its logarithm")
    bias: float = Field(0.0, description="added to the teacher's scores (sigmoid)")
    share: float = Field(1.0, gt=0.0, le=1.0, description="share of this target; the rest is the pair's own")

    @property
    def names(self) -> tuple[tuple[Literal["rows", "texts"], str], ...]:
        return (("rows", self.image), ("texts", self.text))

    def costs(self, at: StepSizes) -> TargetCost:
        return TargetCost(spread=True, soft=(at.width(self.text),))

    def spread(self, step: "Step") -> "Spread | None":
        from training.terms.targets.asked import row_field, text_field
        from training.terms.targets.soft import soft

        row_RF = row_field(step, self.image, "teacher", queued=True)
        return soft(step, row_RF, text_field(step, self.text, "teacher"), self.scale, self.bias, self.share)
