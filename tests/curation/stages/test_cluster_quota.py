"""Quotas follow the formulas written out in plain numpy, add up, and the first of each cluster's order stay."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.methods import first_of_each
from curation.methods.vectors.clip_model import as_column
from curation.stages import cluster_quota
from curation.stages.cluster_quota import ClusterQuota
from tests.helpers.pairs import pair, pairs_of, run_global


def clustered(num: int, k: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    own = np.sort(np.minimum(rng.zipf(1.6, num), k)) * 3 - 3
    centres = rng.normal(size=(3 * k, 8))
    spread = rng.random(3 * k)
    vectors = (centres[own] + spread[own, None] * rng.normal(size=(num, 8))).astype(np.float16)
    pairs = pairs_of(*[pair(f"p{i}") for i in range(num)])
    far = (rng.integers(0, 8, num) / 8).astype(np.float32)
    columns = {"image_vector": as_column(vectors, 8), "cluster": pa.array(own, pa.int32()), "cluster_distance": far}
    for name, column in columns.items():
        pairs = pairs.append_column(name, pa.array(column))
    return pairs


def complexity(pairs: pa.Table, neighbours: int) -> dict[int, float]:
    vectors = np.array(pairs.column("image_vector").to_pylist(), np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own, far = pairs.column("cluster").to_numpy(), pairs.column("cluster_distance").to_numpy()
    names = np.unique(own)
    centres = np.stack([vectors[own == c].sum(axis=0) for c in names])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    found = {}
    for at, c in enumerate(names):
        others = np.sort(1 - np.delete(centres, at, axis=0) @ centres[at])[:neighbours]
        found[int(c)] = float(far[own == c].mean() * (others.mean() if len(others) else 1))
    return found


def clipped(aim: np.ndarray, low: np.ndarray, high: np.ndarray, total: int) -> np.ndarray:
    """The projection, by halving an interval of shifts."""
    a, b = -2.0 * total, 2.0 * total
    for _ in range(200):
        middle = (a + b) / 2
        a, b = (middle, b) if np.clip(aim + middle, low, high).sum() < total else (a, middle)
    return np.clip(aim + a, low, high)


@pytest.mark.parametrize(
    ("k", "neighbours", "temperature", "balance"),
    [(1, 20, 0.1, 0.5), (6, 2, 0.1, 0.5), (9, 20, 0.02, 0.0), (6, 3, 0.01, 1.0)],
)
@pytest.mark.parametrize("total", [7, 60, 150])
@pytest.mark.parametrize(
    ("meet", "wide", "rows", "first"),
    [
        (65_536, 4096, 1024, "far_from_centre"), (16, 4096, 2, "near_to_centre"), (65_536, 2, 1024, "near_to_centre"),
        (16, 1, 1024, "far_from_centre"), (65_536, 4, 2, "far_from_centre"),
    ],
)  # fmt: skip
def test_quotas_are_those_of_the_formulas(
    monkeypatch, k, neighbours, temperature, balance, total, meet, wide, rows, first
):
    monkeypatch.setattr(first_of_each, "_MEET", meet)  # so that keys are searched for, and not gathered at once
    monkeypatch.setattr(cluster_quota, "_WIDE", wide)  # so that centres come in pieces
    monkeypatch.setattr(cluster_quota, "_ROWS", rows)  # and are held against others a few at a time
    pairs = clustered(200, k)
    stage = ClusterQuota(keep=total, neighbours=neighbours, temperature=temperature, balance=balance, order=first)
    verdicts = run_global(stage, pairs, 0, 3)
    own = pairs.column("cluster").to_numpy()
    dense = complexity(pairs, neighbours)
    names, sizes = np.unique(own, return_counts=True)
    powers = np.exp(np.array([dense[c] for c in names]) / temperature)
    low = np.minimum(int(total / len(names) * balance), sizes - 1)
    wanted = clipped(total * powers / powers.sum(), low, sizes, total)
    kept = np.array([reason is None for reason in verdicts.reason.to_pylist()])
    quota = np.array([kept[own == c].sum() for c in names])
    assert kept.sum() == total and np.abs(quota - wanted).max() < 1 - 1e-9
    added = verdicts.columns
    assert added["cluster_quota"].to_pylist() == [int(quota[np.searchsorted(names, c)]) for c in own]
    assert added["cluster_size"].to_pylist() == [int(sizes[np.searchsorted(names, c)]) for c in own]
    assert np.allclose(added["cluster_complexity"].to_numpy(), [dense[c] for c in own], atol=1e-5)
    far, uids = pairs.column("cluster_distance").to_pylist(), pairs.column("uid").to_pylist()
    for c, number in zip(names, quota, strict=True):
        order = sorted(
            np.flatnonzero(own == c), key=lambda i: (-far[i] if first == "far_from_centre" else far[i], uids[i])
        )
        assert kept[order].tolist() == [True] * number + [False] * (len(order) - number)


def test_pairs_without_a_cluster_go_and_an_empty_set_is_none():
    pairs = clustered(30, 3)
    none = pa.array([None, *pairs.column("cluster").to_pylist()[1:]], pa.int32())
    pairs = pairs.set_column(pairs.schema.get_field_index("cluster"), "cluster", none)
    verdicts = run_global(ClusterQuota(fraction=0.5), pairs)
    assert verdicts.reason[0].as_py() == "no_group" and verdicts.reason.null_count == 14
    assert verdicts.columns["cluster_quota"][0].as_py() is None
    assert run_global(ClusterQuota(fraction=0.5), pairs.slice(0, 1)).reason.to_pylist() == ["no_group"]


def test_one_aim_is_wanted():
    for how in ({}, {"keep": 1, "fraction": 0.1}):
        with pytest.raises(ValidationError, match="either"):
            ClusterQuota(**how)


@pytest.mark.parametrize(("fraction", "kept"), [(0.35, 7), (0.39, 7), (0.95, 19)])
def test_a_fraction_is_rounded_down(fraction, kept):
    assert run_global(ClusterQuota(fraction=fraction), clustered(20, 2)).reason.null_count == kept


def test_a_share_alike_of_a_small_cluster_is_all_but_one_of_its_pairs():
    stage = ClusterQuota(keep=20, balance=1.0, temperature=0.01)
    assert stage._wanted(np.array([1.0, 0.0]), [100, 5], 20).to_pylist() == [16, 4]
