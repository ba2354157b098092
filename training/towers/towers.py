"""The image and text towers, built by open_clip; the only file that imports it.

The two towers are proper submodules called through their own `forward`, also for configs whose native open_clip class
keeps the text parameters at its root: ZeRO-3 gathers parameters on module hooks, which only fire on such calls.
`native_state_dict` maps back to open_clip's own names.

Shape letters: N rows, C channels, H and W pixels, L tokens, D embedding width.
"""

import copy
from collections.abc import Mapping
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from training.towers.settings import Triple
from training.towers.tokenizer import Tokenizer

# The text tower's parameters as the native open_clip CLIP class keeps them at its root.
_ROOT_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
_RESIZE = {"shortest": "shortest", "squash": "squash", "pad": "longest"}


class Towers(nn.Module):
    """Features of images and texts. Parameters: `image.*`, `text.*`, `log_scale` [1] and, for some losses, `bias` [1].

    Call it as a module, `towers(images, tokens)`, never a method of a part. `log_scale` is the logarithm of the logit
    scale; it and `bias` have shape [1] because a 0-dim parameter breaks DeepSpeed's start-up broadcast over gloo.
    """

    def __init__(
        self, model: Any, config: dict[str, Any], tokenize: Tokenizer, mean: Triple, std: Triple, bias: bool
    ) -> None:
        """`model`: an open_clip CustomTextCLIP built from `config`; its towers are taken over, not copied."""
        super().__init__()
        self.config, self.tokenize, self.mean, self.std = config, tokenize, mean, std
        self.image: nn.Module = model.visual
        self.text: nn.Module = model.text
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
        """The content of open_clip_config.json: {"model_cfg", "preprocess_cfg"}; arguments as in ImageSettings.

        `background`, of transparent pictures, is a word of ours: open_clip looks at the other two."""
        preprocess = {
            "size": [self.image_size, self.image_size],
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bicubic",
            "resize_mode": _RESIZE[resize],
            "fill_color": 255 if background == "white" else 0,
        }
        return {"model_cfg": self._native_config(), "preprocess_cfg": preprocess, "background": background}

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


def _custom_text(config: dict[str, Any]) -> bool:
    """Whether open_clip itself would build CustomTextCLIP rather than CLIP."""
    return bool(config.get("custom_text")) or "hf_model_name" in config["text_cfg"]


def _unit(features_ND: torch.Tensor) -> torch.Tensor:
    with torch.autocast(features_ND.device.type, enabled=False):
        return F.normalize(features_ND.float(), dim=-1)
