"""What CLIP's and SigLIP's terms have in common: the texts and images of a step told from each other by a core.

Letters: N rows on this rank, M texts of this rank, D features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from pipeline.errors import ClipmillError
from pipeline.settings import one_of
from training.terms.costs import WIRES, NotCounted, StepSizes, TermCost, of_core
from training.terms.targets import TARGETS
from training.terms.targets.settings import TargetSettings
from training.terms.term import TermOutput, TermSettings
from training.wanted import Wanted

if TYPE_CHECKING:
    from torch import Tensor

    from training.ranks.peers import Peers
    from training.rows import Rows

    Target = TargetSettings
else:
    Target = one_of(TARGETS)
FURTHER = ("positives", "negatives")
Side = Annotated[int, Field(ge=1)]


class Contrast(TermSettings):
    """`positives`: further captions of a pair in a step, with a target that has a use for them; `negatives`: hard ones.

    exchange  gather: texts are gathered, their gradients summed where they came from
              gather2: both sides are gathered, no gradient is; bit-equal for any number of ranks, half more work
              ring: texts travel; memory does not grow with the number of ranks
    tile      auto: a few are tried at the start of the run, all ranks take rank 0's choice, and checkpoints keep it.
              Another tile sums in another order, so two runs from step 0 may round otherwise; resuming does not
    kernel    triton: a tile of scores is read once where torch passes over it a dozen times; on a GPU
    """

    exchange: Literal["gather", "gather2", "ring"] = "gather"
    tile: Side | tuple[Side, Side] | Literal["auto"] = Field(
        512, description="side of the largest block of scores ever held, in pairs; both; or auto: what is fastest here"
    )
    wire: Literal["fp32", "bf16"] = Field("fp32", description="what features travel in")
    kernel: Literal["torch", "triton"] = Field("torch", description="what makes scores into sums and gradients")
    target: Target = TARGETS["one_hot"]()
    positives: int = Field(0, ge=0, le=64, description="most further captions of a pair in a step")
    negatives: int = Field(0, ge=0, le=64, description="most hard negatives of a pair in a step")
    queue: str | None = Field(None, description="name of the momentum companion whose queue gives further rivals")
    pair_weight: str | None = Field(None, description="a number in KEY.json that weighs the pair; none: 1")

    @model_validator(mode="after")
    def _positives_are_used(self) -> "Contrast":
        if isinstance(self.target, TARGETS["captions"]) and not self.positives:
            raise ValueError("target captions needs further captions; expected `positives` of 1 or more")
        if self.queue and isinstance(self.target, (TARGETS["teacher"], TARGETS["similarity"])):
            raise ValueError(
                "targets teacher and similarity know nothing of queued pairs; expected no `queue` with them"
            )
        return self

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of a tile. ClipmillError where they are still to be chosen (`cores.tiles.with_tiles`)."""
        if self.tile == "auto":
            raise ClipmillError(f"term {self.called}", "tile is auto", "a tile: a run chooses it before its first step")
        return (self.tile, self.tile) if isinstance(self.tile, int) else self.tile

    @property
    def queued(self) -> dict[str, str]:
        """The columns of the queue."""
        return {name: f"{self.queue}.queue/{name}" for name in ("image", "text", "id")} if self.queue else {}

    def costs(self, at: StepSizes) -> TermCost:
        """Of a core with as many rows and texts as there may be."""
        from training.terms.cores.exchange.costs import CoreStep

        aim, queued = self.target.costs(at), at.queues.get(self.queue, 0) if self.queue else 0
        if aim is None:
            raise NotCounted(f"its target {self.target.kind} does not say what it costs")  # type: ignore[attr-defined]
        step = CoreStep(
            str(type(self).model_fields["kind"].default),
            self.exchange,
            at.ranks,
            at.rows,
            at.width("image"),
            WIRES[self.wire],
            at.tile if self.tile == "auto" else self.sides,
            further=at.rows * (self.positives + self.negatives) + queued,
            queued=queued,
            weighed=self.pair_weight is not None,
            labels=aim.labels,
            spread=aim.spread or self.target.smoothing > 0,
            soft=aim.soft,
        )
        return of_core(step)

    def wanted(self) -> Wanted:
        groups = ["", *(f"{group}/" for group in FURTHER if getattr(self, group))]
        asked = {name for side, name in self.target.names if side == "rows"}
        asked |= {group + name for side, name in self.target.names if side == "texts" for group in groups}
        return Wanted(
            self.positives,
            self.negatives,
            fields=self.target.numbers | ({self.pair_weight} if self.pair_weight else set()),
            columns=frozenset(asked - self.target.numbers).union(self.queued.values()),
        )


