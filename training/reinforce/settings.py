"""The `reinforce` section of a recipe: which teachers look at which views of a finished dataset."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.contract.reinforced.manifest import MAX_VIEWS, NAME
from pipeline.settings import PathText, Settings
from training.reader.images import ImageSettings
from training.towers.settings import ModelSettings

Name = Annotated[str, Field(pattern=NAME)]


class Source(Settings):
    """A teacher. `model`: as `train.model`, with `pretrained` weights (of open_clip, or of `clipmill export`); or
    `checkpoint`: the output folder of a clipmill run, or of one of its steps."""

    name: Name = "teacher"
    model: ModelSettings | None = None
    checkpoint: PathText | None = None

    @model_validator(mode="after")
    def _has_weights(self) -> "Source":
        if self.checkpoint is None and (self.model is None or self.model.pretrained is None):
            raise ValueError("a teacher needs weights; expected `checkpoint`, or `model` with `pretrained`")
        return self


class ReinforceSettings(Settings):
    """Writes <data>/reinforced/<set> for each dataset: of each pair `views` views of its picture, augmented as `image`
    says by draws keyed by (seed, view, uid), and the teachers' vectors for them and for all captions of the pair.

    `negatives`: vectors of hard negatives, too. `precision`: what the teachers compute in. `batch`: pictures and texts
    that a teacher is given at a time. `fresh`: an earlier set of this name is removed.
    """

    data: list[PathText] = Field(min_length=1)
    set: Name
    views: int = Field(1, ge=1, le=MAX_VIEWS)
    image: ImageSettings = ImageSettings()
    teachers: list[Source] = Field(min_length=1, max_length=16)
    negatives: bool = False
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    precision: Literal["fp32", "bf16"] = "fp32"
    batch: int = Field(64, ge=1, le=1 << 20)
    threads: int = Field(4, ge=1, le=1024, description="that decode, of each process")
    fresh: bool = False

    @model_validator(mode="after")
    def _checked(self) -> "ReinforceSettings":
        names = [one.name for one in self.teachers]
        if len({*names}) != len(names):
            raise ValueError(f"two teachers share a name: {names}")
        still = self.image.crop_scale[0] == 1 and not self.image.flip
        if self.views > 1 and still:
            raise ValueError(
                "image crops and mirrors nothing, so all views are one; expected `views: 1`, or `crop_scale`"
            )
        return self
