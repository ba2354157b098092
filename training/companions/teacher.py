"""A frozen model beside the one in training: a teacher (CLIP-KD, 2024), or the model as it was (Mod-X, 2023)."""

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from pipeline.settings import PathText
from training.companions.companion import CompanionSettings
from training.towers.settings import ModelSettings

if TYPE_CHECKING:
    from training.companions.running.companion import Companion
    from training.engine.interface import Engine


class Teacher(CompanionSettings):
    """Gives `<name>.image` and `<name>.text`, normalised, of any width, of rows and groups, as far as terms want them.

    `model`: as `train.model`, with `pretrained` weights; or `checkpoint`: the output folder of a clipmill run, or the
    folder of one of its steps, whose model is that of the recipe beside it unless `model` says. Each rank holds it
    whole, in fp32, and it sees the pixels of the batch: resized where its pictures are of another size. A teacher with
    another tokenizer reads the captions of the rows anew, and can give nothing of a group.
    """

    kind: Literal["teacher"] = "teacher"
    model: ModelSettings | None = None
    checkpoint: PathText | None = None

    @model_validator(mode="after")
    def _has_weights(self) -> "Teacher":
        if self.checkpoint is None and (self.model is None or self.model.pretrained is None):
            raise ValueError("a teacher needs weights; expected `checkpoint`, or `model` with `pretrained`")
        return self

    def gives(self) -> frozenset[str]:
        return frozenset({f"{self.called}.image", f"{self.called}.text"})

    def build(self, engine: "Engine", seed: int) -> "Companion":
        from training.companions.running.frozen import Frozen, same_tokens
        from training.companions.running.models import frozen_towers

        towers = frozen_towers(self.model, self.checkpoint, engine.peers)
        retold = None if same_tokens(towers.tokenize, engine.towers.tokenize) else towers.tokenize
        return Frozen(self.called, towers, engine, retold)
