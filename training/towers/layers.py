"""Layers of towers that a step has to know about: those that draw by the chunk, and those that mix the pairs of one."""

from collections.abc import Iterator

from torch import nn

from training.towers.patches import KeyedPatchDropout

_SHARES = ("p", "drop_prob", "prob")  # what torch, timm and open_clip call the share that is dropped


def draws_by_chunk(towers: nn.Module) -> bool:
    """Whether training draws from torch's generators, which a step keys by (seed, step, first pair of the chunk): then
    another chunk, or another number of ranks, is other draws. Patch dropout is keyed by the pair and is not meant."""
    return any(_drops(module) for module in towers.modules() if not isinstance(module, KeyedPatchDropout))


def restless(tower: nn.Module) -> Iterator[str]:
    """Kinds of the layers that make a tower's features in training others than those of the picture alone."""
    for module in tower.modules():
        keyed = isinstance(module, KeyedPatchDropout) and module.share > 0
        if keyed or _drops(module) or isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield type(module).__name__


def _drops(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    shares = [getattr(module, name, 0) for name in _SHARES] if "drop" in type(module).__name__.lower() else []
    return any(isinstance(share, (int, float)) and share > 0 for share in shares)


def batch_norms(towers: nn.Module) -> Iterator[str]:
    """Names of the layers that normalise by what else is in the chunk: their result is not a function of the pair."""
    for name, module in towers.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield name
