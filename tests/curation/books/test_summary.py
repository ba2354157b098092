"""Verdicts, counts, caption tables, ranges and cuts: the small parts that the funnel stands on."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.books import ledger
from curation.emit import shards
from curation.stage import Verdicts
from curation.table import captions, parquet, schemas


def pairs_of(*texts: list[str]) -> pa.Table:
    rows = [
        {
            "uid": f"{n:032x}",
            "url": f"u{n}",
            "image_sha256": "",
            "image_part": "",
            "image_offset": 0,
            "image_size": 0,
            "image_ext": "",
            "status": 200,
            "content_type": "",
            "x_robots_tag": "",
            "fetched_at": "",
            "extra": "",
            "captions": [{"text": t, "source": "alt", "page_url": "", "page_robots": "", "language": ""} for t in some],
        }
        for n, some in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.PAIRS)


@given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_captions_survive_the_way_to_a_flat_table_and_back(texts, start, length):
    pairs = pairs_of(*texts).slice(start, length)
    flat = captions.explode(pairs)
    assert captions.implode(flat, pairs.num_rows).to_pylist() == captions.column(pairs).to_pylist()
    expected = [some[0] if some else None for some in texts[start : start + length]]
    assert captions.first(pairs).to_pylist() == expected


def test_fields_are_added_and_replaced_in_their_place():
    fields = pa.table({"words": [1, 2, 3], "text": ["x", "y", "z"]})
    pairs = captions.with_fields(pairs_of(["a", "b"], [], ["c"]), fields)
    told = pairs.column("captions").to_pylist()
    assert [[(c["text"], c["words"]) for c in some] for some in told] == [[("x", 1), ("y", 2)], [], [("z", 3)]]
    assert list(told[0][0])[0] == "text"


def test_a_caption_table_out_of_order_is_refused():
    with pytest.raises(ValueError, match="sorted"):
        captions.implode(pa.table({"row": [1, 0], "text": ["a", "b"]}), 2)


def test_verdicts_become_kept_pairs_ledger_rows_and_counts_that_add_up():
    pairs = pairs_of(["a", "b"], ["c"], ["d"])
    fewer = pairs_of(["a"], [], ["d"]).column("captions")
    verdicts = Verdicts(
        reason=pa.array([None, "short", "dup"]),
        detail=pa.array([None, None, "0" * 32]),
        captions=fewer,
        caption_drops={"short": 2},
    )
    kept, gone, counts = ledger.apply("rules", "rules", pairs, verdicts)
    assert kept.column("uid").to_pylist() == [f"{0:032x}"]
    assert gone.select(["url", "stage", "reason", "detail", "caption"]).to_pylist() == [
        {"url": "u1", "stage": "rules", "reason": "short", "detail": None, "caption": "c"},
        {"url": "u2", "stage": "rules", "reason": "dup", "detail": "0" * 32, "caption": "d"},
    ]
    assert (counts.drops, counts.caption_drops) == ({"dup": 1, "short": 1}, {"pair_dropped": 1, "short": 2})
    assert (counts.captions_in, counts.captions_out, counts.captions_added) == (4, 1, 0)


def test_captions_lost_without_a_reason_are_an_error():
    pairs = pairs_of(["a", "b"])
    verdicts = Verdicts(reason=pa.array([None], pa.string()), captions=pairs_of(["a"]).column("captions"))
    with pytest.raises(ValueError, match="do not add up"):
        ledger.apply("rules", "rules", pairs, verdicts)


def test_captions_merged_in_are_counted_as_added():
    pairs = pairs_of(["a"], ["b"])
    merged = pairs_of(["a", "b"], ["b"]).column("captions")
    _, _, counts = ledger.apply("d", "d", pairs, Verdicts(reason=pa.array([None, "copy"]), captions=merged))
    assert (counts.captions_added, counts.captions_out, counts.caption_drops) == (1, 2, {"pair_dropped": 1})


def test_verdicts_of_another_length_are_an_error():
    with pytest.raises(ValueError, match="reason has 1 rows for 2 pairs"):
        ledger.apply("d", "d", pairs_of([], []), Verdicts(reason=pa.array(["x"])))


@given(st.integers(0, 30000), st.integers(0, 30000))
def test_a_range_of_a_file_is_what_a_filter_would_give(tmp_path_factory, low, high):
    url = str(tmp_path_factory.getbasetemp() / "ranges.parquet")
    table = pa.table({"nested": [[{"a": 1, "b": 2}]] * 20001, "k": np.arange(20001) // 2, "row": np.arange(20001)})
    if not (tmp_path_factory.getbasetemp() / "ranges.parquet").exists():
        parquet.publish_rows(url, table)
    keys = table.column("k").to_numpy()
    inside = np.flatnonzero((keys >= low) & (keys < high)).tolist()
    assert parquet.read_range(url, "k", low, high)["row"].to_pylist() == inside
    assert parquet.read_slice(url, low, high)["row"].to_pylist() == list(range(20001))[low:high]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(1, 40))
def test_shards_are_even_in_order_and_hold_every_pair_once(rows, most):
    cuts = shards.slices(rows, most)
    flat = [(bucket, row) for shard in cuts for bucket, start, stop in shard for row in range(start, stop)]
    assert flat == [(bucket, row) for bucket, number in enumerate(rows) for row in range(number)]
    sizes = [sum(stop - start for _, start, stop in shard) for shard in cuts]
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1)
