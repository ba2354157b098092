"""A cluster counts the items of a reference set that are nearest to the mean of its members."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.methods.vectors.clip_model import as_column
from curation.stage import Context
from curation.stage_order import check_stages
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.kmeans import Kmeans
from curation.stages.reference_clusters import ReferenceClusters
from pipeline.errors import DataError, RecipeError
from tests.helpers import cuts, tiny_clip, tiny_set
from tests.helpers.pairs import encoded, pair, pairs_of, picture, run_global

RNG = np.random.default_rng(0)


def clustered(num: int = 60, width: int = 6) -> pa.Table:
    pairs = pairs_of(*[pair(f"p{i}") for i in range(num)])
    pairs = pairs.append_column("image_vector", as_column(RNG.normal(size=(num, width)).astype(np.float16), width))
    of = [None if i == 7 else i % 5 * 3 for i in range(num)]
    return pairs.append_column("cluster", pa.array(of, pa.int32()))


def oracle(pairs: pa.Table, wanted: np.ndarray) -> list[int | None]:
    vectors = np.array(pairs.column("image_vector").to_pylist(), np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    of = pairs.column("cluster").to_pylist()
    there = sorted({each for each in of if each is not None})
    means = np.stack([np.mean([v for v, c in zip(vectors, of, strict=True) if c == at], axis=0) for at in there])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    nearest = [there[int((means @ each).argmax())] for each in wanted.astype(np.float64)]
    return [None if each is None else nearest.count(each) for each in of]


@pytest.mark.parametrize("form", ["npy", "npz", "parquet"])
def test_items_are_counted_at_their_nearest_cluster(tmp_path, form):
    pairs, wanted = clustered(), RNG.normal(size=(23, 6)).astype(np.float32)
    path, key = tmp_path / f"reference.{form}", {"npy": None, "npz": "l14_img", "parquet": "v"}[form]
    if form == "npy":
        np.save(path, wanted)
    elif form == "npz":
        np.savez(path, l14_img=wanted, b32_img=wanted[:, :2])
    else:
        pq.write_table(pa.table({"v": list(wanted), "n": [0] * 23}), path)
    stage = ReferenceClusters(path=str(path), key=key)
    found = run_global(stage, pairs, 0, 4)
    assert (
        found.columns.column("reference_items").to_pylist() == oracle(pairs, wanted) and found.reason.null_count == 60
    )
    (section,) = stage.sections({}, cuts.reduced(stage, [pairs], Context(0, 60)))
    assert sum(row[1] for row in section.rows) == 23


def test_images_are_embedded_by_the_model_that_is_named(tmp_path):
    pictures = [picture(seed, (80, 70)) for seed in range(4)]
    path = tiny_set.write(tmp_path / "set", [*[(encoded(each), "x") for each in pictures], (b"no picture", "x")])
    stage = ClipImageVector(**tiny_clip.kept())
    bodies = pa.array([encoded(each) for each in pictures], pa.large_binary())
    vectors = stage.open(Context())(pa.table({"image": bodies})).column("image_vector")
    pairs = pairs_of(*[pair(f"p{i}") for i in range(4)]).append_column("image_vector", vectors)
    pairs = pairs.append_column("cluster", pa.array([0, 1, 2, 2], pa.int32()))
    found = run_global(ReferenceClusters(path=str(path), embed=tiny_clip.kept()), pairs).columns.column(
        "reference_items"
    )
    assert found.to_pylist()[:2] == [1, 1]


def test_wrong_references_are_refused(tmp_path):
    before = [ClipImageVector(**tiny_clip.kept()), Kmeans(k=2)]
    images = tiny_set.write(tmp_path / "set", [(encoded(picture(0)), "x")])
    with pytest.raises(RecipeError, match=r"stages\.2\.path: .*no model is named"):
        check_stages([*before, ReferenceClusters(path=str(images))])
    with pytest.raises(RecipeError, match=r"stages\.2\.path"):
        check_stages([*before, ReferenceClusters(path=str(tmp_path / "gone"), embed=tiny_clip.kept())])
    other = tiny_clip.saved(tmp_path, 5)
    with pytest.raises(RecipeError, match=r"stages\.2\.embed: .*expected one model"):
        check_stages([*before, ReferenceClusters(path=str(images), embed=other)])
    check_stages([*before, ReferenceClusters(path=str(images), embed=tiny_clip.kept())])
    for name, array, said in (
        ("wide", np.ones((2, 9), np.float32), "vectors of 9 values"), ("nan", np.full((2, 6), np.nan), "not finite"),
        ("flat", np.ones(6), "shape"), ("whole", np.ones((2, 6), int), "int64"),
    ):  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(DataError, match=said):
            run_global(ReferenceClusters(path=str(tmp_path / f"{name}.npy")), clustered())
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="torn"):
        run_global(ReferenceClusters(path=str(tmp_path / "torn.npy")), clustered())


def test_a_pair_without_a_vector_moves_no_other_to_its_cluster(tmp_path):
    pairs = clustered()
    vectors = pairs.column("image_vector").to_pylist()
    at = pairs.schema.get_field_index("image_vector")
    without = pairs.set_column(at, "image_vector", pa.array([None, *vectors[1:]], pairs.schema.field(at).type))
    np.save(tmp_path / "reference.npy", RNG.normal(size=(23, 6)).astype(np.float32))
    stage = ReferenceClusters(path=str(tmp_path / "reference.npy"))
    found = run_global(stage, without).columns.column("reference_items").to_pylist()
    assert found[1:] == run_global(stage, pairs.slice(1)).columns.column("reference_items").to_pylist()
