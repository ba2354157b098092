"""Terms with weights: sums of what each says, by weights of the moment, and nothing of what is off."""

import pytest
import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.rows import Rows
from training.step.objective import Objective
from training.terms.term import TermOutput

ROWS = {"valid": torch.tensor([True, True, False])}


class Squares:
    """Of a step: half the squares of one feature, times a scalar that others share."""

    def __init__(self, feature: str, columns: frozenset[str] = frozenset()) -> None:
        self.needs, self.columns, self.calls = frozenset({feature, "shared"}), columns, 0
        self._feature = feature

    def __call__(self, features: Rows, scalars: Rows, rows: Rows, peers: Peers) -> TermOutput:
        self.calls += 1
        scale, mine, shared = scalars["scale"], features[self._feature], features["shared"]
        value = scale * ((mine**2).sum() + (shared**2).sum() / 2)
        grads = {self._feature: 2 * scale * mine, "shared": scale * shared}
        return TermOutput(value.squeeze(), grads, {"scale": value / scale}, {"size": (mine**2).sum()})


class Counts:
    """Of a chunk: the sum of a feature over the rows that count."""

    needs = frozenset({"words"})

    def count(self, rows: Rows) -> Tensor:
        return rows["valid"].sum()

    def __call__(self, outputs: Rows, rows: Rows) -> Tensor:
        return (outputs["words"].sum(1) * rows["valid"]).sum()


def objective(**weights: object) -> Objective:
    steps = {"image": Squares("image"), "text": Squares("text", frozenset({"teacher.text"}))}
    asked = {name: term.columns for name, term in steps.items()}
    return Objective(dict(weights), steps, {"words": Counts()}, asked=asked)


@pytest.fixture
def given() -> tuple[Rows, Rows]:
    made = torch.Generator().manual_seed(0)
    features = {name: torch.randn(3, 4, generator=made, dtype=torch.float64) for name in ("image", "text", "shared")}
    return features, {"scale": torch.tensor([1.7], dtype=torch.float64)}


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0), (2.0, 1.0), (1.0, 0.25)])
def test_value_and_gradients_are_those_of_the_weighted_sum(given, weights):
    features, scalars = ({name: one.clone().requires_grad_() for name, one in part.items()} for part in given)
    a, b = weights
    half = (features["shared"] ** 2).sum() / 2
    image, text = (scalars["scale"] * ((features[name] ** 2).sum() + half) for name in ("image", "text"))
    (a * image + b * text).sum().backward()
    found = objective(image=a, text=b, words=1.0).of_step(*given, ROWS, Peers.alone())
    assert found.value.item() == pytest.approx((a * image + b * text).item(), rel=1e-12)
    for name, feature in features.items():
        assert torch.allclose(found.grads[name], feature.grad, rtol=1e-12), name
    assert torch.allclose(found.d_scalars["scale"], scalars["scale"].grad, rtol=1e-12)


def test_metrics_of_the_first_are_plain_and_each_loss_is_told_without_its_weight(given):
    found = objective(image=0.5, text=3.0, words=1.0).of_step(*given, ROWS, Peers.alone()).metrics
    assert found.keys() == {"size", "image/loss", "text/size", "text/loss"}
    features, scalars = given
    half = (features["shared"] ** 2).sum() / 2
    for name, size in (("image", "size"), ("text", "text/size")):
        square = (features[name] ** 2).sum()
        assert found[size].item() == pytest.approx(square.item())
        assert found[f"{name}/loss"].item() == pytest.approx((scalars["scale"] * (square + half)).item())


def test_what_weighs_nothing_is_not_computed_asks_for_nothing_and_comes_with_its_time(given):
    whole = objective(image=1.0, text=[[0.0, 0.0], [0.5, 0.0], [1.0, 2.0]], words=[[0.0, 1.0], [1.0, 0.0]])
    early, late, end = whole.at(0.25), whole.at(0.75), whole.at(1.0)
    assert early.weights == {"image": 1.0, "text": 0.0, "words": 0.75}
    assert late.weights == {"image": 1.0, "text": 1.0, "words": 0.25} and end.weights["words"] == 0.0
    assert early.step_terms.keys() == {"image"} and late.step_terms.keys() == {"image", "text"}
    assert early.columns == frozenset() and late.columns == {"teacher.text"}
    assert early.outputs == {"image", "shared", "words"} and end.outputs == {"image", "text", "shared"}
    assert early.cached == {"image", "shared"} and end.chunk_terms == {}
    found = early.of_step(*given, ROWS, Peers.alone())
    assert whole.step_terms["text"].calls == 0 and "text" not in found.grads
    assert late.of_step(*given, ROWS, Peers.alone()).grads.keys() == {"image", "text", "shared"}


def test_a_chunk_terms_shares_add_up_to_its_mean_over_the_rows_that_count():
    words = torch.arange(12.0).reshape(3, 4)
    whole = objective(image=1.0, text=1.0, words=5.0)
    counts = whole.counts(ROWS, Peers.alone())
    parts = [
        whole.of_chunk({"words": words[at]}, {"valid": ROWS["valid"][at]}, counts)["words"]
        for at in (slice(0, 2), slice(2, 3))
    ]
    assert sum(parts).item() == pytest.approx(words[:2].sum().item() / 2)  # the weight comes with the gradient
    assert whole.counts({"valid": torch.zeros(3, dtype=torch.bool)}, Peers.alone())["words"] > 0
    assert objective(image=1.0, text=1.0, words=0.0).at(0.0).counts(ROWS, Peers.alone()) == {}
