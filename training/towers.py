"""The image and text towers, built by open_clip; the only file that imports it.

The two towers are proper submodules called through their own `forward`, also for configs whose native open_clip class
keeps the text parameters at its root: ZeRO-3 gathers parameters on module hooks, which only fire on such calls.
`native_state_dict` maps back to open_clip's own names.

Shape letters: N rows, C channels, H and W pixels, L tokens, D embedding width.
"""

import copy
import os
from collections.abc import Mapping
from typing import Annotated, Any

import open_clip
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from pipeline.errors import RecipeError
from pipeline.settings import Settings

Triple = tuple[float, float, float]
_WHERE = "train.model"
# The text tower's parameters as the native open_clip CLIP class keeps them at its root.
_ROOT_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
_RESIZE = {"shortest": "shortest", "squash": "squash", "pad": "longest"}


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


class Tokenizer:
    """Texts to tokens; picklable, so that reading processes may hold it."""

    def __init__(self, settings: ModelSettings) -> None:
        config = _model_config(settings)
        text = config["text_cfg"]
        self.context_length: int = text.get("context_length", 77)
        vocabulary = text.get("vocab_size", 49408)
        try:
            if settings.name is not None:
                self._encode = open_clip.get_tokenizer(settings.name, context_length=self.context_length)
            elif text.get("hf_tokenizer_name"):
                options = {"tokenizer_mode": text.get("tokenizer_mode"), **text.get("tokenizer_kwargs", {})}
                self._encode = open_clip.HFTokenizer(
                    text["hf_tokenizer_name"], context_length=self.context_length, **options
                )
            else:
                self._encode = open_clip.SimpleTokenizer(
                    context_length=self.context_length, **text.get("tokenizer_kwargs", {})
                )
        except Exception as error:  # anything from a hub client, a missing package or an unreachable host
            hint = "use a model with open_clip's own tokenizer, or name a local folder that holds the tokenizer's files"
            raise RecipeError(f"{_WHERE}: tokenizer", f"cannot be loaded: {_one_line(error)}", "", hint) from None
        own = getattr(self._encode, "vocab_size", None)
        if own is not None and own > vocabulary:
            expected = f"this tokenizer makes token numbers up to {own - 1}"
            raise RecipeError(
                f"{_WHERE}.config.text_cfg.vocab_size", f"found {vocabulary}", expected, f"vocab_size: {own}"
            )

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """int64 [N, context_length], cut to the context length."""
        if not texts:
            return torch.zeros(0, self.context_length, dtype=torch.int64)
        return self._encode(texts)


