"""The `model` section of `train`: which towers."""

import difflib
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, model_validator

from pipeline.errors import RecipeError
from pipeline.settings import PathText, Settings
from training.towers.known import known_config, known_fields, known_names
from training.towers.outputs.coca import SECTION, check_coca, has_decoder

Triple = tuple[float, float, float]
YOUNGER = ("context_length", "image_pretrained", "text_pretrained")
"""Fields that the first checkpoints' digests of a model do not know: left out of the digest where they say nothing."""
MOST = 1_000_000  # of any size in a model's config
_OF_CLASSES = ("timm_model_name", "hf_model_name")  # sizes are then what that library says
# open_clip's defaults, where a rule needs both of two sizes
_VISION = {"image_size": 224, "patch_size": 16, "width": 768, "head_width": 64, "layers": 12}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}


class ModelSettings(Settings):
    """Exactly one of `name` (any open_clip contrastive model, or CoCa) and `config` (open_clip's model_cfg, inline).

    `pretrained`: one of the model's open_clip tags, or a local checkpoint file. `image_size`, `context_length` (tokens
    of a text): default is the config's.
    `mean`, `std`: of pixels in [0, 1]; default is the pretrained tag's, else OpenAI's.
    `image_pretrained`, `text_pretrained`: the weights of one tower, from a file of a model whose tower is the same.
    `patch_dropout`: share of a picture's patches that training leaves out, by keyed draws (FLIP, Li et al. 2023).
    `lock_image`, `lock_text`: keep a pretrained tower as it is (locked tuning, LiT, Zhai et al. 2022); CoCa's decoder
    is trained in any case.
    """

    name: str | None = Field(None, min_length=1)
    config: dict[str, Any] | None = None
    pretrained: PathText | None = None
    image_pretrained: PathText | None = None
    text_pretrained: PathText | None = None
    image_size: Annotated[int, Field(gt=0, le=MOST)] | None = None
    context_length: Annotated[int, Field(ge=2, le=MOST)] | None = None
    mean: Triple | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    patch_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lock_image: bool = False
    lock_text: bool = False
    grad_checkpointing: bool = False

    @model_validator(mode="after")
    def _checked(self) -> "ModelSettings":
        if (self.name is None) == (self.config is None):
            raise ValueError("give exactly one of `name` (an open_clip model) and `config` (open_clip's model_cfg)")
        if self.config is not None:
            _check_config(self.config, self.image_size)
        elif self.name is not None:
            _check_name(self.name)
            named = known_config(self.name)
            if named and has_decoder(named):
                check_coca(named)
        return self

    def known(self) -> dict[str, Any] | None:
        """open_clip's model_cfg as far as it is known without torch; None of a name that only a hub knows."""
        return self.config if self.name is None else known_config(self.name)


def batch_norm_refused(found: str) -> RecipeError:
    """Why towers with batch normalisation are not trained: what it does depends on how a batch is cut."""
    expected = (
        "towers whose features are a function of the pair: it normalises by the other pairs of the chunk, so that"
        " another chunk or number of ranks is another loss, and its running statistics differ between ranks"
    )
    hint = "choose a ViT, ConvNeXt or Swin (layer normalisation), such as train.model.name=ViT-B-32"
    return RecipeError("train.model", found, expected, hint)


def check_trainable(settings: ModelSettings) -> None:
    """RecipeError for towers that open_clip's own config shows to have batch normalisation: its ResNets, whose layers
    are a list. Others are found when the towers are built."""
    config = settings.config or (known_config(settings.name) if settings.name else None) or {}
    if isinstance(config.get("vision_cfg", {}).get("layers"), (list, tuple)):
        raise batch_norm_refused(f"{settings.name or 'config'} is a ResNet with batch normalisation")


def _check_name(name: str) -> None:
    if ":" not in name and known_names() and known_config(name) is None:
        near = difflib.get_close_matches(name, known_names(), 1)
        raise ValueError(f"open_clip knows no model {name!r}" + (f"; did you mean `{near[0]}`?" if near else ""))


def _check_config(config: dict[str, Any], image_size: int | None) -> None:
    """ValueError for what open_clip would refuse when the towers are built, seconds later on every rank."""
    _whole(config, "embed_dim", "config")
    for section in ("vision_cfg", "text_cfg", *((SECTION,) if has_decoder(config) else ())):
        sizes = config.get(section)
        if not isinstance(sizes, dict):
            raise ValueError(f"config.{section} is {sizes!r}; expected a mapping")
        strange = sorted(set(sizes) - known_fields(section), key=str) if known_fields(section) else []
        if strange:
            near = difflib.get_close_matches(str(strange[0]), known_fields(section), 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"config.{section} has the unknown key {strange[0]!r}{hint}")
    vision, text = config["vision_cfg"], config["text_cfg"]
    if not set(_OF_CLASSES) & set(vision) and isinstance(vision.get("layers", 12), int):
        sizes = {key: _whole(vision, key, "config.vision_cfg", default) for key, default in _VISION.items()}
        side = image_size or sizes["image_size"]
        if side < sizes["patch_size"]:
            raise ValueError(f"image_size {side} is smaller than patch_size {sizes['patch_size']}")
        _divides("config.vision_cfg", "head_width", sizes["head_width"], sizes["width"])
    if not set(_OF_CLASSES) & set(text):
        sizes = {key: _whole(text, key, "config.text_cfg", default) for key, default in _TEXT.items()}
        _divides("config.text_cfg", "heads", sizes["heads"], sizes["width"])
    if has_decoder(config):
        decoder = config[SECTION]
        sizes = {key: _whole(decoder, key, f"config.{SECTION}", _TEXT[key]) for key in ("width", "heads", "layers")}
        check_coca(config)


def _whole(sizes: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = sizes.get(key, default)
    if (
        isinstance(value, (list, tuple)) and len(value) in (1, 2) and value[0] == value[-1]
    ):  # a square, as open_clip also writes it
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST:
        raise ValueError(f"{where}.{key} is {value!r}; expected a whole number from 1 to {MOST}")
    return value


def _divides(where: str, key: str, part: int, width: int) -> None:
    if width % part:
        raise ValueError(f"{where}.{key} {part} does not divide width {width}")
