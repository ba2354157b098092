"""Exactly so many pairs stay, those with the smallest draws, whatever the cut."""

import pytest

from curation.stages.sample import Sample
from pipeline.draws import keyed_uniform
from tests.helpers.pairs import pair, pairs_of, run_global


@pytest.mark.parametrize(("how", "number"), [({"fraction": 0.29}, 29), ({"keep": 37}, 37), ({"keep": 500}, 100)])
@pytest.mark.parametrize("buckets", [1, 5])
def test_those_with_the_smallest_draws_stay(how, number, buckets):
    pairs = pairs_of(*[pair(f"p{i}") for i in range(100)])
    reasons = run_global(Sample(**how), pairs, 3, buckets).reason.to_pylist()
    uids = pairs.column("uid").to_pylist()
    stays = [uid for uid, reason in zip(uids, reasons, strict=True) if reason is None]
    assert stays == sorted(sorted(uids, key=lambda uid: keyed_uniform(3, "sample", uid))[:number])
    assert set(reasons) <= {None, "not_sampled"}


def test_an_empty_set_stays_empty():
    assert run_global(Sample(fraction=0.5), pairs_of(pair("a")).slice(0, 0)).reason.to_pylist() == []
