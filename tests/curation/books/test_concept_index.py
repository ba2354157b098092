"""`concept_index/`: who mentions what, and how often, as the dataset itself says."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curation.books.concept_index import uids_with
from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.dataset import RawPair, open_dataset
from tests.helpers import small_crawl

ENTRIES = small_crawl.WORDS


def made(folder: Path, buckets: int = 4, balanced: bool = True, concepts: bool = True) -> Path:
    plain = small_crawl.recipe(
        small_crawl.write(folder / "in", small_crawl.records()), folder / "out", folder / "e.json"
    )
    stages = [each for each in plain["stages"] if balanced or each["kind"] != "balance"]
    emit = {"pairs_per_shard": 8, "concepts": concepts}
    settings = CurateSettings.model_validate({**plain, "stages": stages, "emit": emit, "buckets": buckets})
    curate(settings, name="test", seed=3, quiet=True)
    return folder / "out"


def pairs_of(out: Path) -> list[RawPair]:
    data = open_dataset(str(out))
    return [pair for at, shard in enumerate(data.shards) for pair in data.read_many(at, range(shard.num_pairs))]


def words(pair: RawPair) -> list[set[str]]:
    """Of each distinct text."""
    return [set(text.lower().split()) for text in {each["text"] for each in pair.meta["captions"]}]


@pytest.mark.parametrize("buckets", [1, 4])
def test_counts_and_uids_are_those_of_the_pairs(tmp_path, buckets):
    out = made(tmp_path, buckets)
    pairs, rows = pairs_of(out), pq.read_table(out / "concept_index/counts.parquet").to_pylist()
    kept = Counter(word for pair in pairs for text in words(pair) for word in text if word in ENTRIES)
    before = json.loads((out / "entry_counts.json").read_text())
    assert [row["entry"] for row in rows] == ENTRIES and [row["form"] for row in rows] == ENTRIES
    assert {row["entry"]: row["kept"] for row in rows} == {word: kept[word] for word in ENTRIES} and kept.total() > 20
    assert {row["entry"]: row["texts"] for row in rows} == before
    assert [row["bin"] for row in rows] == [len(str(row["kept"])) if row["kept"] else 0 for row in rows]
    for row in rows:
        who = sorted(pair.uid for pair in pairs if any(row["entry"] in text for text in words(pair)))
        assert list(uids_with(str(out), row["number"])) == who, row


def test_without_a_count_before_there_is_none_and_without_asking_no_folder(tmp_path):
    out = made(tmp_path / "a", balanced=False)
    table = pq.read_table(out / "concept_index/counts.parquet")
    assert table.column("texts").null_count == len(ENTRIES) and max(table.column("kept").to_pylist()) > 0
    assert not (made(tmp_path / "b", concepts=False) / "concept_index").exists()


def test_a_recipe_that_stops_asking_removes_what_it_had(tmp_path):
    out = made(tmp_path)
    assert len(list((out / "concept_index").iterdir())) == 5
    made(tmp_path, concepts=False)
    assert not list(out.rglob("concept_index/*"))
    (made(tmp_path) / "concept_index/counts.parquet").unlink()
    assert (made(tmp_path) / "concept_index/counts.parquet").exists()


def test_it_takes_a_stage_that_says_what_is_mentioned():
    with pytest.raises(ValidationError, match="concept_match"):
        CurateSettings.model_validate({
            "sources": [{"kind": "warc", "paths": ["x"]}], "stages": [], "output": "o", "emit": {"concepts": True},
        })  # fmt: skip