@dataclass(frozen=True)
class ContrastTerm:
    """Metrics: loss and top-1 accuracy of each direction among the step's valid pairs, and their number."""

    settings: Contrast
    core: Literal["softmax", "sigmoid"]

    @property
    def needs(self) -> frozenset[str]:
        groups = {"positives": self.settings.positives, "negatives": self.settings.negatives}
        return frozenset({"image", "text"} | {f"{group}/text" for group, most in groups.items() if most})

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        from training.rows import group_of, named
        from training.terms.cores import CORES, Problem

        chosen, kept = self.settings, self._kept(features, rows)
        queue = {name: rows[column] for name, column in chosen.queued.items()}
        owner_M = _joined([owner_M for _, owner_M in kept.values()])
        texts = [features[name][where] for name, (where, _) in kept.items()]
        if queue:  # texts of the past are nobody's
            texts.append(queue["text"].to(texts[0].dtype))
            owner_M = _joined([owner_M, owner_M.new_full((len(queue["text"]),), -1)])
        problem = Problem(
            image_ND=features["image"],
            text_MD=_joined(texts),
            log_scale=scalars["log_scale"],
            bias=scalars["bias"] if self.core == "sigmoid" else None,
            owner_M=owner_M if len(texts) > 1 else None,
            valid_N=rows["valid"],
            ids_N=rows.get("id"),
            queue_ED=queue.get("image"),
            queue_ids_E=queue.get("id"),
            **self._weights(rows, owner_M),
            row_fields={name: rows[name] for side, name in chosen.target.names if side == "rows"},
            text_fields={
                name: _joined([rows[named(group_of(output), name)][where] for output, (where, _) in kept.items()])
                for side, name in chosen.target.names
                if side == "texts"
            },
        )
        plain = chosen.target == TARGETS["one_hot"]()
        found = CORES[self.core](
            problem,
            None if plain else chosen.target,  # type: ignore[arg-type]  # a setting is read-only
            peers,
            exchange=chosen.exchange,
            tile=chosen.sides,
            wire=chosen.wire,
            kernel=chosen.kernel,
        )
        grads = {"image": found.d_image_ND}
        parts = found.d_text_MD.split([len(text) for text in texts])  # those of the queue come last
        for (name, (where, _)), part in zip(kept.items(), parts, strict=False):
            grads[name] = part if name == "text" else part.new_zeros(features[name].shape).index_copy_(0, where, part)
        d_scalars = {"log_scale": found.d_log_scale} | ({} if found.d_bias is None else {"bias": found.d_bias})
        return TermOutput(found.value, grads, d_scalars, found.metrics)

    def _kept(self, features: "Rows", rows: "Rows") -> "dict[str, tuple[slice | Tensor, Tensor]]":
        """Of each output that holds texts, those of the rows first: which of them take part, and whose they are (-1:
        nobody's, a hard negative). What a row that is not valid brought takes no part."""
        import torch

        valid_N = rows["valid"]
        kept: dict[str, tuple[slice | Tensor, Tensor]] = {
            "text": (slice(None), torch.arange(len(valid_N), device=valid_N.device))
        }
        for group in FURTHER:
            if f"{group}/text" in self.needs:
                where = valid_N[rows[f"{group}/owner"]].nonzero()[:, 0]
                owner = rows[f"{group}/owner"][where]
                kept[f"{group}/text"] = where, owner if group == "positives" else torch.full_like(owner, -1)
        return kept

    def _weights(self, rows: "Rows", owner_M: "Tensor") -> "Rows":
        """Of rows and of texts, from a field of the pair; a pair without one weighs 1."""
        if self.settings.pair_weight is None:
            return {}
        weight_N = rows[self.settings.pair_weight].nan_to_num(nan=1.0).clamp(min=0).float()
        if not len(weight_N):
            return {"image_weight_N": weight_N, "text_weight_M": weight_N.new_zeros(len(owner_M))}
        return {"image_weight_N": weight_N, "text_weight_M": weight_N[owner_M.clamp(min=0)] * (owner_M >= 0)}


def _joined(parts: "list[Tensor]") -> "Tensor":
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts)