class Towers(nn.Module):
    """Features of images and texts. Parameters: `image.*`, `text.*`, `log_scale` [1] and, for some losses, `bias` [1].

    Call it as a module, `towers(images, tokens)`, never a method of a part. `log_scale` is the logarithm of the logit
    scale; it and `bias` have shape [1] because a 0-dim parameter breaks DeepSpeed's start-up broadcast over gloo.
    """

    def __init__(
        self, model: nn.Module, config: dict[str, Any], tokenize: Tokenizer, mean: Triple, std: Triple, bias: bool
    ) -> None:
        """`model`: an open_clip CustomTextCLIP built from `config`; its towers are taken over, not copied."""
        super().__init__()
        self.config, self.tokenize, self.mean, self.std = config, tokenize, mean, std
        self.image, self.text = model.visual, model.text
        self.log_scale = nn.Parameter(model.logit_scale.detach().reshape(1).float())
        self.bias = nn.Parameter(model.logit_bias.detach().reshape(1).float()) if bias else None
        self.image_size: int = config["vision_cfg"]["image_size"]
        self.embed_dim: int = config["embed_dim"]
        # Not buffers: an engine that casts the module to bf16 would round them.
        self._mean_C11 = torch.tensor(mean).view(3, 1, 1) * 255
        self._std_C11 = torch.tensor(std).view(3, 1, 1) * 255

    @property
    def context_length(self) -> int:
        return self.tokenize.context_length

    def forward(
        self, images_NCHW: torch.Tensor | None = None, tokens_NL: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(image_ND, text_ND): fp32, L2-normalised in fp32 whatever the towers compute in.

        `images_NCHW` uint8 (normalised here), `tokens_NL` int64; a None input gives a None output.
        """
        image_ND = text_ND = None
        if images_NCHW is not None:
            image_ND = _unit(self.image(self._pixels(images_NCHW)))
        if tokens_NL is not None:
            text_ND = _unit(self.text(tokens_NL))
        return image_ND, text_ND

    def _pixels(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Normalised in fp32, in the dtype that the image tower's parameters have."""
        if self._mean_C11.device != images_NCHW.device:
            self._mean_C11, self._std_C11 = self._mean_C11.to(images_NCHW.device), self._std_C11.to(images_NCHW.device)
        dtype = next(self.image.parameters()).dtype
        return ((images_NCHW.float() - self._mean_C11) / self._std_C11).to(dtype)

    def native_state_dict(self, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """`state` (default: own) under open_clip's native names; logit_scale and logit_bias are 0-dim as there."""
        native = {}
        for name, tensor in (self.state_dict() if state is None else state).items():
            scalar = (
                tensor
                if self.config.get("nonscalar_logit_scale")
                else tensor.reshape(())
                if tensor.numel() == 1
                else tensor
            )
            if name == "log_scale":
                native["logit_scale"] = scalar
            elif name == "bias":
                native["logit_bias"] = scalar
            else:
                native[native_name(name, _custom_text(self.config))] = tensor
        return native

    def open_clip_model(self, state: Mapping[str, torch.Tensor] | None = None) -> nn.Module:
        """A fresh open_clip model of the native class, in eval mode, holding a copy of these weights on the CPU."""
        arguments = {key: value for key, value in self._native_config().items() if key != "custom_text"}
        model = (open_clip.CustomTextCLIP if _custom_text(self.config) else open_clip.CLIP)(**arguments)
        model.load_state_dict(
            {name: tensor.detach().cpu().float() for name, tensor in self.native_state_dict(state).items()}
        )
        return model.eval()

    def open_clip_config(self, resize: str = "shortest", background: str = "white") -> dict[str, Any]:
        """The content of open_clip_config.json: {"model_cfg", "preprocess_cfg"}; arguments as in ImageSettings."""
        preprocess = {
            "size": [self.image_size, self.image_size],
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bicubic",
            "resize_mode": _RESIZE[resize],
            "fill_color": 255 if background == "white" else 0,
        }
        return {"model_cfg": self._native_config(), "preprocess_cfg": preprocess}

    def _native_config(self) -> dict[str, Any]:
        config = copy.deepcopy(self.config)
        config.pop("init_logit_bias", None)
        if self.bias is not None:
            config["init_logit_bias"] = self.config["init_logit_bias"]
        return config


def native_name(name: str, custom_text: bool) -> str:
    """open_clip's name of the parameter or buffer `name` of Towers."""
    tower, _, rest = name.partition(".")
    if tower == "image":
        return f"visual.{rest}"
    if tower == "text":
        return f"text.{rest}" if custom_text or not rest.startswith(_ROOT_TEXT) else rest
    return {"log_scale": "logit_scale", "bias": "logit_bias"}[name]


def build_towers(settings: ModelSettings, seed: int = 0, *, init_bias: float | None = None) -> Towers:
    """Towers with weights drawn from `seed`, the same on every rank, or pretrained.

    `init_bias`: the loss wants a bias, which starts at the config's init_logit_bias or else here; None: no bias.
    RecipeError: unknown model, wrong config, weights or tokenizer that cannot be had (this machine may be offline).
    """
    config = _model_config(settings)
    if init_bias is not None:
        config.setdefault("init_logit_bias", init_bias)
    tokenize = Tokenizer(settings)
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = open_clip.CustomTextCLIP(**copy.deepcopy(arguments))
        except (TypeError, ValueError, AssertionError, KeyError, RuntimeError, OSError) as error:
            hint = "compare with a config of open_clip (open_clip.get_model_config)"
            raise RecipeError(_WHERE, f"open_clip cannot build it: {_one_line(error)}", "", hint) from None
    tag = _load_pretrained(model, settings) if settings.pretrained else {}
    mean = settings.mean or tuple(tag.get("mean") or open_clip.OPENAI_DATASET_MEAN)
    std = settings.std or tuple(tag.get("std") or open_clip.OPENAI_DATASET_STD)
    towers = Towers(model, config, tokenize, mean, std, bias=init_bias is not None)
    for tower, locked in ((towers.image, settings.lock_image), (towers.text, settings.lock_text)):
        if locked:
            tower.requires_grad_(False)
        elif settings.grad_checkpointing:
            tower.set_grad_checkpointing(True)
    return towers


def _model_config(settings: ModelSettings) -> dict[str, Any]:
    """open_clip's model_cfg, completed with what the settings say; never asks open_clip to download base weights."""
    config = copy.deepcopy(settings.config) if settings.name is None else _named_config(settings.name)
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if missing:
        expected = "expected open_clip's model_cfg (embed_dim, vision_cfg, text_cfg)"
        raise RecipeError(f"{_WHERE}.config", f"has no {', '.join(missing)}", expected)
    if "multimodal_cfg" in config:
        hint = "choose a model without multimodal_cfg"
        raise RecipeError(_WHERE, "is a CoCa model", "expected a contrastive model with two towers", hint)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if vision.get("patch_dropout"):
        where = f"{_WHERE}.config.vision_cfg.patch_dropout"
        raise RecipeError(where, f"found {vision['patch_dropout']}", "only 0 is supported yet", "patch_dropout: 0")
    size = settings.image_size or vision.get("image_size", 224)
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise RecipeError(f"{_WHERE}.image_size", f"found {size}", "expected a square")
    vision["image_size"] = sides.pop()
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    return config


def _named_config(name: str) -> dict[str, Any]:
    try:
        config = open_clip.get_model_config(name)
    except Exception as error:  # a hub name without a network
        hint = "name a built-in open_clip model or local-dir:FOLDER"
        raise RecipeError(f"{_WHERE}.name", f"{name!r}: {_one_line(error)}", "", hint) from None
    if config is None:
        hint = "python -c 'import open_clip; print(open_clip.list_models())' lists the names"
        raise RecipeError(f"{_WHERE}.name", f"open_clip knows no model {name!r}", "", hint)
    return config


def _load_pretrained(model: nn.Module, settings: ModelSettings) -> dict[str, Any]:
    """Loads a local checkpoint or an open_clip tag; returns the tag's pretrained_cfg ({} for a file)."""
    wanted, where = settings.pretrained, f"{_WHERE}.pretrained"
    tag = open_clip.get_pretrained_cfg(settings.name, wanted) if settings.name else {}
    path = wanted
    if not os.path.isfile(wanted):
        if not tag:
            known = open_clip.list_pretrained_tags_by_model(settings.name) if settings.name else []
            expected = f"expected a file or one of {', '.join(known)}" if known else "expected a file"
            raise RecipeError(where, f"{wanted!r} is no file and no tag of this model", expected)
        try:
            path = open_clip.download_pretrained(tag)
        except Exception as error:  # whatever the hub client raises without a network
            found = f"the weights {wanted!r} cannot be downloaded: {_one_line(error)}"
            raise RecipeError(where, found, "", "download them elsewhere and give the path of the file") from None
    try:
        open_clip.load_checkpoint(model, path)
    except Exception as error:  # missing or unexpected keys, wrong shapes, not a checkpoint
        found = f"{path} does not fit this model: {_one_line(error)}"
        raise RecipeError(where, found, "expected weights of the same config") from None
    return tag or {}


def _custom_text(config: dict[str, Any]) -> bool:
    """Whether open_clip itself would build CustomTextCLIP rather than CLIP."""
    return bool(config.get("custom_text")) or "hf_model_name" in config["text_cfg"]


def _unit(features_ND: torch.Tensor) -> torch.Tensor:
    with torch.autocast(features_ND.device.type, enabled=False):
        return F.normalize(features_ND.float(), dim=-1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
