"""The policy `weighted`."""

import pytest

from tests.training.reader.captions.test_policy import shares
from training.reader.captions.weighted import Weighted


def test_weights_are_by_source_then_by_its_prefix_then_the_default() -> None:
    policy = Weighted(weights={"alt": 1, "rewrite": 2, "rewrite:two": 5}, default=0)
    assert shares(policy) == pytest.approx({"a": 1 / 8, "c": 2 / 8, "d": 5 / 8}, abs=0.03)


def test_a_pair_without_any_weight_uses_its_first_caption() -> None:
    assert shares(Weighted(weights={}, default=0), 50) == {"a": 1.0}
