"""Images alike, or texts alike, are partly each other's answers: similarity within one modality (SoftCLIP, 2023)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.costs import StepSizes, TargetCost
from training.terms.targets.settings import TargetSettings

if TYPE_CHECKING:
    from training.terms.cores.step import Step
    from training.terms.cores.targets import Spread


class Similarity(TargetSettings):
    """The target of a row is the softmax of what its image (or first text) has in common with the images (or texts) of
    all, and of a text likewise. Of the towers' own features as they are, without a gradient through the target; or of
    stored vectors, `row_fields[field]` for images and `text_fields[field]` for texts. Of images: every text needs an
    owner. Of texts: there can be no queue."""

    kind: Literal["similarity"] = "similarity"
    of: Literal["image", "text"] = "image"
    field: str | None = Field(None, description="name of stored vectors; without it, the towers' own")
    scale: float = Field(10.0, gt=0.0, description="of the similarities, not its logarithm")
    bias: float = Field(0.0, description="added to the similarities (sigmoid)")
    share: float = Field(0.5, gt=0.0, le=1.0, description="share of this target; the rest is the pair's own")

    @property
    def names(self) -> tuple[tuple[Literal["rows", "texts"], str], ...]:
        side: Literal["rows", "texts"] = "rows" if self.of == "image" else "texts"
        return () if self.field is None else ((side, self.field),)

    def costs(self, at: StepSizes) -> TargetCost:
        return TargetCost(spread=True, soft=(at.width(self.field or self.of),))

    def spread(self, step: "Step") -> "Spread | None":
        import torch

        from pipeline.errors import DataError
        from training.terms.targets.asked import row_field, text_field
        from training.terms.targets.soft import soft

        if self.of == "image":
            if step.layout.owner_G is not None and bool((step.layout.owner_G < 0).any()):
                raise DataError("target similarity", "texts that are nobody's", "of: text, or no such texts")
            row_RF = step.row_RD if self.field is None else row_field(step, self.field, "similarity", queued=True)
            text_MF = row_RF[step.owner_M]
        else:
            if step.layout.rows > step.layout.pairs:
                raise DataError("target similarity", "a queue of images without texts", "of: image, or no queue")
            text_MF = step.texts if self.field is None else text_field(step, self.field, "similarity")
            row_RF = text_MF[: len(step.images)]
        return soft(step, row_RF.detach(), torch.as_tensor(text_MF), self.scale, self.bias, self.share)
