"""Tables larger than arrow's 32-bit offsets, and what they cost."""

import random

import pyarrow.parquet as pq
import pytest

from curation.pool import join
from curation.pool.rows import Rows
from curation.pool.store import PoolSink
from curation.table import schemas
from pipeline.errors import DataError
from tests.helpers.joins import join_bucket
from tests.helpers.small_crawl import picture


def test_over_two_gib_of_one_column_are_stored_and_joined_at_the_cost_of_what_differs(tmp_path):
    resource = pytest.importorskip("resource")
    pages, mentions = ["http://p.test/" + letter * 8000 for letter in "ab"], 280_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with PoolSink(str(tmp_path), "part") as sink:
        for i in range(mentions):
            url = f"http://site.test/{i % 3}.png"
            sink.occurrence(url=url, text="a cat", source="alt", page_url=pages[i % 2], page_robots="follow")
        for i in range(3):
            sink.image(url=f"http://site.test/{i}.png", body=picture(i))
        sink.finish({})
    pairs, _ = join_bucket(str(tmp_path), ["part"], 0, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20, "a GiB, in KiB"
    assert mentions * len(pages[0]) > 2**31
    for row in pairs.to_pylist():
        caption = {"text": "a cat", "source": "alt", "page_url": pages[0], "page_robots": "follow", "language": ""}
        assert row["captions"] == [caption] and row["image_size"] > 0
    assert pairs.num_rows == 3


def test_more_than_a_bucket_can_hold_says_what_to_type(tmp_path, monkeypatch):
    with PoolSink(str(tmp_path), "part") as sink:
        sink.occurrence(url="http://site.test/a.png", text="a cat", source="alt")
        sink.finish({})

    def overflow(*_):
        raise join.pa.ArrowInvalid("offset overflow while concatenating arrays")

    monkeypatch.setattr(join, "_captions", overflow)
    with pytest.raises(DataError, match=r"bucket 0 of 4: more than 2 GiB.*\n?.*curate\.buckets"):
        [join_bucket(str(tmp_path), ["part"], bucket, 4) for bucket in range(4)]


@pytest.mark.parametrize("count", [0, 1, 3000, 20_000])
def test_rows_come_out_sorted_as_python_sorts_them_by_code_point_with_nulls_last(tmp_path, count, monkeypatch):
    monkeypatch.setattr("curation.pool.rows._FLUSH_ROWS", 700)
    rng = random.Random(count)
    words = ["", "a", "B", "é", "z\u0301", "\U0001f600", "\uffff", " ", "aa", "名"]
    rows = Rows(schemas.IMAGES)
    made = []
    for _ in range(count):
        text = [rng.choice(words) for _ in range(10)]
        stored = rng.random() < 0.5
        sha, place = (rng.choice(words), rng.randrange(3)) if stored else (None, None)
        made.append((text[0], rng.choice("0f"), rng.randrange(2), text[1], text[2], sha, "p", place, place, *text[3:]))
        rows.add(made[-1])
    rows.publish(str(tmp_path / "rows.parquet"))

    def key(row):
        ordered = [row[1], row[0], *row[2:]]
        return [(value is None, value.encode() if isinstance(value, str) else value or 0) for value in ordered]

    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.schema.equals(schemas.IMAGES)
    assert [tuple(row.values()) for row in table.to_pylist()] == sorted(made, key=key)
