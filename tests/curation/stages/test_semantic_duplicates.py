"""Each mode removes what its rule says, written out in plain numpy, in any cut and with clusters in any blocks."""

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.methods.vectors import neighbours, tiles
from curation.methods.vectors.clip_model import as_column
from curation.methods.vectors.clusters import units
from curation.stage import Context
from curation.stages.kmeans import Kmeans
from curation.stages.semantic_duplicates import Order, SemanticDuplicates
from curation.table import schemas
from pipeline.errors import RecipeError
from tests.helpers import cuts
from tests.helpers.lanes import examples
from tests.helpers.pairs import by_url, pair, pairs_of, run_global, texts_of

ONE = 2**24


def crowd(num: int, seed: int, width: int = 8, clusters: int = 3, spread: float = 0.25) -> pa.Table:
    """Vectors in families, of clusters that are any, so that copies lie on both sides of borders; some have none."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(num // 6, 1), width))
    vectors = (centres[rng.integers(0, len(centres), num)] + spread * rng.normal(size=(num, width))).astype(np.float16)
    vectors[rng.random(num) < 0.1] = vectors[0]  # equal ones
    near = [rng.permutation(clusters)[:2].tolist() for _ in range(num)]
    far = (rng.integers(0, 5, num) / 5).tolist()  # ties
    pairs = pairs_of(*[pair(f"n{i}", f"caption {i}", *["more"] * (i % 3 > 1)) for i in range(num)])
    added = {
        "image_vector": as_column(vectors, width),
        "cluster": pa.array([each[0] for each in near], pa.int32()),
        "cluster_distance": pa.array(far, pa.float32()),
        "near_clusters": pa.array(near, pa.list_(pa.int32())),
    }
    for name, column in added.items():
        pairs = pairs.append_column(name, column)
    return pairs


def plain(pairs: pa.Table, stage: SemanticDuplicates) -> SimpleNamespace:
    """order of rows from the best down, and whether each two are alike and compared; in Python's whole numbers."""
    uids, far = pairs.column("uid").to_pylist(), pairs.column("cluster_distance").to_pylist()
    sign = {"far_from_centre": -1, "near_to_centre": 1}
    order = sorted(range(len(uids)), key=lambda i: (*[sign[name] * far[i] for name in stage.survivor], uids[i]))
    values = np.array(pairs.column("image_vector").to_pylist(), np.float64)
    unit = np.rint(values / np.sqrt((values**2).sum(axis=1, keepdims=True)) * ONE).astype(np.int64).astype(object)
    cosine = (unit @ unit.T).astype(np.float64) / ONE**2
    own = np.array(pairs.column("cluster").to_pylist())
    near = [set(each[: stage.probe]) for each in pairs.column("near_clusters").to_pylist()]
    met = np.array([[own[i] in near[j] or own[j] in near[i] for j in range(len(own))] for i in range(len(own))])
    alike = (cosine > 1 - stage.eps) & met & ~np.eye(len(own), dtype=bool)
    return SimpleNamespace(order=order, alike=alike, uids=uids)


def oracle(pairs: pa.Table, stage: SemanticDuplicates) -> list[str | None]:
    """The uid of the survivor of each pair that goes."""
    said = plain(pairs, stage)
    place = {row: at for at, row in enumerate(said.order)}
    survivor: dict[int, int] = {}
    if stage.mode == "components":
        label = connected_components(coo_array(said.alike), directed=False)[1]
        best = {}
        for row in said.order:
            best.setdefault(label[row], row)
        survivor = {row: best[label[row]] for row in said.order if best[label[row]] != row}
    for at, row in enumerate(said.order):
        earlier = [other for other in said.order[:at] if said.alike[row, other]]
        if stage.mode == "greedy":
            earlier = [other for other in earlier if other not in survivor]
        if earlier and stage.mode != "components":
            first = min(earlier, key=place.__getitem__)
            survivor[row] = survivor.get(first, first)
    return [said.uids[survivor[row]] if row in survivor else None for row in range(len(said.uids))]


