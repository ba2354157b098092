"""k-means as plain numpy in whole numbers has it, the same clusters on any cut."""

import numpy as np
import pyarrow as pa
import pytest

from curation.methods.vectors.clip_model import as_column
from curation.stage import Context
from curation.stages import kmeans
from curation.stages.kmeans import Kmeans
from curation.table import captions
from pipeline.draws import keyed_uniform
from tests.helpers import cuts
from tests.helpers.pairs import pair, pairs_of, run_global

ONE = 2**24


def clustered(num: int = 300, width: int = 8, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, width))
    vectors = (centres[rng.integers(0, 6, num)] + 0.3 * rng.normal(size=(num, width))).astype(np.float16)
    pairs = pairs_of(*[pair(f"p{i}") for i in range(num)])
    return pairs.append_column("image_vector", as_column(vectors, width))


def unit(values) -> np.ndarray:
    """int64 in units of 2^-24."""
    values = np.asarray(values, np.float64)
    return np.rint(values / np.sqrt((values**2).sum(axis=1, keepdims=True)) * ONE).astype(np.int64)


def oracle(pairs: pa.Table, k: int, rounds: int, share: float = 1.0) -> tuple[list[int], list[float]]:
    uids = pairs.column("uid").to_pylist()
    vectors = unit(pairs.column("image_vector").to_pylist())
    draws = [keyed_uniform(0, "kmeans", uid) for uid in uids]
    used = [i for i in range(len(uids)) if draws[i] < share]
    centres = vectors[sorted(used, key=lambda i: draws[i])[:k]]
    exact = vectors.astype(object)  # Python's whole numbers: nothing rounds
    for _ in range(rounds):
        number = (exact @ centres.astype(object).T).argmax(axis=1)
        sums = [vectors[[i for i in used if number[i] == c]].sum(axis=0) for c in range(len(centres))]
        centres = np.stack([unit([s])[0] if np.any(s) else old for s, old in zip(sums, centres, strict=True)])
    likeness = exact @ centres.astype(object).T
    number = likeness.argmax(axis=1)
    return number.tolist(), [1 - float(likeness[i][n]) / ONE**2 for i, n in enumerate(number)]


@pytest.mark.parametrize(("k", "rounds", "share"), [(1, 1, 1.0), (6, 3, 1.0), (12, 8, 0.4), (40, 5, 1.0)])
def test_clusters_are_those_of_plain_numbers(k, rounds, share):
    pairs = clustered()
    columns = run_global(Kmeans(k=k, rounds=rounds, share=share), pairs, 0, 4).columns
    number, distance = oracle(pairs, k, rounds, share)
    assert columns.column("cluster").to_pylist() == number
    assert np.abs(columns.column("cluster_distance").to_numpy() - distance).max() < 1e-6


@pytest.mark.parametrize(("k", "rounds", "share"), [(12, 8, 0.4), (40, 5, 1.0), (400, 2, 1.0), (30, 3, 1e-9)])
@pytest.mark.parametrize(("wide", "bins"), [(3, 1 << 18), (7, 64), (11, 4)])
def test_centres_in_pieces_are_the_same(monkeypatch, k, rounds, share, wide, bins):
    """Few of a piece; many draws in a bin, so that pieces are uneven."""
    pairs, stage = clustered(), Kmeans(k=k, rounds=rounds, share=share, near=2)
    whole = run_global(stage, pairs, 0, 4).columns
    monkeypatch.setattr(kmeans, "WIDE", wide)
    monkeypatch.setattr(kmeans, "_BINS", bins)
    for buckets in (1, 4):
        assert run_global(stage, pairs, 0, buckets).columns.equals(whole)


