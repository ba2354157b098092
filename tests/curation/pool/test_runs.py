"""Runs hold what the parts hold, bucket by bucket, and the join cannot tell them from the parts."""

import os
import random
import tempfile
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.pool import captures, runs
from curation.pool.join import join_rows
from curation.pool.redirects import Followed
from curation.pool.store import PoolSink, part_folder
from curation.table import packs, parquet, schemas
from curation.table.uids import Cut
from pipeline import storage
from tests.helpers.small_crawl import picture

HEX = [f"{n:032x}" for n in (0, 1, 2**60, 2**124, 2**127, 2**128 - 1)]
URLS = [f"http://site.test/{n}" for n in range(12)]


def pool_of(folder: str, parts: list[list[tuple[str, dict]]]) -> list[str]:
    for number, rows in enumerate(parts):
        with PoolSink(folder, f"{number}") as sink:
            for kind, row in rows:
                (sink.occurrence if kind == "o" else sink.image)(**row)
            sink.finish({})
    return [f"{number}" for number in range(len(parts))]


def read_plainly(pool: str, parts: list[str], table: str, low: str, high: str) -> list[tuple]:
    """The rows of a range, as pyarrow alone reads them."""
    rows = [row for part in parts for row in pq.read_table(f"{part_folder(pool, part)}/{table}.parquet").to_pylist()]
    return sorted((tuple(row.values()) for row in rows if low <= row["uid"] < high), key=repr)


mention = st.fixed_dictionaries(
    {"url": st.sampled_from(URLS), "uid": st.sampled_from(["", *HEX]), "text": st.sampled_from(["", "a cat", "é"]),
     "source": st.sampled_from(["alt", "z"]), "page_url": st.sampled_from(URLS)}
).map(lambda row: ("o", row))  # fmt: skip
answer = st.fixed_dictionaries(
    {"url": st.sampled_from(URLS), "uid": st.sampled_from(["", *HEX]), "body": st.sampled_from([picture(1), b"", b"x"]),
     "status": st.sampled_from([200, 302, 404]), "location": st.sampled_from(["", *URLS]),
     "x_robots_tag": st.sampled_from(["", "noai"])}
).map(lambda row: ("i", row))  # fmt: skip
cuts = st.lists(st.sampled_from(HEX), max_size=5).map(lambda edges: Cut(tuple(sorted(edges)))) | st.integers(1, 9).map(
    Cut.even
)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.lists(st.lists(mention | answer, max_size=14), max_size=5), cuts)
def test_runs_hold_what_parts_hold_and_join_to_the_same_bit_for_bit(data, parts, cut):
    group_rows, range_rows = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 3, 100]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "GROUP_ROWS", group_rows)
        patch.setattr(runs, "RANGE_ROWS", range_rows)
        names = pool_of(folder, parts)
        bounds = sorted({0, len(names), *data.draw(st.lists(st.integers(0, len(names)), max_size=3))})
        groups = [names[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]
        for run, group in enumerate(groups):
            runs.publish_run(folder, run, folder, group, cut)
        for bucket in range(cut.buckets):
            low, high = cut.range_of(bucket)
            merged, direct = {}, {}
            for table, schema in runs.TABLES.items():
                merged[table] = runs.read_bucket(folder, range(len(groups)), table, bucket)
                rows = [tuple(row.values()) for some in merged[table] for row in some.to_pylist()]
                assert sorted(rows, key=repr) == read_plainly(folder, names, table, low, high)
                urls = [f"{part_folder(folder, part)}/{table}.parquet" for part in names]
                texts = captures.texts_of(schema)
                direct[table] = [parquet.read_range(url, "uid", low, high, dictionaries=texts) for url in urls]
            one, other = (
                join_rows(rows["occurrences"], rows["images"], Followed.of([], []), "") for rows in (merged, direct)
            )
            assert one[0].equals(other[0]) and one[0].schema.equals(schemas.PAIRS)
            assert (one[1].reason, one[1].detail) == (other[1].reason, other[1].detail)


def test_each_row_group_of_a_part_is_read_once_whatever_the_number_of_buckets(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    monkeypatch.setattr(runs, "RANGE_ROWS", 25)
    rows = [("o", {"url": f"http://site.test/{n}", "text": "a", "source": "alt"}) for n in range(100)]
    parts = pool_of(str(tmp_path), [rows, rows[::2]])
    reads, plain = Counter(), storage.RangeReader.read

    def read(reader, start, end):
        reads[os.path.relpath(reader.url, tmp_path)] += 1
        return plain(reader, start, end)

    monkeypatch.setattr(storage.RangeReader, "read", read)
    for buckets in (1, 64):
        reads.clear()
        runs.publish_run(str(tmp_path), 0, str(tmp_path), parts, Cut.even(buckets))
        found = {name: number for name, number in reads.items() if name.endswith(".parquet")}
        images = dict.fromkeys(["parts/0/images.parquet", "parts/1/images.parquet"], 1)  # empty: a footer
        assert found == {"parts/0/occurrences.parquet": 1 + 10, "parts/1/occurrences.parquet": 1 + 5, **images}


def test_no_more_rows_are_held_than_a_range_and_one_row_group_of_each_part(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 20)
    monkeypatch.setattr(runs, "RANGE_ROWS", 100)
    rng, parts = random.Random(0), []
    for _ in range(6):
        parts.append(
            [("o", {"url": f"http://s.test/{rng.random()}", "text": "a", "source": "alt"}) for _ in range(300)]
        )
    held, plain = [], captures.together
    monkeypatch.setattr(captures, "together", lambda t, s: held.append(sum(x.num_rows for x in t)) or plain(t, s))
    runs.publish_run(str(tmp_path), 0, str(tmp_path), pool_of(str(tmp_path), parts), Cut.even(256))
    assert sum(held) == 1800 and max(held) <= 100 + 6 * 20


def test_a_slot_holds_each_text_once_and_none_of_other_slots(tmp_path):
    page = "http://page.test/" + "x" * 5000
    rows = [("o", {"url": f"http://s.test/{n}", "text": f"{n}", "source": "alt", "page_url": page}) for n in range(500)]
    (part,) = pool_of(str(tmp_path), [rows])
    runs.publish_run(str(tmp_path), 0, str(tmp_path), [part], Cut.even(4))
    for slot in range(4):
        (table,) = packs.read_pack(str(tmp_path / runs.pack_name(0, "occurrences")), slot, slot + 1)
        assert table.column("page_url").chunk(0).dictionary.to_pylist() == [page]
        assert len(table.column("text").chunk(0).dictionary) == table.num_rows > 50


@pytest.mark.parametrize("count", [0, 1, 3, 16, 17, 256, 4096, 4097, 90_000])
def test_parts_are_dealt_into_few_groups_of_bounded_size_each_into_one(count):
    parts = [f"{n:05d}" for n in range(count)]
    groups = runs.groups_of(parts)
    assert [part for group in groups for part in group] == parts
    sizes = [len(group) for group in groups]
    assert not sizes or (max(sizes) <= 256 and max(sizes) - min(sizes) <= 1)
    assert len(groups) == max(min(count, 16), -(-count // 256))