@given(
    num=st.integers(1, 90), seed=st.integers(0, 10**6), mode=st.sampled_from(["greedy", "reference", "components"]),
    eps=st.sampled_from([1e-6, 0.02, 0.1, 0.3]), probe=st.integers(1, 2), buckets=st.integers(1, 4),
    slots=st.integers(1, 5), block=st.sampled_from([1, 3, 16_384]),
    survivor=st.sampled_from([("far_from_centre",), ("near_to_centre",), ()]),
)  # fmt: skip
@examples(50)
def test_who_goes_and_for_whom_is_what_the_plain_rule_says(
    num, seed, mode, eps, probe, buckets, slots, block, survivor
):
    pairs = crowd(num, seed)
    stage = SemanticDuplicates(mode=mode, eps=eps, probe=probe, survivor=survivor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "BLOCK", block)
        verdicts = run_global(stage, pairs, 0, buckets, slots)
    assert verdicts.detail.to_pylist() == oracle(pairs, stage)
    assert [reason is None for reason in verdicts.reason.to_pylist()] == [
        uid is None for uid in verdicts.detail.to_pylist()
    ]


def line(*degrees: float, cluster: tuple[int, ...] = ()) -> pa.Table:
    """Pairs n0, n1, ... of which each vector has its angle; the first is the best."""
    angles = np.radians(degrees)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    own = cluster or (0,) * len(degrees)
    pairs = pairs_of(*[pair(f"n{i}", f"caption {i}", uid=f"{i:032x}") for i in range(len(degrees))])
    pairs = pairs.append_column("image_vector", as_column(vectors, 2))
    pairs = pairs.append_column("cluster", pa.array(own, pa.int32()))
    pairs = pairs.append_column("near_clusters", pa.array([[c, 1 - c] for c in own], pa.list_(pa.int32())))
    return pairs.append_column("cluster_distance", pa.array([0.5] * len(degrees), pa.float32()))


def gone(pairs: pa.Table, **how) -> list[str]:
    reasons = by_url(pairs, run_global(SemanticDuplicates(eps=1 - np.cos(np.radians(12)), **how), pairs).reason)
    return sorted(name for name, reason in reasons.items() if reason)


def test_a_chain_collapses_by_the_rule_of_the_reference_and_not_greedily():
    chain = line(0, 10, 20, 30)
    assert gone(chain, mode="reference") == ["n1", "n2", "n3"]
    assert gone(chain, mode="greedy") == ["n1", "n3"]
    assert gone(line(0, 20, 10), mode="reference") == ["n2"]
    assert gone(line(0, 20, 10), mode="components") == ["n1", "n2"]


@pytest.mark.parametrize("order", get_args(Order))
def test_the_best_by_each_order_stays_though_a_stage_sees_only_what_it_reads(order):
    """n2 is the best by what is asked and the worst by all else, uid included."""
    far = {"far_from_centre": 0.9, "near_to_centre": 0.1}.get(order, 0.5)
    side = 30 if order == "area" else 10
    texts = {"num_captions": ["a", "b", "c"], "longest_caption": ["a long one"]}.get(order, ["a"])
    rows = [pair(f"n{i}", "aa", "b", uid=f"{i:032x}") for i in range(2)] + [pair("n2", *texts, uid=f"{9:032x}")]
    pairs = pairs_of(*rows)
    for name, column in {
        "image_vector": as_column(np.ones((3, 2), np.float16), 2),
        "width": pa.array([20, 20, side], pa.int32()),
        "height": pa.array([20, 20, side], pa.int32()),
        "cluster": pa.array([0] * 3, pa.int32()),
        "cluster_distance": pa.array([0.5, 0.5, far], pa.float32()),
    }.items():
        pairs = pairs.append_column(name, column)
    stage = SemanticDuplicates(survivor=[order])
    seen = pairs.select([name for name in pairs.column_names if name in {*schemas.PAIRS.names, *stage.reads}])
    assert run_global(stage, seen).reason.to_pylist() == ["copy", "copy", None]


