"""Builds towers from settings: config, weights drawn from a seed or pretrained."""

import copy
import os
from collections.abc import Sequence
from typing import Any, Literal

import open_clip
import torch
from open_clip.factory import load_state_dict
from torch import nn

from pipeline.errors import RecipeError, one_line
from training.surgery.fit import fitted
from training.surgery.mix import from_open_clip, swapped
from training.towers.config import WHERE, model_config
from training.towers.outputs.coca import draw_head, has_decoder
from training.towers.outputs.heads import projections
from training.towers.patches import keep_keyed
from training.towers.settings import ModelSettings
from training.towers.tokenizer import Tokenizer
from training.towers.towers import Towers, open_clip_class, set_size
from training.wanted import LOG_SCALE, Head, Scalar

_STARTS = {"log_scale": "init_logit_scale", "bias": "init_logit_bias"}  # the config's words for them


def build_towers(
    settings: ModelSettings,
    seed: int = 0,
    scalars: Sequence[Scalar] = (LOG_SCALE,),
    heads: Sequence[Head] = (),
    masked: float = 0.0,
) -> Towers:
    """Towers with weights drawn from `seed`, the same on every rank, or pretrained.

    `scalars`: the trained numbers beside the towers; logit scale and bias start where the config says, if it does.
    `heads`: layers behind the image tower, drawn after the model, so that they change nothing in it. `masked`: share
    of the patches that the output `masked` leaves out.
    RecipeError: unknown model, wrong config, weights or tokenizer that cannot be had (this machine may be offline).
    """
    config = model_config(settings)
    for scalar in scalars:
        if scalar.name in _STARTS:
            config.setdefault(_STARTS[scalar.name], scalar.init)
    dropped = config["vision_cfg"].pop("patch_dropout", 0)
    tokenize = Tokenizer(settings)
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = open_clip_class(config)(**copy.deepcopy(arguments))
            if not (settings.name and settings.pretrained and not os.path.isfile(settings.pretrained)):
                set_size(model, config["vision_cfg"]["image_size"])
        except (TypeError, ValueError, AssertionError, KeyError, RuntimeError, OSError) as error:
            hint = "compare with a config of open_clip (open_clip.get_model_config)"
            raise RecipeError(WHERE, f"open_clip cannot build it: {one_line(error)}", "", hint) from None
        if has_decoder(config):
            draw_head(model)
        added = projections(heads, config["embed_dim"])
    tag = _load_pretrained(model, settings, settings.pretrained) if settings.pretrained else {}
    set_size(model, config["vision_cfg"]["image_size"])
    mean = settings.mean or tuple(tag.get("mean") or open_clip.OPENAI_DATASET_MEAN)
    std = settings.std or tuple(tag.get("std") or open_clip.OPENAI_DATASET_STD)
    if dropped or masked:
        keep_keyed(model.visual, dropped)
    towers = Towers(model, config, tokenize, mean, std, scalars, added, masked)
    if settings.image_pretrained:
        _load_tower(towers, "image", settings.image_pretrained)
    if settings.text_pretrained:
        _load_tower(towers, "text", settings.text_pretrained)
    tower: Any  # open_clip's towers have methods that nn.Module lacks
    for tower, locked in ((towers.image, settings.lock_image), (towers.text, settings.lock_text)):
        if locked:
            tower.requires_grad_(False)
        elif settings.grad_checkpointing:
            tower.set_grad_checkpointing(True)
    if towers.decoder is not None and settings.grad_checkpointing:
        towers.decoder.set_grad_checkpointing(True)
    return towers


def _load_tower(towers: Towers, name: Literal["image", "text"], path: str) -> None:
    """One tower's weights from a file of another model, with its positions made to fit."""
    where = f"{WHERE}.{name}_pretrained"
    if not os.path.isfile(path):
        raise RecipeError(where, f"{path!r} is no file", "a file of weights that open_clip loads")
    try:
        other = from_open_clip(load_state_dict(path))
    except Exception as error:  # anything that is no checkpoint
        raise RecipeError(where, f"{path} cannot be read: {one_line(error)}", "weights that open_clip loads") from None
    state = towers.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if key.startswith(f"{name}.")}
    own = {key: tensor for key, tensor in other.items() if key.startswith(f"{name}.")}
    try:
        towers.load_state_dict(swapped(state, fitted(own, shapes), name))
    except RecipeError as error:
        raise RecipeError(where, f"{path}: {error.found}", error.expected, error.hint) from None


def _load_pretrained(model: nn.Module, settings: ModelSettings, wanted: str) -> dict[str, Any]:
    """Loads a local checkpoint or an open_clip tag; returns the tag's pretrained_cfg ({} for a file)."""
    where = f"{WHERE}.pretrained"
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
            found = f"the weights {wanted!r} cannot be downloaded: {one_line(error)}"
            raise RecipeError(where, found, "", "download them elsewhere and give the path of the file") from None
    try:
        open_clip.load_checkpoint(model, path)
    except Exception as error:  # missing or unexpected keys, wrong shapes, not a checkpoint
        found = f"{path} does not fit this model: {one_line(error)}"
        raise RecipeError(where, found, "expected weights of the same config") from None
    return tag or {}
