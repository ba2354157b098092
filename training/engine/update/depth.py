"""How far below a tower's top a parameter lies, read off the names: for layer-wise rates, and for Muon's matrices.

A block is what a container of blocks holds at a number (`transformer.resblocks.3`, `trunk.blocks.0`, ResNet's
`layer2.1`, `encoder.layer.7`, ConvNeXt's `stages.2.blocks.5`). Blocks are counted in the order in which the parameters
are registered, which is the order of computation in every tower of open_clip, timm and transformers.
"""

import re
from collections.abc import Iterable

_CONTAINER = re.compile(r"(resblocks|cross_attn|blocks|block|layers|layer\d*|stages|stage\d*|levels|h)$")
_NESTED = re.compile(r"(blocks|layers)$")  # of a stage: its blocks are the layers, not the stage
_HEADS = ("proj", "text_projection", "visual_projection", "head")  # registered before the blocks, as plain parameters


def block_of(name: str) -> tuple[str, ...] | None:
    """The parts of `name` that name its block; None outside of all blocks."""
    parts = name.split(".")
    for at in range(len(parts) - 2):
        if _CONTAINER.match(parts[at]) and parts[at + 1].isdigit():
            end = _numbers(parts, at + 1)
            if end < len(parts) - 2 and _NESTED.match(parts[end]) and parts[end + 1].isdigit():
                end = _numbers(parts, end + 1)
            return tuple(parts[:end])
    return None


def _numbers(parts: list[str], at: int) -> int:
    """The first place behind the numbers at `at`: EfficientNet's blocks.2.1 is one block."""
    while at < len(parts) - 1 and parts[at].isdigit():
        at += 1
    return at


def depths(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """(depth of each of a tower's parameters, number of blocks), by their names in the tower, in order.

    0: head and projection; 1: the last block; n + 1: stem and embeddings, below the first of n blocks.
    """
    names = list(names)
    keys = [block_of(name) for name in names]
    found = list(dict.fromkeys(key for key in keys if key is not None))
    inner = {key: [other for other in found if len(other) > len(key) and other[: len(key)] == key] for key in found}
    blocks = [key for key in found if not inner[key]]
    height = {key: number for number, key in enumerate(blocks)}
    depth: dict[str, int] = {}
    above: tuple[str, ...] | None = None  # the last block that has begun
    for name, key in zip(names, keys, strict=True):
        if key is None:
            head = above is not None or name in _HEADS
            depth[name] = 0 if head else len(blocks) + 1
            continue
        if inner[key]:  # a stage's own: of the block that follows in it (a downsampling), or of its last
            own = [height[other] for other in inner[key]]
            begun = height[above] if above is not None else -1
            key = blocks[next((number for number in own if number > begun), own[-1])]
        else:
            above = key
        depth[name] = len(blocks) - height[key]
    return depth, len(blocks)