def test_copies_across_a_border_are_found_when_it_is_probed():
    two = line(0, 1, cluster=(0, 1))
    assert gone(two) == [] and gone(two, probe=2) == ["n1"]


def test_captions_go_to_a_survivor_that_is_close_enough():
    pairs = line(0, 1, 11)
    how = {"eps": 0.1, "merge_captions": True, "merge_eps": 0.001}
    for mode in ("greedy", "reference", "components"):
        verdicts = run_global(SemanticDuplicates(mode=mode, **how), pairs)
        assert texts_of(pairs, verdicts)["n0"] == ["caption 0", "caption 1"]
    assert texts_of(pairs, run_global(SemanticDuplicates(eps=0.1), pairs))["n0"] == ["caption 0"]


def test_pairs_without_a_vector_stay():
    pairs = line(0, 0, 0)
    at = pairs.schema.get_field_index("image_vector")
    values = [None, *pairs.column("image_vector").to_pylist()[1:]]
    pairs = pairs.set_column(at, "image_vector", pa.array(values, pairs.schema.field(at).type))
    for table in (pairs, pairs.slice(0, 1), pairs.slice(0, 0)):
        assert run_global(SemanticDuplicates(), table).reason.to_pylist() == [None, None, "copy"][: len(table)]


def test_a_group_of_too_many_goes_whole():
    verdicts = run_global(SemanticDuplicates(eps=0.01, drop_over=2), line(0, 0, 0, 90))
    assert verdicts.reason.to_pylist() == ["too_many_copies"] * 3 + [None]


def test_a_dense_cluster_is_told_a_row_for_each_pair_and_not_for_each_two():
    pairs = line(*[i / 1000 for i in range(600)])
    for mode in ("greedy", "reference", "components"):
        stage = SemanticDuplicates(mode=mode)
        found = run_global(stage, pairs)
        assert found.reason.null_count == 1
    for mode, step in (("greedy", "compare"), ("reference", "link"), ("components", "link")):
        (told,) = cuts.grouped(SemanticDuplicates(mode=mode), [pairs], Context(0, 600), 1)
        assert all(each.num_rows < 2 * 600 for each in told.tables[step])


def test_more_clusters_than_kmeans_tells_are_refused_before_any_work():
    kinds = [Kmeans(k=3, near=2), SemanticDuplicates(probe=2)]
    kinds[1].check("curate.stages.1", kinds[:1])
    for near in (1, 2):
        with pytest.raises(RecipeError, match="kmeans"):
            SemanticDuplicates(probe=3).check("curate.stages.1", [Kmeans(k=3, near=near)])


@examples(60)
@given(st.integers(1, 60), st.integers(0, 999), st.sampled_from([1, 7, 512]), st.sampled_from([0.0, 1e-4, 0.3]))
def test_the_first_kept_is_that_of_a_loop_over_whole_numbers(num, seed, rows, spread):
    """Bounds that are the very cosines, so that the last bit decides."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(max(num // 4, 1), 6))
    vectors = units(base[rng.integers(0, len(base), num)] + spread * rng.normal(size=(num, 6)))
    whole = np.rint(vectors.astype(np.float64) * ONE).astype(np.int64).astype(object)
    cosine = whole @ whole.T
    bound = int(cosine[rng.integers(num), rng.integers(num)])
    wanted = [neighbours.NONE] * num
    for at in range(num):
        kept = [b for b in range(at) if wanted[b] == neighbours.NONE and cosine[at][b] > bound]
        wanted[at] = kept[0] if kept else neighbours.NONE
    before, neighbours._ROWS = neighbours._ROWS, rows
    try:
        assert neighbours.first_kept(vectors, bound / ONE**2).tolist() == wanted
    finally:
        neighbours._ROWS = before
