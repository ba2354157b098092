"""open_clip's model_cfg, from a name or from the recipe, completed with what the settings say."""

import copy
from typing import Any

import open_clip

from pipeline.errors import RecipeError, one_line
from training.towers.outputs.coca import check_coca, completed, has_decoder
from training.towers.settings import ModelSettings

WHERE = "train.model"


def model_config(settings: ModelSettings) -> dict[str, Any]:
    """open_clip's model_cfg, completed with what the settings say; never asks open_clip to download base weights."""
    config: dict[str, Any] = _named_config(settings.name) if settings.name else copy.deepcopy(settings.config or {})
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if missing:
        expected = "expected open_clip's model_cfg (embed_dim, vision_cfg, text_cfg)"
        raise RecipeError(f"{WHERE}.config", f"has no {', '.join(missing)}", expected)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if settings.patch_dropout:
        vision["patch_dropout"] = settings.patch_dropout
    if not 0 <= vision.get("patch_dropout", 0) < 1:
        where = f"{WHERE}.config.vision_cfg.patch_dropout"
        raise RecipeError(where, f"found {vision['patch_dropout']}", "from 0 to less than 1", "patch_dropout: 0.5")
    size = settings.image_size or vision.get("image_size", 224)
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise RecipeError(f"{WHERE}.image_size", f"found {size}", "expected a square")
    vision["image_size"] = sides.pop()
    if settings.context_length is not None:
        text["context_length"] = settings.context_length
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    if has_decoder(config):
        check_coca(config)
        completed(config)
    return config


def _named_config(name: str) -> dict[str, Any]:
    try:
        config = open_clip.get_model_config(name)
    except Exception as error:  # a hub name without a network
        hint = "name a built-in open_clip model or local-dir:FOLDER"
        raise RecipeError(f"{WHERE}.name", f"{name!r}: {one_line(error)}", "", hint) from None
    if config is None:
        hint = "python -c 'import open_clip; print(open_clip.list_models())' lists the names"
        raise RecipeError(f"{WHERE}.name", f"open_clip knows no model {name!r}", "", hint)
    return config
