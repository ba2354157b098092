from pathlib import Path

import pytest

from pipeline.cluster.schedulers import shares
from pipeline.errors import UsageError
from pipeline.recipe import Recipe
from tests.helpers import small_crawl


def crawl(folder: Path, names: list[str]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return [str(folder / name) for name in names]


def recipe(tmp_path: Path, *sources: object, **more: object) -> Recipe:
    curation = {"sources": [{"kind": "warc", "paths": each} for each in sources], "output": str(tmp_path / "out")}
    return Recipe("run.yaml", {"name": "r", "seed": 3, "curate": {**curation, **more}, "train": {"steps": 1}})


def test_the_shares_are_all_inputs_each_once(tmp_path):
    one, two = crawl(tmp_path / "a", list("edcba")), crawl(tmp_path / "b", list("xyz"))
    whole = recipe(tmp_path, [f"{tmp_path}/a/*"], two)
    dealt = [shares.share_of(whole, tmp_path / str(n), n, 3) for n in range(3)]
    found = [path for share in dealt for source in share.data["curate"]["sources"] for path in source["paths"]]
    assert sorted(found) == sorted([*one, *two])
    assert {len(source["paths"]) for share in dealt for source in share.data["curate"]["sources"]} == {1, 2}


def test_a_share_fills_the_pool_of_the_run_and_has_an_output_of_its_own(tmp_path):
    files = crawl(tmp_path / "a", ["1"])
    share = shares.share_of(recipe(tmp_path, files), tmp_path / "0", 0, 2)
    assert share.data["curate"]["pool"] == str(tmp_path / "out/_pool")
    assert share.data["curate"]["output"] == str(tmp_path / "0/output")
    assert share.data["seed"] == 3 and not share.has("train")
    assert shares.share_of(recipe(tmp_path, files), tmp_path / "1", 1, 2) is None
    named = shares.share_of(recipe(tmp_path, files, pool="s3://bucket/pool"), tmp_path / "0", 0, 2)
    assert named.data["curate"]["pool"] == "s3://bucket/pool"


@pytest.mark.parametrize("number, count", [(2, 2), (-1, 2), (0, 0)])
def test_there_is_no_other_share(tmp_path, number, count):
    with pytest.raises(UsageError):
        shares.share_of(recipe(tmp_path, []), tmp_path, number, count)


def test_a_run_that_curates_nothing_has_no_shares(tmp_path):
    with pytest.raises(UsageError, match="curate"):
        shares.share_of(Recipe("run.yaml", {"train": {}}), tmp_path, 0, 1)


@pytest.mark.slow
def test_a_dataset_made_after_its_shares_has_the_bytes_of_one_made_at_once(tmp_path):
    from curation.runner.driver import curate
    from curation.settings import CurateSettings

    def made(section: dict) -> None:
        curate(CurateSettings.model_validate(section), name="r", seed=3)

    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(24), files=3)
    at_once = small_crawl.recipe(paths, tmp_path / "at_once", tmp_path / "entries.json")
    made(at_once)
    whole = Recipe("run.yaml", {"seed": 3, "curate": {**at_once, "output": str(tmp_path / "whole")}})
    for number in range(2):
        made(shares.share_of(whole, tmp_path / str(number), number, 2).data["curate"])
    made(whole.data["curate"])
    assert small_crawl.outcome(tmp_path / "whole") == small_crawl.outcome(tmp_path / "at_once")
