"""What a rank holds of parameters, gradients and moments. All are fp32 under every engine (`training/engine`).

Elements of a group with n trained ones on W ranks: stages 1 and 2 flatten it and cut it into W equal parts, each of a
multiple of two elements; stage 3 cuts each parameter by itself into W equal parts. DeepSpeed's masters are copies.
"""

from training.costs.model import Weights
from training.ranks.ring import F32

BUCKET = 500_000_000
"""Elements of DeepSpeed's buckets, at most (`training/engine/zero.py`)."""
PERSISTENT = 100_000
"""Stage 3 never puts away a parameter of up to so many elements (`training/engine/zero.py`)."""
LIVE = 1_000_000_000
"""Elements of other parameters that stage 3 holds whole at a time, at most (DeepSpeed's stage3_max_live_parameters)."""


def parts(weights: Weights, stage: int, ranks: int) -> list[int]:
    """Elements of each group whose moments a rank holds, padding included."""
    if stage == 0:
        return [sum(group.sizes) for group in weights.groups]
    if stage == 3:
        return [sum(-(-size // ranks) for size in group.sizes) for group in weights.groups]
    return [2 * -(-sum(group.sizes) // (2 * ranks)) for group in weights.groups]


def held(weights: Weights, stage: int, ranks: int) -> dict[str, int]:
    """Bytes by what they are for. The first three lie there all the time, the others during a step."""
    own = parts(weights, stage, ranks)
    moments = sum(part * group.moments for part, group in zip(own, weights.groups, strict=True))
    found = {
        "parameters": F32 * _parameters(weights, stage, ranks, own) + weights.buffers,
        "masters": F32 * sum(own) if stage else 0,
        "moments": F32 * moments,
        "gradients": F32 * (weights.trained + (sum(own) if stage else 0)),
    }
    if stage == 0:
        found["reduction"] = 2 * F32 * weights.trained if ranks > 1 else 0  # flattened, and their sum
    else:
        found["reduction"] = 2 * F32 * min(weights.parameters, BUCKET)  # a bucket, and what is reduced of it
    if stage == 3:
        large = sum(size for size in _sizes(weights) if size > PERSISTENT)
        found["gathered parameters"] = F32 * min(large, LIVE)
    return found


def _parameters(weights: Weights, stage: int, ranks: int, own: list[int]) -> int:
    """Elements that lie there between steps."""
    if stage == 3:
        cut = sum(-(-size // ranks) for size in _sizes(weights))
        return cut + sum(size for size in _sizes(weights) if size <= PERSISTENT)
    return (sum(own) * ranks if stage else weights.trained) + sum(weights.locked)


def _sizes(weights: Weights) -> list[int]:
    return [*(size for group in weights.groups for size in group.sizes), *weights.locked]
