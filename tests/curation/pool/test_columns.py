"""Measured once: what is known is never computed again, whoever computed it and however the run ended."""

from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.pool import columns
from curation.pool.columns import ColumnCache, measure_images, measure_texts
from curation.pool.store import ImageReader, PoolSink
from curation.stage import ImageMeasure, Rule, TextMeasure, check_stages, names_of
from curation.table import schemas
from pipeline.errors import RecipeError
from tests.curation.books.test_summary import pairs_of
from tests.helpers.small_crawl import picture


class Weigh(ImageMeasure):
    kind: Literal["weigh"] = "weigh"
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("weight", pa.int64()),)


class Length(TextMeasure):
    kind: Literal["length"] = "length"
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("length", pa.int64()),)


class Long(Rule):
    kind: Literal["long"] = "long"
    reads: ClassVar[tuple[str, ...]] = ("captions.length",)


@pytest.fixture
def pairs(tmp_path):
    """Six pairs, two of which have the same bytes."""
    with PoolSink(str(tmp_path), "p") as sink:
        for number in (0, 1, 2, 3, 4, 0):
            sink.image(url=f"http://x.test/{number}{sink._end}", body=picture(number))
        sink.finish({})
    images = pq.read_table(tmp_path / "parts" / "p" / "images.parquet")
    table = pairs_of(*[["a", "bb"], ["a"], [], ["ccc"], ["bb"], ["a"]])
    for name in ("sha256", "part", "offset", "size"):
        at = table.schema.get_field_index(f"image_{name}")
        table = table.set_column(at, f"image_{name}", images.column(name))
    return table


def weighed(pool, pairs, seen, low="00000000", high="g", batch=2, fail_after=None):
    def function(bodies):
        if fail_after is not None and len(seen) >= fail_after:
            raise RuntimeError("killed")
        seen.extend(bodies)
        reasons = [None if len(body) % 2 else "even" for body in bodies]
        return pa.table({"weight": [len(body) for body in bodies], "reason": pa.array(reasons, pa.string())})

    cache = ColumnCache(str(pool), "digest", low, high, Weigh().adds)
    return measure_images(pairs, Weigh(), lambda: function, cache, ImageReader(str(pool)), batch)


def test_equal_bytes_are_measured_once_and_a_second_run_measures_none(tmp_path, pairs):
    seen, again = [], []
    told = weighed(tmp_path, pairs, seen)
    table, reason = told.columns, told.reason
    assert len(seen) == 5
    assert table.column("weight").to_pylist() == pairs.column("image_size").to_pylist()
    assert reason.to_pylist() == [None if size % 2 else "even" for size in pairs.column("image_size").to_pylist()]
    assert weighed(tmp_path, pairs, again).columns.equals(table) and again == []


def test_other_buckets_find_it_and_new_pairs_are_all_that_is_measured(tmp_path, pairs):
    first, rest = [], []
    weighed(tmp_path, pairs.slice(0, 2), first, "00000000", "80000000")
    weighed(tmp_path, pairs, rest)
    assert len(first) + len(rest) == 5


def test_death_half_way_loses_only_what_was_not_yet_kept(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(columns, "_KEEP_EVERY_S", -1.0)
    seen, rest = [], []
    with pytest.raises(RuntimeError, match="killed"):
        weighed(tmp_path, pairs, seen, batch=2, fail_after=4)
    weighed(tmp_path, pairs, rest)
    assert (len(seen), len(rest)) == (4, 1)


def test_texts_are_measured_once_each_and_land_in_their_captions(tmp_path, pairs):
    seen = []

    def function(texts):
        seen.extend(texts)
        return pa.table({"length": [len(text) for text in texts]})

    for _ in range(2):
        cache = ColumnCache(str(tmp_path), "texts", "0", "g", Length().adds)
        told = measure_texts(pairs, Length(), lambda: function, cache, None)
    assert sorted(seen) == ["a", "bb", "ccc"]
    found = [[(c["text"], c["length"]) for c in some] for some in told.captions.to_pylist()]
    assert told.reason.null_count == 6
    assert found == [[("a", 1), ("bb", 2)], [("a", 1)], [], [("ccc", 3)], [("bb", 2)], [("a", 1)]]


def test_a_stage_that_breaks_its_promise_is_told(tmp_path, pairs):
    cache = ColumnCache(str(tmp_path), "texts", "0", "g", Length().adds)
    with pytest.raises(ValueError, match="length measured 1 rows for 3 inputs"):
        measure_texts(pairs, Length(), lambda: lambda texts: pa.table({"length": [1]}), cache, None)
    with pytest.raises(ValueError, match="length measured no column 'length'; found size"):
        measure_texts(pairs, Length(), lambda: lambda texts: pa.table({"size": [1, 2, 3]}), cache, None)


def test_stages_in_the_wrong_order_are_found_before_any_work():
    check_stages([Length(), Long()])
    said = r"curate.stages.0 \(long\): reads the column `captions.length`(.|\n)*put `length` before"
    with pytest.raises(RecipeError, match=said):
        check_stages([Long(), Length()], [Length, Long])
    with pytest.raises(RecipeError, match=r"stages.1 \(length\): adds the column `captions.length`, which exists"):
        check_stages([Length(), Length()])
    assert names_of([Length(), Long(), Length()]) == ["length", "long", "length-2"]


def test_every_column_of_the_join_may_be_read():
    class All(Rule):
        kind: Literal["all"] = "all"
        reads: ClassVar[tuple[str, ...]] = tuple(schemas.PAIRS.names)

    check_stages([All()])
