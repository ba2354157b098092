"""Every target, in every core and by every exchange, gives the gradients of its textbook form on the whole step."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.contrast import (
    Whole,
    check,
    each_parts,
    equal_labels,
    hits,
    near,
    problems_of,
    sigmoid_parts,
    softened,
    softmax_parts,
    spread_out,
    whole_of,
)
from tests.helpers.lanes import told
from tests.helpers.simulated import run_simulated
from training.terms.cores import CORES
from training.terms.cores.exchange import EXCHANGES
from training.terms.targets import TARGETS

SHARES = [[7], [5, 0, 4], [1, 4, 2, 3]]
MORE = [*SHARES, [4, 4], [3, 3, 3], [0, 3, 0, 4]]
MANY = [{"extra"}, {"extra", "queue", "twins", "masked", "weights"}]
PLAIN = [set(), {"twins", "masked", "weights"}]
OWNED = [{"extra", "owned"}, {"extra", "owned", "twins", "masked", "weights"}]


def softmax_of(rows: Callable[[Whole], tuple[Tensor, Tensor]], smoothing: float = 0.0, margin: float = 0.0, many=True):
    def parts(whole: Whole) -> tuple[Tensor, Tensor]:
        return softmax_parts(whole, lambda w: spread_out(w, *rows(w), smoothing, many), many, margin)

    return parts


def nothing(whole: Whole) -> tuple[Tensor, Tensor]:
    none = torch.zeros_like(whole.own_GH, dtype=torch.float64)
    return none, none


def labels(share: float) -> Callable[[Whole], tuple[Tensor, Tensor]]:
    def both(whole: Whole) -> tuple[Tensor, Tensor]:
        equal = equal_labels(whole)
        return share * equal / equal.sum(1, keepdim=True).clamp(min=1), share * equal / equal.sum(0).clamp(min=1)

    return both


def teacher(whole: Whole) -> tuple[Tensor, Tensor]:
    return softened(whole, whole.row_fields["teacher.image"], whole.text_fields["teacher.text"], 6.0, 0.7)


def teacher_yes(whole: Whole) -> Tensor:
    scores = 6.0 * whole.row_fields["teacher.image"] @ whole.text_fields["teacher.text"].T - 1.5
    return 0.7 * scores.sigmoid()


def images_alike(whole: Whole) -> tuple[Tensor, Tensor]:
    return softened(whole, whole.row_GD, whole.row_GD[whole.owner_H], 4.0, 0.4)


def texts_alike(whole: Whole) -> tuple[Tensor, Tensor]:
    first = torch.tensor([int(((whole.owner_H == i) & whole.first_H).nonzero()) for i in range(len(whole.row_GD))])
    return softened(whole, whole.text_HD[first], whole.text_HD, 4.0, 0.4)


# (name, core, settings, textbook, traits)
CASES = [
    ("one_hot", "softmax", {}, softmax_parts, [set(), *MANY]),
    ("smooth", "softmax", {"smoothing": 0.2}, softmax_of(nothing, 0.2, many=False), [set(), *MANY]),
    (
        "margins",
        "softmax",
        {"positive_margin": 0.5, "negative_margin": 0.25},
        softmax_of(nothing, margin=0.75, many=False),
        [set(), *MANY],
    ),
    ("captions", "softmax", {"smoothing": 0.1, "positive_margin": 0.3}, softmax_of(nothing, 0.1, 0.3), MANY),
    ("each", "softmax", {"among": "each"}, each_parts, MANY),
    ("labels", "softmax", {}, softmax_of(labels(1.0)), [set(), *MANY]),
    ("labels", "softmax", {"share": 0.6, "smoothing": 0.1}, softmax_of(labels(0.6), 0.1), [set(), *MANY]),
    ("teacher", "softmax", {"scale": 6.0, "share": 0.7}, softmax_of(teacher), [set(), *MANY]),
    ("similarity", "softmax", {"scale": 4.0, "share": 0.4}, softmax_of(images_alike), [*PLAIN, *OWNED]),
    ("similarity", "softmax", {"of": "text", "scale": 4.0, "share": 0.4}, softmax_of(texts_alike), PLAIN),
    ("one_hot", "sigmoid", {}, sigmoid_parts, [set(), *MANY]),
    ("smooth", "sigmoid", {"smoothing": 0.2}, lambda w: sigmoid_parts(w, smoothing=0.2), [set(), *MANY]),
    (
        "margins",
        "sigmoid",
        {"positive_margin": 0.5, "negative_margin": 0.25},
        lambda w: sigmoid_parts(w, margins=(0.5, 0.25)),
        [set(), *MANY],
    ),
    ("labels", "sigmoid", {"share": 0.9}, lambda w: sigmoid_parts(w, lambda v: 0.9 * equal_labels(v)), [set(), *MANY]),
    (
        "teacher",
        "sigmoid",
        {"scale": 6.0, "bias": -1.5, "share": 0.7},
        lambda w: sigmoid_parts(w, teacher_yes),
        [set(), *MANY],
    ),
]
KIND = {"smooth": "one_hot", "margins": "one_hot", "each": "captions"}


def proven(case: tuple, exchange: str, counts: list[int], traits: set[str], tile: int) -> None:
    name, core, settings, parts, _ = case
    problems = problems_of(counts, traits)
    target = TARGETS[KIND.get(name, name)](**settings)
    whole = whole_of(problems)
    outputs = run_simulated(
        lambda peers: CORES[core](problems[peers.rank], target, peers, exchange=exchange, tile=tile), len(counts)
    )
    check(outputs, whole, parts(whole), bias=core == "sigmoid")


def cases(shares: list[list[int]]) -> list:
    return [
        pytest.param(case, counts, traits, id=f"{case[1]}-{case[0]}-{counts}-{'+'.join(sorted(traits)) or 'plain'}")
        for case in CASES
        for counts in shares
        for traits in case[4]
    ]


@pytest.mark.parametrize(("case", "counts", "traits"), cases(SHARES[1:2]))
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_target_gives_the_gradients_of_the_whole_step(case, exchange, counts, traits):
    proven(case, exchange, counts, traits, tile=3)


@pytest.mark.parametrize("margins", [(0.0, 3.0), (0.5, 0.0), (0.5, 3.0)], ids=str)
@pytest.mark.parametrize("counts", SHARES, ids=str)
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize(("core", "kind"), [*((core, "one_hot") for core in CORES), ("softmax", "captions")])
def test_margins_move_the_loss_and_not_what_is_a_hit(core, kind, exchange, counts, margins):
    """Some own scores lie above their rivals by less than the margins."""
    problems = problems_of(counts, {"extra"})
    alike = [F.normalize(one.image_ND + 2 * one.text_MD[: len(one.image_ND)]) for one in problems]
    problems = [replace(one, image_ND=image_ND) for one, image_ND in zip(problems, alike, strict=True)]
    target, whole = TARGETS[kind](positive_margin=margins[0], negative_margin=margins[1]), whole_of(problems)
    outputs = run_simulated(
        lambda peers: CORES[core](problems[peers.rank], target, peers, exchange=exchange, tile=3), len(counts)
    )
    wanted = hits(whole, many=core == "sigmoid" or kind == "captions")
    assert 0 < wanted[0] < 1 and 0 < wanted[1] < 1
    for output in outputs:
        near(output.metrics["acc_i2t"], wanted[0], 1e-9)
        near(output.metrics["acc_t2i"], wanted[1], 1e-9)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("case", "counts", "traits"), cases(MORE))
def test_every_target_gives_the_gradients_of_the_whole_step_in_any_world(case, counts, traits):
    for exchange, tile in itertools.product(EXCHANGES, (2, 5, 64)):
        with told(f"{exchange} tile {tile}"):
            proven(case, exchange, counts, traits, tile)
