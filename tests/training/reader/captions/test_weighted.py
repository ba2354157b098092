"""The policy `weighted`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.reader.captions.test_policy import any_captions, close, exact_shares, shares, written_by_a_model
from training.reader.captions.weighted import Weighted


def test_weights_are_by_source_then_by_its_prefix_then_the_default() -> None:
    policy = Weighted(weights={"alt": 1, "rewrite": 2, "rewrite:two": 5}, default=0)
    assert shares(policy) == pytest.approx({"a": 1 / 8, "c": 2 / 8, "d": 5 / 8}, abs=0.03)


def test_a_pair_without_any_weight_uses_its_first_caption() -> None:
    assert shares(Weighted(weights={}, default=0), 50) == {"a": 1.0}


KEYS = ["alt", "caption", "caption:a", "rewrite", "rewrite:b", "original", "synthetic", "odd"]
weights = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 4))


def key(source: str, keys) -> str | None:
    names = [source, source.split(":")[0], "synthetic" if written_by_a_model(source) else "original"]
    return next((name for name in names if name in keys), None)


@given(any_captions, weights, st.integers(0, 2), st.sampled_from(["caption", "source"]))
def test_each_caption_has_the_share_of_its_weight_or_of_that_of_its_source(captions, weights, default, per):
    policy = Weighted(weights=weights, default=default, per=per)
    keys = [key(each["source"], weights) for each in captions]
    own = [weights.get(k, default) if k is not None else default for k in keys]
    if per == "source":
        own = [weight / keys.count(k) for weight, k in zip(own, keys, strict=True)]
    total = sum(own)
    expected = [weight / total for weight in own] if total else [1.0] + [0.0] * (len(captions) - 1)
    assert close(exact_shares(policy, captions), expected)


@given(any_captions, st.integers(0, 16))
def test_weights_go_from_the_originals_to_the_synthetic_over_the_run(captions, at):
    schedule = {"original": [[0, 1], [1, 0]], "synthetic": [[0, 0], [1, 1]]}
    policy = Weighted.model_validate({"weights": schedule, "per": "source"})
    written = [written_by_a_model(each["source"]) for each in captions]
    share = at / 16 if any(written) and not all(written) else float(all(written))
    found = exact_shares(policy, captions, at / 16)
    if all(written) and at == 0 or not any(written) and at == 16:
        assert found[0] == 1  # nothing has a weight: the first caption, which every pair has
    else:
        assert abs(sum(f for f, w in zip(found, written, strict=True) if w) - share) <= 4 / 1024


def test_with_a_weight_a_source_five_rewrites_weigh_no_more_than_one():
    captions = [{"text": "a", "source": "alt"}, *({"text": str(n), "source": "rewrite:x"} for n in range(5))]
    assert shares(Weighted(weights={"rewrite": 1}), captions=captions)["a"] == pytest.approx(1 / 6, abs=0.03)
    by_source = shares(Weighted(weights={"rewrite": 1}, per="source"), captions=captions)
    assert by_source["a"] == pytest.approx(1 / 2, abs=0.03)
