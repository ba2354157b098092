"""Token-wise alignment: FILIP, fine-grained interactive language-image pre-training (Yao et al., 2022)."""

import math
from math import ceil
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.ranks.ring import F32
from training.terms.across.settings import AcrossSettings
from training.terms.costs import Everyones, StepSizes, TermCost
from training.wanted import Scalar, Wanted

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows
    from training.terms.across.everyone import Everyone

# As CLIP's, and apart from it: a mean of largest similarities is spread otherwise than one similarity.
SCALE = Scalar("filip_log_scale", math.log(1 / 0.07), 0.0, math.log(100))


class Filip(AcrossSettings):
    """CLIP's loss of similarities between tokens: an image's to a text is the mean over its patches of the nearest
    word, a text's to an image the mean over its words of the nearest patch; the softmax of each direction is over its
    own.

    Words are the tokens up to the end token, begin and end included (the paper's non-padded tokens); patches are those
    the tower kept, the class token is none of them. Both are projected as the pooled feature is, and normalised one by
    one. Pooled features are not trained by this term, and those are what evaluations and exports go by: put it beside
    softmax. A pair met twice in a step is no rival of itself.

    keep      share of a picture's patches and of a text's words that are compared (the paper keeps a quarter): those
              nearest to the other side of their own pair. The paper chooses by the texts of the same worker, and its
              result depends on how many there are; this one does not
    tile      side of the largest block ever held, in pairs: of B/16 and 32 words a tile of 16 has 13 MB of products

    Metrics: loss and top-1 accuracy of each direction.
    """

    kind: Literal["filip"] = "filip"
    keep: float = Field(1.0, gt=0, le=1)
    tile: int = Field(16, ge=1, le=1 << 16)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"patches", "words", "word_mask"})

    def scalars(self) -> tuple[Scalar, ...]:
        return (SCALE,)

    def wanted(self) -> Wanted:
        return Wanted(towers=frozenset({"tokens"}))

    def costs(self, at: StepSizes) -> TermCost:
        """Four products of all patches of this rank with all words; words travel with their mask, patches stay."""
        across, b, G = Everyones(at, 1, 1), at.rows, at.every
        (P, D), (L, _) = at.shape("patches"), at.shape("words")
        chosen = 2 * b * P * L * D if self.keep < 1 else 0  # a pair's own patches and words, to choose from
        P, L = ceil(self.keep * P), ceil(self.keep * L)
        moved = across.begin() + at.summed(F32) + across.sums(4 + 1)
        moved += at.gathered(b * (L * (2 * D * F32 + 1) + F32)) + 2 * at.summed(G * F32)
        products, side = b * P * G * L, min(self.tile, G)
        tile = min(side, b) * P * side * L
        held = F32 * (2 * G * L * D + 3 * tile)
        return TermCost(moved, 4 * 2 * products * D + chosen, 12 * F32 * products, held)

    def value(self, features: "Rows", scalars: "Rows", everyone: "Everyone") -> "tuple[Tensor, Rows]":
        import torch

        from training.terms.across.late import told_apart
        from training.terms.across.sums import all_mean

        images, texts = told_apart(*self._compared(features, everyone), scalars[SCALE.name], everyone, self.tile)
        losses = [
            all_mean(torch.logaddexp(side.rivals - side.own, torch.zeros_like(side.own)), everyone)
            for side in (images, texts)
        ]
        hits = [all_mean((side.own > side.top).double(), everyone) for side in (images, texts)]
        names = ("loss_i2t", "loss_t2i", "acc_i2t", "acc_t2i")
        return (losses[0] + losses[1]) / 2, dict(zip(names, [*losses, *hits], strict=True))

    def _compared(self, features: "Rows", everyone: "Everyone") -> "tuple[Tensor, Tensor, Tensor]":
        """Patches, words and their mask, without the padding that all texts of the step share."""
        from training.terms.across.late import nearest

        patch_NPD, word_NLD, mask_NL = features["patches"], features["words"], features["word_mask"].detach()
        lengths_N = mask_NL.sum(1)
        longest = int(everyone.peers.all_max(lengths_N.max() if len(lengths_N) else lengths_N.new_ones(())))
        word_NLD, mask_NL = word_NLD[:, :longest], mask_NL[:, :longest]
        if self.keep < 1:
            at_NK, at_NM, kept_NM = nearest(patch_NPD, word_NLD, mask_NL, self.keep)
            patch_NPD = patch_NPD.gather(1, at_NK[..., None].expand(-1, -1, patch_NPD.shape[2]))
            word_NLD = word_NLD.gather(1, at_NM[..., None].expand(-1, -1, word_NLD.shape[2]))
            mask_NL = kept_NM
        return patch_NPD, word_NLD, mask_NL
