"""Shares of sections: drawn to their site as the moments of the beta-binomial say."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from curation.methods.site_shares import section_shares, weight_of_whole


def test_sections_that_differ_as_a_beta_says_are_given_its_weight():
    rng = np.random.default_rng(0)
    for weight, share in ((4.0, 0.3), (20.0, 0.5), (60.0, 0.1)):
        num = rng.integers(20, 200, 4000)
        bad = binom.rvs(
            num, beta.rvs(weight * share, weight * (1 - share), size=4000, random_state=rng), random_state=rng
        )
        assert weight_of_whole(bad, num) == pytest.approx(weight, rel=0.15)


def test_two_sections_are_enough_and_one_is_not():
    assert np.isinf(weight_of_whole(np.array([3]), np.array([9])))
    bad, num = np.array([0, 30]), np.array([30, 30])
    found = weight_of_whole(bad, num)
    # All the variance lies between the sections: a section tells all of its own pairs.
    assert found == 0.0
    assert section_shares(bad, num, 0.5, 10.0).tolist() == [0.0, 1.0]


def test_sections_that_chance_alone_lets_differ_share_what_their_site_shows():
    bad, num = np.array([5, 5, 5]), np.array([10, 10, 10])
    assert np.isinf(weight_of_whole(bad, num))
    assert section_shares(bad, num, 0.1, 30.0) == pytest.approx([(15 + 30 * 0.1) / 60] * 3)


@pytest.mark.parametrize(("bad", "num"), [([0, 0], [5, 5]), ([5, 5], [5, 5]), ([0, 1], [1, 1])])
def test_where_nothing_can_be_told_of_them_sections_are_their_site(bad, num):
    bad, num = np.array(bad), np.array(num)
    assert section_shares(bad, num, 0.25, 8.0) == pytest.approx([(bad.sum() + 2) / (num.sum() + 8)] * 2)
