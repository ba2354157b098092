"""Pairs counted from footers, manifests and names."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.runner.costs import counted as module
from curation.runner.costs.counted import counted
from curation.runner.inputs.naming import listed
from curation.settings import CurateSettings
from pipeline.errors import DataError
from tests.helpers.datasets import make_dataset


def count(tmp_path: Path, *sources: dict[str, Any]) -> module.Counted | None:
    settings = CurateSettings.model_validate({"sources": list(sources), "output": str(tmp_path / "out")})
    return counted(settings, listed(settings))


def tables(folder: Path, *rows: int) -> dict[str, Any]:
    folder.mkdir()
    for number, many in enumerate(rows):
        urls = [f"http://a.test/{number}/{at}.jpg" for at in range(many)]
        pq.write_table(pa.table({"url": urls, "caption": ["x"] * many}), folder / f"{number:03d}.parquet")
    return {"kind": "table", "paths": [str(folder)]}


def test_rows_of_tables_and_pairs_of_shards_add_up(tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "set"), shards=3, pairs=32)
    found = count(tmp_path, tables(tmp_path / "t", 5, 7), {"kind": "shards", "paths": [str(tmp_path / "set")]})
    assert found == (5 + 7 + 96, "footers of 2 tables, manifests of 1 datasets")


def test_images_of_folders_are_counted_by_their_names(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/1.txt", "b/1.png", "b/2.webp", "b/2.0.txt", "b/2.1.txt", "b/lost.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    assert count(tmp_path, {"kind": "files", "paths": [str(tmp_path / "in")]}) == (3, "names of files")


def test_some_of_many_tables_tell_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FOOTERS", 3)
    found = count(tmp_path, tables(tmp_path / "t", *[1000] * 10))
    assert found is not None and found.pairs == pytest.approx(10_000, rel=0.01)
    assert found.words == "footers of 3 of 10 tables, others by their bytes"


def test_crawls_and_plain_texts_do_not_tell(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"x")
    (tmp_path / "a.csv").write_text("url,caption\nhttp://a.test/1.jpg,a\n")
    parquet = tables(tmp_path / "t", 5)
    assert count(tmp_path, parquet, {"kind": "warc", "paths": [str(tmp_path / "a.warc.gz")]}) is None
    assert count(tmp_path, {"kind": "table", "paths": [str(tmp_path / "a.csv")]}) is None


def test_shards_without_a_manifest_do_not_tell(tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "set"), shards=1, pairs=4)
    (tmp_path / "set/manifest.json").unlink()
    assert count(tmp_path, {"kind": "shards", "paths": [str(tmp_path / "set")]}) is None


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    source = tables(tmp_path / "t", 5)
    (tmp_path / "t/000.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(DataError, match=r"000\.parquet, the footer"):
        count(tmp_path, source)
