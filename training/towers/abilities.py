"""What some towers give beside one feature of a picture and of a text, told from their config alone: without torch."""

from typing import Any

from pipeline.errors import RecipeError
from training.towers.outputs.coca import has_decoder

WHERE = "train.model"


def check_able(config: dict[str, Any], asked: frozenset[str]) -> None:
    """RecipeError unless towers of open_clip's model_cfg `config` have what terms ask (`Wanted.towers`)."""
    if has_decoder(config) != ("captions" in asked):
        have, lack = ("a text decoder", "no term to train it") if has_decoder(config) else ("no text decoder", "a term")
        found, expected = f"a model with {have}, and {lack}", "a CoCa and a term `caption`, or neither"
        hint = "train.model.name=coca_ViT-B-32 train.loss='[{kind: softmax}, {kind: caption, weight: 2}]'"
        raise RecipeError(WHERE, found, expected, hint)
    reason = _no_tokens(config) if "tokens" in asked else None
    if reason:
        expected = "for a term that compares tokens: open_clip's own VisionTransformer and text transformer"
        raise RecipeError(WHERE, reason, expected, "train.model.name=ViT-B-32, or leave the term out of train.loss")


def _no_tokens(config: dict[str, Any]) -> str | None:
    """Why these towers have no patches and words in the space of their features; None: they do."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if vision.get("timm_model_name"):
        return f"the image tower is timm's {vision['timm_model_name']}"
    if isinstance(vision.get("layers"), (list, tuple)):
        return "the image tower is a ResNet"
    if vision.get("attentional_pool"):
        return "the image tower pools by attention, behind which no token is a patch"
    if text.get("hf_model_name"):
        return f"the text tower is Hugging Face's {text['hf_model_name']}"
    if text.get("hf_tokenizer_name"):
        return f"the tokenizer is Hugging Face's {text['hf_tokenizer_name']}, whose padding no tower knows"
    if text.get("embed_cls"):
        return "the text tower has a class token, and no projection of its words"
    return None
