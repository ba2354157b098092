"""Reinforced sets: what is written is read again bit by bit, and what is missing, other or damaged is named."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.contract.dataset import open_dataset
from pipeline.contract.reinforced.manifest import ReinforcedManifest, TeacherEntry
from pipeline.contract.reinforced.side_cars import (
    Written,
    open_reinforced,
    values_of,
    vector_bytes,
    verify_set,
    write_side_cars,
)
from pipeline.errors import DataError
from tests.helpers.datasets import make_dataset, make_pair

TEACHERS = [
    TeacherEntry(name="big", image="a" * 16, text="b" * 16, image_width=3, text_width=2),
    TeacherEntry(name="old", image="c" * 16, text="d" * 16, image_width=1, text_width=1),
]
VIEWS = [{"box": [0.1, 0.2, 7.3, 1e-7], "flip": True, "changes": [["hue", -0.07]]},
         {"box": [], "flip": False, "changes": []}]  # fmt: skip


def vectors(number: int, views: int, texts: int) -> list[np.ndarray]:
    made = np.random.default_rng(number)
    return [made.normal(size=(many, width)).astype(np.float32)
            for widths in ((3, 2), (1, 1)) for many, width in zip((views, texts), widths, strict=True)]  # fmt: skip


def written(number: int, dtype: str) -> Written:
    """Pair `number`; of every fourth the picture could not be opened."""
    views = [] if number % 4 == 3 else VIEWS
    texts = [each["text"] for each in make_pair(number).meta["captions"]]
    data = b"".join(vector_bytes(dtype, one) for one in vectors(number, len(views), len(texts)))
    return Written(make_pair(number).uid, views, texts, data)


def make_set(folder: str, dtype: str = "fp16", name: str = "dr"):
    dataset = open_dataset(folder)
    where = f"{folder}/reinforced/{name}"
    shards = [write_side_cars(where, n, (written(n * 6 + row, dtype) for row in range(6))) for n in range(2)]
    manifest = ReinforcedManifest(
        data=dataset.digest, seed=3, views=2, dtype=dtype, image={"resize": "squash"}, teachers=TEACHERS, shards=shards
    )
    manifest.save(folder, name)
    return dataset


@pytest.fixture
def folder(tmp_path):
    make_dataset(str(tmp_path / "data"), 2, 6)
    return str(tmp_path / "data")


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_pairs_come_back_in_any_order_with_their_bits(folder, dtype):
    found = open_reinforced(make_set(folder, dtype), "dr")
    for one in (found, pickle.loads(pickle.dumps(found))):
        rows = one.read_many(1, [5, 0, 3, 0])
        assert [row.uid for row in rows] == [make_pair(6 + n).uid for n in (5, 0, 3, 0)]
        for number, row in zip((11, 6, 9, 6), rows, strict=True):
            views = [] if number % 4 == 3 else VIEWS
            assert row.views == views
            parts = iter(vectors(number, len(views), 2))
            for teacher in ("big", "old"):
                for got, want in zip(row.vectors[teacher], parts, strict=False):
                    least = 0 if dtype == "fp32" else np.abs(want) * 2.0 ** (-11 if dtype == "fp16" else -8) + 1e-7
                    assert got.shape == want.shape and (np.abs(values_of(dtype, got) - want) <= least).all()
            assert row.row_of(f"title {number}") == 1 and row.row_of("another text") is None
    verify_set(make_set(folder, dtype), "dr")


def test_bf16_is_rounded_to_the_nearest_and_ties_to_even():
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.5, 0.0], np.float32)
    want = np.array([1.0, 1 + 2**-6, 1 + 2**-7, -3.5, 0.0], np.float32)
    assert np.array_equal(values_of("bf16", np.frombuffer(vector_bytes("bf16", halves), "<u2")), want)


def test_the_same_pairs_give_the_same_bytes(folder, tmp_path):
    make_set(folder)
    make_set(folder, name="again")
    for name in ("shard-000001.bin", "shard-000001.parquet", "reinforced.json"):
        assert (Path(folder) / "reinforced/dr" / name).read_bytes() == (
            Path(folder) / "reinforced/again" / name
        ).read_bytes()
    first = (Path(folder) / "reinforced/dr/shard-000000.bin").read_bytes()
    assert struct.unpack("<3e", first[:6]) == tuple(vectors(0, 2, 2)[0][0].astype(np.float16))


def test_a_set_that_is_not_there_says_what_to_type(folder):
    with pytest.raises(DataError, match=r"no reinforced.json(.|\n)*clipmill reinforce RECIPE"):
        open_reinforced(open_dataset(folder), "dr")


def test_a_set_of_another_dataset_is_refused(folder, tmp_path):
    make_set(folder)
    make_dataset(str(tmp_path / "other"), 2, 6, first=50)
    (Path(folder) / "reinforced").rename(tmp_path / "other/reinforced")
    with pytest.raises(DataError, match=r"was written for dataset(.|\n)*reinforce.fresh=true"):
        open_reinforced(open_dataset(str(tmp_path / "other")), "dr")


@pytest.mark.parametrize("name", ["shard-000001.bin", "shard-000001.parquet", "reinforced.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "lost"])
def test_damage_is_named_before_a_number_is_used(folder, name, damage):
    dataset, path = make_set(folder), Path(folder) / "reinforced/dr" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    with pytest.raises(DataError) as error:
        found = open_reinforced(dataset, "dr")
        for shard in range(2):
            found.read_many(shard, range(6))
    assert "reinforce" in error.value.hint and "reinforced/dr" in error.value.where
    with pytest.raises(DataError):
        verify_set(dataset, "dr")


def test_an_edited_manifest_is_refused(folder):
    dataset, path = make_set(folder), Path(folder) / "reinforced/dr/reinforced.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 4}))
    with pytest.raises(DataError, match="damaged or edited"):
        open_reinforced(dataset, "dr")
