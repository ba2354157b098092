"""Rows of equal label are each other's answers: UniCL (Yang et al., 2022)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.costs import StepSizes, TargetCost
from training.terms.targets.settings import TargetSettings

if TYPE_CHECKING:
    from torch import Tensor

    from training.terms.cores.exchange.interface import Placed, Tile
    from training.terms.cores.step import Step
    from training.terms.cores.targets import Shares, Spread


class Labels(TargetSettings):
    """The target of an image is spread alike over the texts of all rows with its label, that of a text over their
    images; in the sigmoid core the answer to each of them is yes. `row_fields[field]` holds whole numbers; negative
    ones, and a queue that has none, are labels of nobody."""

    kind: Literal["labels"] = "labels"
    field: str = Field("label", description="name of the labels among the fields of rows")
    share: float = Field(1.0, gt=0.0, le=1.0, description="share of this target; the rest is the pair's own")

    @property
    def names(self) -> tuple[tuple[Literal["rows", "texts"], str], ...]:
        return (("rows", self.field),)

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset({self.field})

    def costs(self, at: StepSizes) -> TargetCost:
        return TargetCost(labels=True, spread=True)

    def spread(self, step: "Step") -> "Spread | None":
        """Gathers a label of each row: 8 bytes a row, whatever the exchange."""
        import torch

        from training.terms.cores.exchange.interface import Placed
        from training.terms.targets.asked import row_field

        layout = step.layout
        own_R = row_field(step, self.field, "labels", queued=False).to(torch.int64)
        own_R = torch.cat([own_R, own_R.new_full((len(step.row_RD) - len(own_R),), -1)])
        row_G, _ = step.peers.gather_rows(own_R, layout.row_counts)
        owner_G = layout.owners(row_G.device)
        column_G = torch.where(owner_G < 0, -1, row_G[owner_G.clamp(min=0)])
        share_G = self._share(row_G, column_G, step), self._share(column_G, row_G, step)
        return _Equal(Placed(row_G, 0), Placed(column_G, 0), Placed(share_G[0], 0), Placed(share_G[1], 0))

    def _share(self, label: "Tensor", others: "Tensor", step: "Step") -> "Tensor":
        """What each of the others with a label gets of its target."""
        import torch

        if step.how.core == "sigmoid":
            return step.images.new_full((len(label),), self.share)
        _, key = torch.unique(torch.cat([label, others]), return_inverse=True)
        met = torch.bincount(key[len(label) :], minlength=len(key))[key[: len(label)]]
        return self.share / met.clamp(min=1).to(step.images.dtype)


@dataclass(frozen=True)
class _Equal:
    row_label: "Placed"
    column_label: "Placed"
    row_share: "Placed"
    column_share: "Placed"
    read: "dict[str, Tensor]" = field(default_factory=dict)

    def tile(self, tile: "Tile") -> "Shares":
        from training.terms.cores.targets import Shares

        label_R = self.row_label[tile.rows][:, None]
        equal_RC = ((label_R == self.column_label[tile.columns]) & (label_R >= 0)).to(self.row_share.tensor.dtype)
        return Shares(equal_RC * self.row_share[tile.rows][:, None], equal_RC * self.column_share[tile.columns])
