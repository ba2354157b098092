"""A state dict made to fit towers of another picture size or text length; anything else is refused with a reason."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.errors import RecipeError
from training.surgery.positions import Stretch, resized_grid, stretched

State = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

_GRIDS = ("image.positional_embedding", "image.attnpool.positional_embedding")  # open_clip's ViT and ResNet: [P, D]
_TIMM_GRIDS = ("image.trunk.pos_embed",)  # [1, P, D]
_TEXTS = ("text.positional_embedding",)  # [L, D]
_CLASS = "text.cls_emb"  # CoCa's class token stands behind the text, whatever its length
_PATCHES = ("image.conv1.weight", "image.trunk.patch_embed.proj.weight")


def fitted(state: State, shapes: Shapes, mode: Stretch = "keep_first") -> dict[str, Tensor]:
    """`state` (names as in Towers) with position embeddings resized to `shapes`; all other tensors are the very same.

    RecipeError: other names, another patch size, vocabulary or width, or a size that no rule here reaches.
    """
    lacking, foreign = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    if lacking or foreign:
        found = f"{len(lacking)} tensors are missing {lacking[:3]} and {len(foreign)} are of no use {foreign[:3]}"
        raise RecipeError("model surgery", found, "the same towers in another size")
    return {name: _fitted(name, state, tuple(shapes[name]), mode) for name in shapes}


def beside_towers(name: str) -> bool:
    """Whether a tensor belongs to the loss and to no tower: a scalar, or a head. A stage with another loss may have
    others: new ones begin as they would in a run of their own."""
    return "." not in name or name.startswith("heads.")


def can_fit(shapes: Shapes, wanted: Shapes) -> None:
    """RecipeError unless a state of `shapes` can be made one of `wanted`, what a loss has beside the towers apart.
    Looks at shapes alone."""
    import torch

    had, asked = ({n: shape for n, shape in each.items() if not beside_towers(n)} for each in (shapes, wanted))
    fitted({name: torch.empty(shape, device="meta") for name, shape in had.items()}, asked)


def moment_of(kind: str, moment: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What an optimizer keeps of a resized parameter: squares at their mean over the positions, which keeps the step's
    size (interpolated ones may be negative, zeros would make the first steps huge); all else zero."""
    if not kind.endswith("_sq"):
        return moment.new_zeros(shape)
    return moment.flatten(end_dim=-2).mean(0).expand(shape).clone()


def _fitted(name: str, state: State, shape: tuple[int, ...], mode: Stretch) -> Tensor:
    tensor = state[name]
    if tuple(tensor.shape) == shape:
        return tensor
    if tensor.ndim != len(shape) or tensor.shape[-1] != shape[-1] or not _is_positions(name):
        raise RecipeError("model surgery", f"{name} is {_words(tensor.shape)}", f"{_words(shape)}", _why(name))
    if name in _GRIDS:
        return resized_grid(tensor, shape[0])
    if name in _TIMM_GRIDS:
        return resized_grid(tensor[0], shape[1])[None]
    if _CLASS in state:
        return _with_last(tensor, shape[0], mode)
    return stretched(tensor, shape[0], mode)


def _with_last(tensor: Tensor, wanted: int, mode: Stretch) -> Tensor:
    from torch import cat

    return cat([stretched(tensor[:-1], wanted - 1, mode), tensor[-1:]])


def _is_positions(name: str) -> bool:
    return name in (*_GRIDS, *_TIMM_GRIDS, *_TEXTS)


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _why(name: str) -> str:
    if name in _PATCHES:
        return "another patch size makes other tokens of a picture: train such towers anew"
    if "token_embedding" in name or "word_embeddings" in name:
        return "the vocabulary is kept: use the tokenizer the towers were trained with"
    return "only position embeddings can be made to fit another image_size or context_length"
