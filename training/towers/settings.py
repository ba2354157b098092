"""The `model` section of `train`: which towers."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.settings import Settings

Triple = tuple[float, float, float]


class ModelSettings(Settings):
    """Exactly one of `name` (any open_clip contrastive model) and `config` (open_clip's model_cfg, inline).

    `pretrained`: one of the model's open_clip tags, or a local checkpoint file. `image_size`: default is the config's.
    `mean`, `std`: of pixels in [0, 1]; default is the pretrained tag's, else OpenAI's.
    `lock_image`, `lock_text`: keep a pretrained tower as it is (locked tuning, LiT, Zhai et al. 2022).
    """

    name: str | None = None
    config: dict[str, Any] | None = None
    pretrained: str | None = None
    image_size: Annotated[int, Field(gt=0)] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    patch_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lock_image: bool = False
    lock_text: bool = False
    grad_checkpointing: bool = False

    @model_validator(mode="after")
    def _checked(self) -> "ModelSettings":
        if (self.name is None) == (self.config is None):
            raise ValueError("give exactly one of `name` (an open_clip model) and `config` (open_clip's model_cfg)")
        if self.patch_dropout:
            why = "open_clip draws its masks without a key: the two passes of a cached step would see other patches"
            raise ValueError(f"patch_dropout must be 0 for now, {why}")
        return self
