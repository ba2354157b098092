"""What open_clip's CoCa (Yu et al., 2022) has beside two towers: a decoder that writes a text from a picture.

Letters: N rows, Q queries of a picture, L tokens of a text, W width, V words of the vocabulary. Imports no torch.
"""

from typing import TYPE_CHECKING, Any

from pipeline.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

WHERE, SECTION = "train.model.config", "multimodal_cfg"
CAPTIONS = "caption_logits"  # an output of the towers, made of the two below
SEEN, READ = "seen", "read"  # what the image tower says of a picture in Q vectors, the text tower of each token


def has_decoder(config: dict[str, Any]) -> bool:
    return SECTION in config


def completed(config: dict[str, Any]) -> None:
    """Writes into the config of a CoCa what open_clip's own entry points have to find there."""
    config["custom_text"] = True
    for section in ("vision_cfg", "text_cfg"):
        config[section]["output_tokens"] = True
    config[SECTION]["context_length"] = config["text_cfg"].get("context_length", 77)


def check_coca(config: dict[str, Any]) -> None:
    """RecipeError for a CoCa that open_clip builds and that fails in its first forward, or learns to copy."""
    vision, text, decoder = config["vision_cfg"], config["text_cfg"], config[SECTION]
    for key in ("hf_model_name", "hf_tokenizer_name", "no_causal_mask", "pad_id"):
        if text.get(key):
            expected = "a causal text transformer of open_clip's own, whose tokenizer pads with 0"
            raise RecipeError(f"{WHERE}.text_cfg.{key}", f"found {text[key]!r} with a text decoder", expected)
    if vision.get("timm_model_name") or isinstance(vision.get("layers"), (list, tuple)):
        expected = "open_clip's own VisionTransformer: others give the decoder no tokens"
        raise RecipeError(f"{WHERE}.vision_cfg", "is of timm or a ResNet, with a text decoder", expected)
    width, heads = (decoder.get(key, default) for key, default in (("width", 512), ("heads", 8)))
    if width % heads:
        raise RecipeError(f"{WHERE}.{SECTION}.heads", f"found {heads}", f"a divisor of its width {width}")
    seen = ("vision_cfg.width", vision.get("width", 768))
    if vision.get("attentional_pool"):
        seen = ("embed_dim", config["embed_dim"])
    for name, read in (("text_cfg.width", text.get("width", 512)), seen):
        if read != width:
            expected = f"{name}, {read}: the decoder reads it as it is"
            raise RecipeError(f"{WHERE}.{SECTION}.width", f"found {width}", expected, f"width: {read}")


def draw_head(model: Any) -> None:
    """The decoder's last layer, drawn: open_clip leaves it as the memory was."""
    from torch import nn

    nn.init.normal_(model.text_decoder.text_projection, std=model.text_decoder.width**-0.5)


def caption_logits(decoder: Any, seen_NQW: "Tensor", read_NLW: "Tensor") -> "Tensor":
    """[N, L - 1, V]: at each token but the last what is said next, given the picture and the text so far."""
    return decoder(seen_NQW, read_NLW[:, :-1]).float()
