"""The nearest centre is that of Python's whole numbers, in any blocks, in float32 and by torch, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.methods.vectors import nearest as module
from curation.methods.vectors.clusters import units
from curation.methods.vectors.nearest import Blocks, assigned, by_torch, nearest

ONE = 2**24


def close_vectors(rows: int, width: int, seed: int, spread: float) -> np.ndarray:
    """Some equal, some that differ by a bit, some far apart, some zero."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(max(rows // 3, 1), width))
    found = base[rng.integers(0, len(base), rows)] + spread * rng.normal(size=(rows, width))
    found[rng.random(rows) < 0.1] = 0
    return units(found)


def in_blocks(centres: np.ndarray, size: int) -> Blocks:
    return lambda: ((at, centres[at : at + size]) for at in range(0, len(centres), size))


def products(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Whole numbers of 2^-48."""
    left, right = (
        np.rint(each.astype(np.float64) * ONE).astype(np.int64).astype(object) for each in (vectors, centres)
    )
    return left @ right.T


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 30), st.integers(1, 20), st.integers(1, 40), st.sampled_from([1, 3, 64]),
    st.sampled_from([0.0, 1e-7, 1e-4, 1.0]), st.integers(0, 999),
)  # fmt: skip
def test_it_is_the_first_with_the_greatest_product(rows, width, number, size, spread, seed):
    both = close_vectors(rows + number, width, seed, spread)
    vectors, centres = both[:rows], both[rows:]
    wanted = products(vectors, centres)
    best = wanted.argmax(axis=1)
    for own, cosine in (
        assigned(vectors, in_blocks(centres, size)),
        by_torch(vectors, in_blocks(centres, size), "cpu"),
    ):
        assert own.tolist() == best.tolist()
        assert [int(each * ONE**2) for each in cosine] == [wanted[row][at] for row, at in enumerate(best)]
    for most in (1, 2, 5):
        order = [sorted(range(number), key=lambda c, row=row: (-wanted[row][c], c))[:most] for row in range(rows)]
        order = [each + [number] * (most - len(each)) for each in order]
        assert nearest(vectors, in_blocks(centres, size), most).tolist() == order


def test_rounding_in_float32_is_within_what_is_allowed_for():
    """Signs that agree, so that nothing cancels, at a width where it adds up."""
    for width in (8, 512, 2048):
        both = units(np.abs(np.random.default_rng(0).normal(size=(600, width))) + 1)
        exact = both[:300].astype(np.float64) @ both[300:].astype(np.float64).T
        assert np.abs(both[:300] @ both[300:].T - exact).max() < module.rounding(width)


def test_without_centres_there_is_no_nearest():
    own, cosine = assigned(units(np.ones((3, 4))), in_blocks(np.zeros((0, 4), np.float32), 2))
    assert own.tolist() == [-1] * 3 and cosine.tolist() == [0.0] * 3


@pytest.mark.parametrize("rows", [1, 7])
def test_more_rows_than_fit_at_once_change_nothing(monkeypatch, rows):
    both = close_vectors(40, 6, 5, 1e-7)
    wanted = [each.tolist() for each in (*assigned(both, in_blocks(both, 9)), nearest(both, in_blocks(both, 9), 3))]
    monkeypatch.setattr(module, "_ROWS", rows)
    monkeypatch.setattr(module, "_ON_GPU", rows)
    found = [each.tolist() for each in (*assigned(both, in_blocks(both, 9)), nearest(both, in_blocks(both, 9), 3))]
    assert found == wanted
    assert [each.tolist() for each in by_torch(both, in_blocks(both, 9), "cpu")] == wanted[:2]
