"""What a core is asked and what it answers.

Letters of this room: N image rows of this rank, E its queued images, M its texts (M >= N), D features; G the same over
all ranks; R and C rows and columns of one tile. A row is an image, a column is a text, and the score of row i and
column j is S_ij = exp(log_scale) x_i . y_j (+ bias in the sigmoid core).
"""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """This rank's share of one step. Ranks may hold different N, M and E, or none.

    `text_MD` begins with the texts of the rows in order. What follows are extra texts, and `owner_M` says whose: the
    row they are one more text of, or -1 where they are nobody's (hard negatives, a queue); its first N entries are not
    looked at. Without `owner_M` extra texts are nobody's. The texts that a row owns are its positives, and never its
    rivals.

    `image_weight_N` and `text_weight_M` (0 or more) weigh the loss of a row, or of a column, in the mean of its
    direction; left out, they are 1, and 0 for texts that are nobody's (whatever is given for those). With 0 a row or
    column is only a candidate that others are told from. `queue_ED` are such images; they get no gradient.

    `valid_N` marks the rows that count; the others and the texts they own are as if they were not there (they may hold
    NaN). On a GPU a mask that is kept on the CPU saves a wait. `ids_N`: rows of equal id are the same pair met twice
    in a step, and neither is a rival of the other; `queue_ids_E` likewise.

    `row_fields` (N rows each, or N + E with the queue's behind) and `text_fields` (M) are what a target asks for by
    name: the docstrings of `training.terms.targets` say which.
    """

    image_ND: Tensor
    text_MD: Tensor
    log_scale: Tensor  # one number: the logarithm of the scale
    bias: Tensor | None = None  # one number
    owner_M: Tensor | None = None
    image_weight_N: Tensor | None = None
    text_weight_M: Tensor | None = None
    valid_N: Tensor | None = None
    ids_N: Tensor | None = None
    queue_ED: Tensor | None = None
    queue_ids_E: Tensor | None = None
    row_fields: dict[str, Tensor] = field(default_factory=dict)
    text_fields: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class CoreOutput:
    """One step's loss and its exact gradients.

    `value` (0-dim) is over all ranks, and the same on each. Gradients of features are of that one number with respect
    to this rank's rows: summed over ranks (never averaged) through the towers they are those of the whole batch. Those
    of `log_scale` and `bias` (in their shapes) are global already. Rows not valid have zero gradients.

    `metrics` (0-dim float64, global, on the device): loss_i2t, loss_t2i (their mean is `value`), acc_i2t, acc_t2i
    (share whose own text, or image, scores above every rival; a tie is a miss), pairs (valid rows).
    """

    value: Tensor
    d_image_ND: Tensor
    d_text_MD: Tensor
    d_log_scale: Tensor
    d_bias: Tensor | None
    metrics: dict[str, Tensor]
