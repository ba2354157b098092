"""Which parameters move at which rate, and which decay: the groups an optimizer gets.

Under ZeRO each group is flattened and cut on its own, so a group with limits holds nothing that they must not touch.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pipeline.errors import RecipeError
from training.engine.optimizers.optimizer import Optimizer
from training.engine.update.depth import block_of, depths

if TYPE_CHECKING:
    from training.towers.towers import Towers

WHERE = "train.optimizer"

# By the parts of names in open_clip, timm and transformers.
_EMBEDDINGS = {
    "positions": {
        "positional_embedding", "pos_embed", "position_embeddings", "position_embedding", "embed_positions", "wpe",
        "relative_position_bias_table", "relative_attention_bias",
    },
    "class_tokens": {"class_embedding", "cls_token", "cls_emb", "reg_token", "dist_token"},
    "tokens": {"token_embedding", "word_embeddings", "embed_tokens", "wte", "shared", "token_type_embeddings"},
}  # fmt: skip


def groups_of(towers: "Towers", settings: Optimizer) -> list[dict[str, Any]]:
    """Groups of the trained parameters of `towers`: params, names, weight_decay, decays, lr_scale, limits, matrix.

    `limits` are the towers' own, of scalars. RecipeError: a prefix in `lr_scales` names no parameter, a tower of
    `layer_decay` has no blocks, or nothing is trained.
    """
    rates = _Rates(towers, settings)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in towers.named_parameters():
        rate = rates.of(name)
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not _embeds(name, settings.no_decay)
        hidden = block_of(name) is not None and not _embeds(name, _EMBEDDINGS)
        matrix = hidden and settings.is_matrix(tuple(parameter.shape))
        key = (decays, rate, towers.limits.get(name), matrix)
        made = {"params": [], "names": [], "weight_decay": settings.weight_decay if decays else 0.0, "decays": decays}
        made |= {"lr_scale": key[1], "limits": key[2], "matrix": matrix}
        group = groups.setdefault(key, made)
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise RecipeError("train.model", "every parameter is locked", "something to train", "unlock a tower")
    rates.all_used()
    return list(groups.values())


def _embeds(name: str, kinds: Iterable[str]) -> bool:
    parts = set(name.split("."))
    return any(parts & _EMBEDDINGS[kind] for kind in kinds)


class _Rates:
    """The factor on each parameter's learning rate."""

    def __init__(self, towers: "Towers", settings: Optimizer) -> None:
        self._scales, self._towers = settings.lr_scales, towers
        self._unused = set(settings.lr_scales)
        self._layers: dict[str, float] = {}
        for tower, decay in settings.layer_decay.items():
            names = [name for name, _ in towers.named_parameters() if name.startswith(f"{tower}.")]
            depth, blocks = depths(name.partition(".")[2] for name in names)
            if not blocks:
                where, found = f"{WHERE}.layer_decay.{tower}", f"no blocks among the {len(names)} parameters"
                expected = "a tower of numbered blocks"
                raise RecipeError(where, found, expected, f"use {WHERE}.lr_scales={{{tower}: 0.1}} instead")
            self._layers |= {name: decay ** depth[name.partition(".")[2]] for name in names}

    def of(self, name: str) -> float:
        prefixes = [prefix for prefix in self._scales if name == prefix or name.startswith(prefix.rstrip(".") + ".")]
        self._unused -= set(prefixes)
        scale = self._scales[max(prefixes, key=len)] if prefixes else 1.0
        return scale * self._layers.get(name, 1.0)

    def all_used(self) -> None:
        if self._unused:
            names = sorted({name.split(".")[0] for name, _ in self._towers.named_parameters()})
            raise RecipeError(f"{WHERE}.lr_scales", f"no parameter under {sorted(self._unused)}", f"one of {names}")
