"""The exact best of the whole set, as one sort in one process gives it, on any cut, ties included."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.stages.top_fraction import TopFraction
from curation.table import captions, schemas
from tests.helpers.lanes import examples
from tests.helpers.pairs import pair, pairs_of, run_global, same_verdicts

VALUES = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 0.25, 0.5, float("nan")]), st.floats(width=32))


def scored(values: list[list[float | None]]) -> pa.Table:
    pairs = pairs_of(*[pair(f"p{i}", *(f"t{k}" for k in range(len(each)))) for i, each in enumerate(values)])
    order = [int(url.rsplit("/p", 1)[1]) for url in pairs.column("url").to_pylist()]
    flat = pa.array([value for at in order for value in values[at]], pa.float32())
    return captions.with_fields(pairs, pa.table({"score": flat}))


def has(value: float | None) -> bool:
    return value is not None and value == value


def oracle(pairs: pa.Table, keep: int | None, fraction: float | None, per: str, ties: str) -> list:
    """What stays: (uid, place) of captions, or uids."""
    rows = zip(pairs.column("uid").to_pylist(), pairs.column("captions").to_pylist(), strict=True)
    items = []
    for uid, own in rows:
        there = [(c["score"], at) for at, c in enumerate(own) if has(c["score"])]
        if per == "pair" and there:
            items.append((-max(there)[0], uid))
        elif per == "caption":
            items += [(-score, uid, at) for score, at in there]
    num = keep if keep is not None else int(Fraction(str(fraction)) * len(items))
    items.sort()
    if ties == "all" and items:  # a fraction has one more to begin with
        last = items[min(num + (fraction is not None), len(items)) - 1][0]
        num = sum(item[0] <= last for item in items)
    return [item[1:] for item in items[:num]]


@examples(80)
@given(
    st.lists(st.lists(VALUES, max_size=3), min_size=1, max_size=40),
    st.sampled_from(["pair", "caption"]),
    st.one_of(st.integers(1, 60), st.sampled_from([0.01, 0.29, 0.3, 0.5, 1.0])),
    st.integers(1, 5),
    st.sampled_from(["by_uid", "all"]),
)
def test_what_stays_is_what_a_sort_says(values, per, aim, buckets, ties):
    pairs = scored(values)
    keep, fraction = (aim, None) if isinstance(aim, int) else (None, aim)
    stage = TopFraction(column="captions.score", per=per, keep=keep, fraction=fraction, ties=ties)
    found = run_global(stage, pairs, 0, buckets)
    wanted = oracle(pairs, keep, fraction, per, ties)
    uids = pairs.column("uid").to_pylist()
    if per == "pair":
        stays = [(uid,) for uid, why in zip(uids, found.reason.to_pylist(), strict=True) if why is None]
    else:
        stays = [
            (uid, int(c["text"][1:])) for uid, own in zip(uids, found.captions.to_pylist(), strict=True) for c in own
        ]
    assert sorted(stays) == sorted(wanted)
    assert same_verdicts(found, run_global(stage, pairs, 0, 1))


def test_many_equal_values_are_told_apart_by_uid():
    num = 120_000  # more than are gathered at once
    uids = [f"{i * 35_791:032x}" for i in range(num)]
    silent = pa.array([[]] * num, schemas.CAPTIONS)
    pairs = pa.table({"uid": uids, "q": np.repeat([1.0, 2.0], [num - 10, 10]), "captions": silent})
    found = run_global(TopFraction(column="q", keep=70_000), pairs, 0, 3).reason
    kept = {uid for uid, why in zip(uids, found.to_pylist(), strict=True) if why is None}
    assert kept == set(uids[-10:]) | set(uids[: 70_000 - 10])


def test_reasons():
    pairs = scored([[0.1], [0.2], [None], []])
    found = run_global(TopFraction(column="captions.score", keep=1), pairs)
    assert sorted(map(str, found.reason.to_pylist())) == ["None", "below_fraction", "no_value", "no_value"]


@pytest.mark.parametrize("wrong", [{}, {"keep": 1, "fraction": 0.5}, {"keep": 1, "per": "caption"}])
def test_one_aim_and_a_column_that_fits(wrong):
    with pytest.raises(ValidationError):
        TopFraction(column="width", **wrong)


def test_sources_are_for_captions_that_are_chosen_one_by_one():
    with pytest.raises(ValidationError, match="per: caption"):
        TopFraction(column="captions.score", keep=1, sources=["synthetic"])
    with pytest.raises(ValidationError, match="captions.score"):
        TopFraction(column="width", keep=1, sources=["synthetic"])
