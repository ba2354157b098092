"""Training begins on a finished dataset or not at all."""

import pytest

from pipeline.cluster.node.gate import _reads, manifest_step, require_inputs
from pipeline.errors import DataError
from pipeline.recipe import Recipe
from tests.helpers.datasets import make_dataset


@pytest.fixture
def recipe(tmp_path):
    make_dataset(str(tmp_path / "data"), shards=2, pairs=4)
    output = str(tmp_path / "data")
    return Recipe("r", {"curate": {"output": output}, "train": {"data": [output + "/"]}})


def test_a_whole_dataset_passes(recipe):
    require_inputs(recipe, "train")
    assert manifest_step(recipe) == 1


@pytest.mark.parametrize(("break_it", "words"), [
    (lambda data: (data / "manifest.json").unlink(), "no manifest.json"),
    (lambda data: (data / "shard-000001.tar").unlink(), "1 of 2 shards are missing"),
    (lambda data: (data / "shard-000000.tar").write_bytes(b"x"), "of another size, the first shard-000000.tar"),
    (lambda data: (data / "manifest.json").write_text("{}"), "manifest.json"),
])  # fmt: skip
def test_what_is_not_finished_is_named(recipe, tmp_path, break_it, words):
    break_it(tmp_path / "data")
    with pytest.raises(DataError, match=words):
        require_inputs(recipe, "train")
    require_inputs(recipe, "curate")


def test_teachers_wait_for_it_as_training_does(recipe, tmp_path):
    (tmp_path / "data/manifest.json").unlink()
    teachers = Recipe("r", {**recipe.data, "reinforce": {"data": [str(tmp_path / "data")]}})
    with pytest.raises(DataError, match="no manifest.json"):
        require_inputs(teachers, "reinforce")


def test_data_of_another_origin_are_not_looked_at(recipe, tmp_path):
    (tmp_path / "data/manifest.json").unlink()
    elsewhere = Recipe("r", {**recipe.data, "train": {"data": ["elsewhere"]}})
    require_inputs(elsewhere, "train")
    assert manifest_step(recipe) == 0


@pytest.mark.parametrize(
    ("data", "output", "is_it"),
    [
        ("s3://bucket/set/", "s3://bucket/set", True), ("s3://bucket/set", "s3://bucket/other", False),
        ("s3://bucket/set", "/bucket/set", False), ("/bucket/set", "s3://bucket/set", False),
        ("./data", "data", True), ("/x/data/", "/x/data", True),
        (["elsewhere", "data"], "data", True), ([], "data", False), (None, "data", False),
    ],
)  # fmt: skip
def test_a_stage_waits_for_the_output_that_it_reads_wherever_that_is(data, output, is_it):
    assert _reads(Recipe("r", {"train": {"data": data} if data is not None else {}}), "train", output) is is_it
