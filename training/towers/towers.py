"""The image and text towers, built by open_clip; the only file that imports it.

The two towers are proper submodules called through their own `forward`, also for configs whose native open_clip class
keeps the text parameters at its root: ZeRO-3 gathers parameters on module hooks, which only fire on such calls.
`native_state_dict` maps back to open_clip's own names.

Shape letters: N rows, C channels, H and W pixels, P patches, L tokens, D embedding width.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.rows import Rows, base_of, group_of, named
from training.towers.outputs.coca import CAPTIONS, READ, SEEN, caption_logits, has_decoder
from training.towers.outputs.heads import PREFIX
from training.towers.outputs.tokens import PATCHES, WORD_MASK, WORDS, project_tokens, with_tokens, word_mask
from training.towers.patches import keyed_in, masked_keys, view_keys
from training.towers.settings import Triple
from training.towers.tokenizer import Tokenizer
from training.wanted import FIXED, LOG_SCALE, Scalar

# The text tower's parameters as the native open_clip CLIP class keeps them at its root.
_ROOT_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
_NATIVE_SCALARS = {"log_scale": "logit_scale", "bias": "logit_bias"}
_RESIZE = {"shortest": "shortest", "squash": "squash", "pad": "longest"}


Encode = Callable[[Tensor, set[str]], Rows]
IMAGE, TOKENS = "image", "tokens"  # the columns that the towers eat
FEATURES = {IMAGE: "image", TOKENS: "text"}  # and what they give of each, heads apart
MASKED = "masked"  # an output: `image` of fewer patches


class Towers(nn.Module):
    """Features of images and texts. Parameters: `image.*`, `text.*`, CoCa's `decoder.*`, `heads.*` and scalars of shape
    [1], `log_scale` among them.

    Call it as a module, never a method of a part. `log_scale` is the logarithm of the logit scale. A 0-dim
    parameter would break DeepSpeed's start-up broadcast over gloo.
    """

    def __init__(
        self,
        model: Any,
        config: dict[str, Any],
        tokenize: Tokenizer,
        mean: Triple,
        std: Triple,
        scalars: Sequence[Scalar] = (LOG_SCALE,),
        heads: nn.ModuleDict | None = None,
        masked: float = 0.0,
    ) -> None:
        """`model`: an open_clip CustomTextCLIP or CoCa built from `config`; its towers are taken over, not copied.
        `masked`: share of the patches that the output of that name leaves out."""
        super().__init__()
        self.config, self.tokenize, self.mean, self.std = config, tokenize, mean, std
        self.image: nn.Module = model.visual
        self.text: nn.Module = model.text
        self.decoder: Any = getattr(model, "text_decoder", None)
        drops = keyed_in(model.visual)
        self._dropout, self._masked = [drops] if drops else [], masked  # in a list: a part of the tower alone
        self.heads = nn.ModuleDict() if heads is None else heads
        self._gives = {IMAGE: ("image", PATCHES, SEEN, *self.heads), TOKENS: ("text", WORDS, WORD_MASK, READ)}
        if self.decoder is None:  # which reads tokens as they are
            project_tokens(self.image, self.text)
        self.limits = {one.name: (one.low, one.high) for one in scalars if one.low > -math.inf or one.high < math.inf}
        self._scalars = tuple(scalar.name for scalar in scalars)
        given = {"log_scale": model.logit_scale, "bias": getattr(model, "logit_bias", None)}
        for scalar in scalars:
            start = given.get(scalar.name)
            value = torch.tensor([scalar.init]) if start is None else start.detach().reshape(1).float()
            self.register_parameter(scalar.name, nn.Parameter(value))
        self.image_size: int = config["vision_cfg"]["image_size"]
        self.embed_dim: int = config["embed_dim"]
        # Not buffers: an engine that casts the module to bf16 would round them.
        self._mean_C11 = torch.tensor(mean).view(3, 1, 1) * 255
        self._std_C11 = torch.tensor(std).view(3, 1, 1) * 255

    @property
    def context_length(self) -> int:
        return self.tokenize.context_length

    def scalars(self) -> dict[str, nn.Parameter]:
        """The trained numbers, by name."""
        return {name: self.get_parameter(name) for name in self._scalars}

    def forward(self, rows: Rows, want: frozenset[str] | None = None) -> Rows:
        """The outputs that `want` names (None: the features of what is there), fp32 whatever the towers compute in.

        Columns: `image` uint8 [N, C, H, W] (normalised here) and `tokens` int64 [N, L]; outputs: `image` and `text`,
        [N, D], L2-normalised in fp32. `GROUP/...` gives the same of the flat columns of a group; all that one tower
        has to do is done in one call. Heads give outputs of their names, of images, normalised too. `masked` is
        `image` without a share of the patches, in training, drawn apart from those that all of it may lose. Where rows
        bring their image features along (`FIXED`), the image tower does not run for them. `patches` [N, P, D] and
        `words` [N, L, D], each normalised, and `word_mask` [N, L] (`tokens.py`), `caption_logits` [N, L - 1, V] of the
        next token (`coca.py`): of towers that have them.
        """
        if want is None:
            want = frozenset(named(group_of(n), FEATURES[base_of(n)]) for n in rows if base_of(n) in FEATURES)
        given = {"image": rows[FIXED]} if FIXED in rows and "image" in want else {}
        need = want - {CAPTIONS} | {SEEN, READ} if CAPTIONS in want else want
        images = self._side(rows, need - {*given}, IMAGE, self._images) | self._masked_views(rows, want)
        found = given | images | self._side(rows, need, TOKENS, self._texts)
        if CAPTIONS in want:
            found[CAPTIONS] = caption_logits(self.decoder, found.pop(SEEN), found.pop(READ))
        return found

    def _masked_views(self, rows: Rows, want: frozenset[str]) -> Rows:
        """Image features of a second look at the same pictures, without a share of their patches."""
        names = {named(group_of(name), "image"): name for name in want if base_of(name) == MASKED}
        found = self._side(rows, frozenset(names), IMAGE, self._images, masked=True)
        return {names[name]: features for name, features in found.items()}

    def _side(self, rows: Rows, want: frozenset[str], column: str, encode: Encode, masked: bool = False) -> Rows:
        """One tower's outputs, of the rows and of all groups at once."""
        mine = {name for name in want if base_of(name) in self._gives[column]}
        if not mine:
            return {}
        groups = sorted({group_of(name) for name in mine})
        parts = [rows[named(group, column)] for group in groups]
        together = torch.cat(parts) if len(parts) > 1 else parts[0]
        if column == IMAGE and self._dropout and self.training:
            keys = torch.cat([_keys(rows, group) for group in groups])
            dropout = self._dropout[0]
            dropout.looked(*((masked_keys(keys), self._masked) if masked else (keys, dropout.share)))
        idle = len(together) == 0  # a tower is called all the same: ZeRO-3 gathers its parameters on every rank
        found = encode(together.new_zeros((1, *together.shape[1:])) if idle else together, {base_of(n) for n in mine})
        pieces = {base: whole[:0] if idle else whole for base, whole in found.items()}
        split = {base: whole.split([len(part) for part in parts]) for base, whole in pieces.items()}
        at = {group: number for number, group in enumerate(groups)}
        return {name: split[base_of(name)][at[group_of(name)]] for name in sorted(mine)}

    def _images(self, images_NCHW: Tensor, bases: set[str]) -> Rows:
        features_ND, tokens = with_tokens(self.image, self._pixels(images_NCHW), not bases.isdisjoint({PATCHES, SEEN}))
        found = {"image": _unit(features_ND)} if "image" in bases else {}
        found |= {PATCHES: _unit(tokens)} if PATCHES in bases else {SEEN: tokens} if SEEN in bases else {}
        return found | {name: _unit(head(features_ND)) for name, head in self.heads.items() if name in bases}

    def _texts(self, tokens_NL: Tensor, bases: set[str]) -> Rows:
        features_ND, tokens = with_tokens(self.text, tokens_NL, not bases.isdisjoint({WORDS, READ}))
        found = {"text": _unit(features_ND)} if "text" in bases else {}
        found |= {WORDS: _unit(tokens)} if WORDS in bases else {READ: tokens} if READ in bases else {}
        return found | ({WORD_MASK: word_mask(tokens_NL)} if WORD_MASK in bases else {})

    def _pixels(self, images_NCHW: Tensor) -> Tensor:
        """Normalised in fp32, in the dtype that the image tower's parameters have."""
        if self._mean_C11.device != images_NCHW.device:
            self._mean_C11, self._std_C11 = self._mean_C11.to(images_NCHW.device), self._std_C11.to(images_NCHW.device)
        dtype = next(self.image.parameters()).dtype
        return ((images_NCHW.float() - self._mean_C11) / self._std_C11).to(dtype)

    def native_state_dict(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
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
            if name in _NATIVE_SCALARS:
                native[_NATIVE_SCALARS[name]] = scalar
            elif name not in self._scalars and not name.startswith(PREFIX):  # those are of the training alone
                native[native_name(name, _custom_text(self.config))] = tensor
        return native

    def open_clip_model(self, state: Mapping[str, Tensor] | None = None) -> nn.Module:
        """A fresh open_clip model of the native class, in eval mode, holding a copy of these weights on the CPU."""
        arguments = {key: value for key, value in self._native_config().items() if key != "custom_text"}
        model = (open_clip_class(self.config) if _custom_text(self.config) else open_clip.CLIP)(**arguments)
        set_size(model, self.image_size)
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
        if "bias" in self._scalars:
            config["init_logit_bias"] = self.config["init_logit_bias"]
        return config


def _keys(rows: Rows, group: str) -> Tensor:
    """Of the pictures of a group: what draws inside the image tower are keyed by."""
    return view_keys(rows["key"], rows[named(group, "owner")]) if group else rows["key"]


def native_name(name: str, custom_text: bool) -> str:
    """open_clip's name of the parameter or buffer `name` of Towers."""
    tower, _, rest = name.partition(".")
    if tower == "image":
        return f"visual.{rest}"
    if tower == "decoder":
        return f"text_decoder.{rest}"
    if tower == "text":
        return f"text.{rest}" if custom_text or not rest.startswith(_ROOT_TEXT) else rest
    return _NATIVE_SCALARS[name]


def open_clip_class(config: dict[str, Any]) -> Any:
    """open_clip's class that keeps its text tower apart."""
    return open_clip.CoCa if has_decoder(config) else open_clip.CustomTextCLIP


def set_size(model: Any, size: int) -> None:
    """timm makes its towers for their own picture size, and open_clip leaves them so: their positions are resized here.

    Before a file is loaded, or these weights are, which have the positions of `size`; after a tag's weights, which have
    those of the tower."""
    trunk: Any = getattr(model.visual, "trunk", None)
    if not hasattr(trunk, "set_input_size"):
        return
    native = trunk.default_cfg.get("input_size", (3, size, size))[1:]
    if tuple(getattr(getattr(trunk, "patch_embed", None), "img_size", None) or native) != (size, size):
        model.visual.set_input_size(size)


def _custom_text(config: dict[str, Any]) -> bool:
    """Whether open_clip itself would build CustomTextCLIP rather than CLIP."""
    return bool(config.get("custom_text")) or "hf_model_name" in config["text_cfg"]


def _unit(features_ND: Tensor) -> Tensor:
    with torch.autocast(features_ND.device.type, enabled=False):
        return F.normalize(features_ND.float(), dim=-1)
