"""Captioning: a decoder says the text of a picture word by word (CoCa, Yu et al., 2022)."""

from typing import TYPE_CHECKING, Literal

from training.terms.costs import StepSizes, TermCost
from training.terms.term import ChunkTerm, TermSettings
from training.wanted import Wanted

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows

OUTPUT = "caption_logits"
_PAD = 0  # of open_clip's tokenizers, and of its CoCa


class Caption(TermSettings):
    """Cross-entropy of every next token of a pair's caption, given its picture and the tokens before: the mean over
    the tokens of all valid pairs of the step. Padding (token 0) is nothing to be said; the end token is. open_clip's
    recipe gives it a weight of 2 beside CLIP's loss.
    """

    kind: Literal["caption"] = "caption"

    def wanted(self) -> Wanted:
        return Wanted(towers=frozenset({"captions"}))

    def costs(self, at: StepSizes) -> TermCost:
        """Its work is in the passes, where a plan looks at it; what is summed up of chunk terms, plans add."""
        return TermCost()

    def build(self) -> ChunkTerm:
        return CaptionTerm()


class CaptionTerm:
    """Letters: N rows, L tokens, V words of the vocabulary."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({OUTPUT})

    def count(self, rows: "Rows") -> "Tensor":
        """Tokens to be said."""
        return _said(rows).sum()

    def __call__(self, outputs: "Rows", rows: "Rows") -> "Tensor":
        from torch.nn.functional import cross_entropy

        label_NL = rows["tokens"][:, 1:].masked_fill(~_said(rows), -100)  # what torch leaves out
        return cross_entropy(outputs[OUTPUT].flatten(0, 1), label_NL.flatten(), ignore_index=-100, reduction="sum")


def _said(rows: "Rows") -> "Tensor":
    """bool [N, L - 1]"""
    return (rows["tokens"][:, 1:] != _PAD) & rows["valid"][:, None]
