"""What terms say they cost, against the bytes, products and memory of the terms at work over gloo."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch.utils.flop_counter import FlopCounterMode

from pipeline.settings import one_of
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from training.costs.watch import Watch
from training.ranks.peers import Peers
from training.terms import TERMS
from training.terms.contrast import Contrast
from training.terms.costs import NotCounted, StepSizes, TermCost
from training.terms.softmax import Softmax
from training.terms.targets import TARGETS
from training.terms.targets.settings import TargetSettings
from training.terms.term import TermSettings

b, D, T, P, L, TILE = 32, 24, 20, 5, 7, 32  # rows of a rank, numbers of features and of a teacher, patches, words
QUEUED = 13
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("image", "text", "positives/text", "negatives/text", "masked", "slow.image", "slow.text"), (D,)),
    **dict.fromkeys(("projected", "views/projected"), (24,)),
    **dict.fromkeys(("teacher.image", "teacher.text", "positives/teacher.text", "negatives/teacher.text"), (T,)),
    **dict.fromkeys(("other.image", "other.text"), (D + 4,)),
    "patches": (P, D), "words": (L, D), "word_mask": (L,), "caption_logits": (L - 1, 11),
}  # fmt: skip
FULL = {"queue": "slow", "target": {"kind": "labels"}, "pair_weight": "heavy", "positives": 2, "negatives": 1}
CORES = [(kind, way) for kind in ("softmax", "sigmoid") for way in ("gather", "gather2", "ring")]
CASES: list[dict[str, Any]] = [
    *({"kind": kind, "exchange": way, "target": {"kind": "teacher", "share": 0.5}} for kind, way in CORES),
    *({"kind": kind, "exchange": way, "wire": "bf16", **FULL} for kind, way in CORES),
    {"kind": "softmax", "exchange": "gather"},
    {"kind": "sigmoid", "exchange": "ring", "pair_weight": "heavy"},
    {"kind": "softmax", "exchange": "gather2", "tile": [16, 48], "target": {"kind": "one_hot", "smoothing": 0.2}},
    {"kind": "sigmoid", "exchange": "gather", "positives": 2, "target": {"kind": "captions", "smoothing": 0.1}},
    {"kind": "softmax", "exchange": "gather", "target": {"kind": "similarity", "of": "image"}},
    {"kind": "sigmoid", "exchange": "gather2", "target": {"kind": "similarity", "of": "text", "field": "teacher.text"}},
    *({"kind": "similarity_distill", "exchange": way, "teachers": [{"name": "teacher"}, {"name": "other"}]}
      for way in ("gather", "gather2")),
    {"kind": "similarity_distill", "exchange": "ring"},
    {"kind": "views", "count": 1}, {"kind": "views", "exchange": "ring"},
    {"kind": "infoloob"}, {"kind": "cloob"}, {"kind": "cyclip"}, {"kind": "uniformity_alignment"},
    {"kind": "filip"}, {"kind": "filip", "keep": 0.5}, {"kind": "masked_view", "teacher": "slow"},
    {"kind": "feature_distill"}, {"kind": "feature_distill", "teacher": "slow"},
    {"kind": "feature_distill", "teacher": "slow", "of": "text", "project": True, "distance": "cosine"},
    {"kind": "label_head", "classes": 101}, {"kind": "label_head", "classes": 9000, "of": "text"},
]  # fmt: skip
TILES = {"filip": 8}


def term_of(given: dict[str, Any]) -> TermSettings:
    if "tile" in TERMS[given["kind"]].model_fields and "tile" not in given:
        given = {**given, "tile": TILES.get(given["kind"], TILE)}
    return TypeAdapter(one_of(TERMS)).validate_python(given)


def sizes_of(world: int) -> StepSizes:
    return StepSizes(world, world * b, SHAPES, {"slow": QUEUED})


def rows_of(rank: int) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(rank)
    rows = {
        "valid": torch.ones(b, dtype=torch.bool),
        "id": torch.arange(b) + rank * b,
        "tokens": torch.ones(b, L, dtype=torch.int64),
        "label": (torch.arange(b) % 9).double(),
        "heavy": torch.ones(b).double(),
        "slow.queue/id": torch.arange(QUEUED) + 10_000 + rank * QUEUED,
    }
    for group, most in (("positives", 2), ("negatives", 1), ("views", 2)):
        rows[f"{group}/owner"] = torch.arange(b).repeat_interleave(most)
    for name, (*many, width) in SHAPES.items():
        if "." in name:
            group = name.rpartition("/")[0]
            size = len(rows[f"{group}/owner"]) if group else b
            rows[name] = F.normalize(torch.randn(size, *many, width, generator=made), dim=-1)
    for side in ("image", "text"):
        rows[f"slow.queue/{side}"] = F.normalize(torch.randn(QUEUED, D, generator=made), dim=-1)
    return rows


def features_of(settings: TermSettings, rows: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    made, found = torch.Generator().manual_seed(100 + rank), {}
    for name in sorted(settings.build().needs):
        group, shape = name.rpartition("/")[0], SHAPES[name]
        size = len(rows[f"{group}/owner"]) if group else b
        if group == "views" and getattr(settings, "count", 2) == 1:
            size = b
        found[name] = F.normalize(torch.randn(size, *shape, generator=made), dim=-1)
    return found | ({"word_mask": torch.ones(b, L)} if "word_mask" in found else {})


def at_work(peers: Peers) -> list[tuple[int, int, int, int, int]]:
    """Of each case: bytes moved, FLOPs, most bytes held, elements of own weights, bytes of its state."""
    rows, found = rows_of(peers.rank), []
    for given in CASES:
        settings = term_of(given)
        term: Any = settings.build()
        features = features_of(settings, rows, peers.rank)
        scalars = {one.name: torch.tensor([one.init]) for one in settings.scalars()}
        before = peers.moved
        counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: products_of})
        with Watch([*rows.values(), *features.values(), *scalars.values()]) as watch, counter:
            term(features, scalars, rows, peers)
        moved = peers.moved - before
        state = dict(term.state()) if hasattr(term, "state") else {}
        own = weights_of(term)
        found.append((moved, counter.get_total_flops(), watch.peak, own, sum(one.nbytes for one in state.values())))
    return found


def products_of(_: Any, left: Any, right: Any, **others: Any) -> int:
    """Of shapes, as torch counts `addmm`, which it does not know in place."""
    return int(2 * left[0] * left[1] * right[1])


def weights_of(term: Any) -> int:
    if hasattr(term, "head"):
        return term.head._weight.numel()
    return sum(one.numel() for one in term.maps._weights.values()) if hasattr(term, "maps") else 0


def said(given: dict[str, Any], world: int) -> TermCost:
    cost = term_of(given).costs(sizes_of(world))
    assert cost is not None
    return cost


@pytest.mark.parametrize("world", sampled([2, 3], 0))
def test_bytes_products_and_weights_are_those_of_the_terms_at_work(world: int) -> None:
    ranks = run_ranks(at_work, world)
    for number, given in enumerate(CASES):
        cost, real = said(given, world), [found[number] for found in ranks]
        assert {moved for moved, *_ in real} == {cost.moved}, given
        assert max(flops for _, flops, *_ in real) == cost.flops, given
        assert max(own for *_, own, _ in real) == cost.trained.here, given
        assert {state for *_, state in real} == {cost.trained.saved}, given
        copies = 3 * 4 * sum(one.numel() for one in features_of(term_of(given), rows_of(0), 0).values())
        held, most = cost.held + copies + cost.trained.held, max(peak for _, _, peak, *_ in real)
        assert 0.7 < held / most < 1.5, given


def test_every_term_and_every_target_says_what_it_costs() -> None:
    """A plan names those that do not; the table's do."""
    assert {given["kind"] for given in CASES} | {"caption"} == set(TERMS)
    assert {given.get("target", {}).get("kind", "one_hot") for given in CASES} == set(TARGETS)
    assert term_of({"kind": "caption"}).costs(sizes_of(2)) == TermCost()
    for table, base in ((TERMS, TermSettings), (TARGETS, TargetSettings)):
        assert all(kind.costs is not base.costs for kind in table.values())


class Silent(TargetSettings):
    kind: str = "silent"


def test_what_cannot_be_told_is_refused_with_a_reason() -> None:
    """A target that does not say, vectors of a width that nobody knows."""
    assert Silent().costs(sizes_of(2)) is None
    with pytest.raises(NotCounted, match="target silent does not say"):
        Softmax().model_copy(update={"target": Silent()}).costs(sizes_of(2))
    with pytest.raises(NotCounted, match="size of gone.image"):
        term_of({"kind": "feature_distill", "teacher": "gone"}).costs(sizes_of(2))


def test_alone_nothing_moves() -> None:
    """One rank; and a tile that a run chooses at its start is one that may be chosen."""
    assert all(term_of(given).costs(sizes_of(1)).moved == 0 for given in CASES)  # type: ignore[union-attr]
    chosen = TypeAdapter(one_of(TERMS)).validate_python({"kind": "softmax", "tile": "auto"})
    assert isinstance(chosen, Contrast)
    few, more = (chosen.costs(replace(sizes_of(1), tile=(side, side))) for side in (8, 16))
    assert few.held < more.held