def lloyd(members: list[int], vectors: np.ndarray, k: int, rounds: int) -> np.ndarray:
    """`members` by their draws."""
    centres, exact = vectors[members[:k]], vectors.astype(object)
    for _ in range(rounds):
        own = (exact[members] @ centres.astype(object).T).argmax(axis=1)
        sums = [
            vectors[[m for m, o in zip(members, own, strict=True) if o == c]].sum(axis=0) for c in range(len(centres))
        ]
        centres = np.stack([unit([s])[0] if np.any(s) else old for s, old in zip(sums, centres, strict=True)])
    return centres


@pytest.mark.parametrize(
    ("levels", "rounds", "share", "per_centre", "buckets"),
    [
        ((4, 5), 6, 1.0, 256, 1),
        ((4, 5), 6, 1.0, 2, 5),
        ((3, 9), 3, 0.3, 1, 3),
        ((9, 1), 4, 1.0, 3, 2),
        ((1, 6), 5, 1.0, 9, 2),
    ],
)
def test_levels_are_k_means_within_k_means(levels, rounds, share, per_centre, buckets):
    pairs = clustered()
    uids, vectors = pairs.column("uid").to_pylist(), unit(pairs.column("image_vector").to_pylist())
    draws, exact = [keyed_uniform(0, "kmeans", uid) for uid in uids], vectors.astype(object)
    used = sorted((i for i in range(len(uids)) if draws[i] < share), key=lambda i: draws[i])
    coarse = lloyd(used, vectors, levels[0], rounds)
    own = (exact @ coarse.astype(object).T).argmax(axis=1)
    members = [[i for i in used if own[i] == c][: per_centre * levels[1]] for c in range(len(coarse))]
    fine = [lloyd(m, vectors, levels[1], rounds) if m else coarse[c : c + 1] for c, m in enumerate(members)]
    products = [exact[i] @ fine[c].astype(object).T for i, c in enumerate(own)]
    wanted = [int(c * levels[1] + p.argmax()) for c, p in zip(own, products, strict=True)]
    stage = Kmeans(levels=levels, rounds=rounds, share=share, per_centre=per_centre, near=4)
    columns = run_global(stage, pairs, 0, buckets).columns
    assert columns.column("cluster").to_pylist() == wanted
    far = [1 - float(p.max()) / ONE**2 for p in products]
    assert np.abs(columns.column("cluster_distance").to_numpy() - far).max() < 1e-6
    for i, near in enumerate(columns.column("near_clusters").to_pylist()):
        likeness = exact[i] @ coarse.astype(object).T
        probed = sorted(range(len(coarse)), key=lambda c: (-likeness[c], c))[:4]
        numbered = {c * levels[1] + j: exact[i] @ f.astype(object) for c in probed for j, f in enumerate(fine[c])}
        others = sorted((n for n in numbered if n != wanted[i]), key=lambda n: (-numbered[n], n))
        assert near == [wanted[i], *others][:4]


def test_either_k_or_levels():
    for settings in ({}, {"k": 3, "levels": (2, 2)}, {"levels": (2, 5000)}, {"levels": (0, 5)}):
        with pytest.raises(ValueError, match="levels"):
            Kmeans(**settings)


def test_a_coarse_cluster_that_nothing_is_nearest_to_has_its_own_centre_alone():
    same = np.ones((20, 8), np.float16)
    pairs = pairs_of(*[pair(f"p{i}") for i in range(20)]).append_column("image_vector", as_column(same, 8))
    found = run_global(Kmeans(levels=(4, 3), near=2), pairs).columns
    assert found.column("cluster").to_pylist() == [0] * 20
    assert {tuple(each) for each in found.column("near_clusters").to_pylist()} == {(0, 1)}


@pytest.mark.parametrize("settings", [{"k": 7}, {"levels": (3, 3)}])
def test_pairs_that_are_all_left_out_by_share_have_no_cluster(settings):
    found = run_global(Kmeans(**settings, share=1e-9, near=2), clustered(20)).columns
    assert all(column.null_count == 20 for column in found.columns)


