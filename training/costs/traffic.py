"""What a rank receives in a step, in bytes; a ring's count (`training.ranks.peers`), tested against what peers count.

P trained parameters of 4 bytes, W ranks, without their factors (W - 1) / W:

    without ZeRO   gradients 8 P, all-reduced
    stages 1, 2    gradients 8 P (DeepSpeed all-reduces buckets whose elements several ranks own), parameters 4 P
    stage 3        gradients 4 P; parameters 4 P for every forward and every backward of a chunk: 3 K - 1 times for K
                   chunks. DeepSpeed keeps some of them where there is room, so this is the most.
    Muon           its matrices 8 P once more where ZeRO cuts them
    loss           what terms say of themselves (`TermSettings.costs`)
    companions     ids of a step's pairs, for a queue
"""

from training.costs.model import Weights
from training.costs.weights import PERSISTENT, parts
from training.ranks.ring import F32, F64, I64, summed


def moved(stage: int, weights: Weights, chunks: int, ranks: int) -> dict[str, int]:
    """By what it is for, without what terms and companions move. `stage`: of ZeRO."""
    W = ranks
    if W == 1:
        return {"gradients": 0, "numbers": 0}
    whole = F32 * weights.trained
    found = {"gradients": summed(whole, W) if stage < 3 else whole * (W - 1) // W}
    if stage in (1, 2):
        found["parameters"] = F32 * sum(parts(weights, stage, W)) * (W - 1)
    if stage == 3:
        large = sum(size for group in weights.groups for size in group.sizes if size > PERSISTENT)
        large += sum(size for size in weights.locked if size > PERSISTENT)
        found["parameters"] = (3 * chunks - 1) * F32 * large * (W - 1) // W
    if stage and any(group.matrix for group in weights.groups):
        matrices = F32 * sum(sum(group.sizes) for group in weights.groups if group.matrix)
        found["matrices"] = summed(matrices, W)
    # the fullest rank's rows, the number of pairs; digest and rows, and whether to stop
    found["numbers"] = summed(I64, W) + summed(F64, W) + 2 * summed(2 * I64, W)
    return found


def of_chunk_terms(many: int, ranks: int) -> int:
    """Their counts before the first pass, and their sums behind the last, all of them together."""
    return 2 * summed(many * F64, ranks)
