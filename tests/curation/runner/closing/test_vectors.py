"""Stages that read vectors get what the keys in the table stand for, of whatever sort they are, however it is cut."""

import pyarrow.parquet as pq
import pytest

from curation.methods.vectors.clip_model import ClipModel
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.table import captions
from tests.helpers import small_crawl, tiny_clip


@pytest.fixture
def embedded(monkeypatch) -> list[int]:
    """How many inputs the model was given, call by call."""
    calls: list[int] = []
    for name in ("images", "texts"):
        plain = getattr(ClipModel, name)
        counts = lambda self, rows, chunk, plain=plain: (calls.append(len(rows)), plain(self, rows, chunk))[1]  # noqa: E731
        monkeypatch.setattr(ClipModel, name, counts)
    return calls


def test_scores_and_clusters_share_vectors_that_are_made_once(tmp_path, embedded):
    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(48))
    stages = [
        {"kind": "clip_image_vector", **tiny_clip.kept()},
        {"kind": "clip_text_vector", **tiny_clip.kept()},
        {"kind": "clip_score"},
        {"kind": "top_fraction", "column": "captions.score", "fraction": 0.7},
        {"kind": "kmeans", "k": 3},
        {"kind": "threshold", "column": "cluster", "max": 1},
    ]

    def made(name: str, buckets: int):
        return curate(CurateSettings.model_validate({
            "sources": [{"kind": "warc", "paths": paths}], "stages": stages, "output": str(tmp_path / name),
            "pool": str(tmp_path / "pool"), "ray": {"address": "inline"}, "buckets": buckets,
        }), name="x", seed=0, quiet=True)  # fmt: skip

    first, before = made("one", 1), len(embedded)
    assert before and 0 < first.num_pairs < first.stages[0].pairs_out
    assert made("four", 4).digest() == first.digest()
    assert len(embedded) == before
    for path in (tmp_path / "one/_work").rglob("bucket-00000.parquet"):  # the tables go on with keys
        assert captions.explode(pq.read_table(path)).schema.field("text_vector").type == "string"