@pytest.mark.parametrize("buckets", [2, 3, 17])
def test_the_cut_changes_no_bit(buckets):
    pairs = clustered(400, 16, 1)
    stage = Kmeans(k=9, rounds=10)
    assert run_global(stage, pairs, 0, 1).columns.equals(run_global(stage, pairs, 0, buckets).columns)


def test_it_ends_when_no_centre_moves():
    pairs = clustered(60)
    columns = run_global(Kmeans(k=3, rounds=60), pairs).columns
    assert columns.equals(run_global(Kmeans(k=3, rounds=1000), pairs).columns)


def test_pairs_without_a_vector_have_no_cluster():
    pairs = clustered(10)
    column = pa.array([None, *pairs.column("image_vector").to_pylist()[1:]], pairs.schema.field("image_vector").type)
    pairs = pairs.set_column(pairs.schema.get_field_index("image_vector"), "image_vector", column)
    for table in (pairs, pairs.slice(0, 1), pairs.slice(0, 0)):
        found = run_global(Kmeans(k=3), table).columns.column("cluster").to_pylist()
        assert found[:1] == [None][: len(table)] and None not in found[1:]


def test_near_clusters_are_those_with_the_greatest_cosine_and_the_own_one_first():
    pairs = clustered(80)
    columns = run_global(Kmeans(k=7, rounds=3, near=4), pairs, 0, 3).columns
    own = columns.column("cluster").to_pylist()
    vectors = unit(pairs.column("image_vector").to_pylist()).astype(object)
    stage, centres = Kmeans(k=7, rounds=3), None
    state = cuts.reduced(stage, [pairs], Context(0, 80))
    centres = np.frombuffer(b"".join(state.column("centres")[0].as_py()), np.float32).reshape(7, -1).astype(np.float64)
    centres = np.rint(centres * ONE).astype(np.int64).astype(object)
    for row, near in enumerate(columns.column("near_clusters").to_pylist()):
        likeness = [sum(a * b for a, b in zip(vectors[row], centre, strict=True)) for centre in centres]
        assert near == sorted(range(7), key=lambda c: (-likeness[c], c))[:4] and near[0] == own[row]


def test_a_text_is_clustered_by_the_first_caption():
    pairs = pairs_of(*[pair(f"p{i}", "one", "other") for i in range(20)], pair("none"))
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float16)
    texts = captions.with_fields(pairs, pa.table({"text_vector": as_column(vectors, 4)}))
    flat = captions.first(texts, "text_vector")
    images = pairs.append_column("image_vector", flat)
    found, wanted = (
        run_global(Kmeans(k=3, column=column), table).columns
        for column, table in (("captions.text_vector", texts), ("image_vector", images))
    )
    assert found.equals(wanted) and found.column("cluster").null_count == 1


def test_the_report_shows_pairs_of_clusters_from_the_largest_to_the_smallest():
    pairs = clustered(300)
    stage = Kmeans(k=20, rounds=50)
    state = cuts.reduced(stage, [pairs], Context(0))
    verdicts = stage.judge(pairs, state, Context(0))
    whole = pairs.append_column("cluster", verdicts.columns["cluster"])
    whole = whole.append_column("cluster_distance", verdicts.columns["cluster_distance"])
    shown = stage.shown(whole, verdicts, state)
    sizes = np.bincount(verdicts.columns["cluster"].to_numpy(), minlength=20)  # no centre moves any more
    numbers = [int(each.title.split()[1].rstrip(":")) for each in shown]
    assert len(set(numbers)) == len(shown) == 12 and [each.place for each in shown] == list(range(12))
    told = [sizes[number] for number in numbers]
    assert told == sorted(told, reverse=True) and told[0] == sizes.max() and told[-1] == sizes[sizes > 0].min()
    for number, each in zip(numbers, shown, strict=True):
        assert whole.column("cluster").take(pa.array(each.rows)).to_pylist() == [number] * len(each.rows)
        assert f"{sizes[number]:,} pairs" in each.title
