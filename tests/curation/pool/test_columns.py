"""Kept by what was measured: each key is found once, by any cut, in however many files it lies."""

import logging

import pyarrow as pa
import pytest

from curation.pool import columns as module
from curation.pool.columns import Columns

SCHEMA = pa.schema([("key", pa.string()), ("weight", pa.int64()), ("reason", pa.string())])


def kept(folder, slots: int = 4) -> Columns:
    return Columns(str(folder), "digest", SCHEMA, slots)


def rows(numbers) -> pa.Table:
    keys = [f"{n * 2654435761 % 2**32:08x}{n:024x}" for n in numbers]
    return pa.table([keys, list(numbers), [None if n % 2 else "even" for n in numbers]], schema=SCHEMA)


def weights(table: pa.Table) -> list[int]:
    assert table.column("key").to_pylist() == sorted(set(table.column("key").to_pylist()))
    return sorted(table.column("weight").to_pylist())


def test_what_one_cut_kept_another_finds_and_each_key_once(tmp_path):
    kept(tmp_path, 4).publish(rows(range(60)))
    kept(tmp_path, 1).publish(rows(range(40, 90)))
    kept(tmp_path, 16).publish(rows(range(10)))
    for slots in (1, 2, 4, 16, 64):
        columns = kept(tmp_path, slots)
        assert weights(columns.read(0, slots)) == list(range(90))
        found = [columns.read(slot, slot + 1) for slot in range(slots)]
        assert weights(pa.concat_tables(found)) == list(range(90))
        for slot, table in enumerate(found):
            assert all(int(key[:8], 16) * slots >> 32 == slot for key in table.column("key").to_pylist())


def test_of_several_rows_of_a_key_that_of_the_highest_grade_counts_in_whichever_file(tmp_path):
    graded, keys = SCHEMA.insert(2, pa.field("grade", pa.int32())), [f"{n:032x}" for n in range(3)]
    columns = Columns(str(tmp_path), "digest", graded, 4)
    for number in range(3):  # each key has its best row in another file
        grades = [(number + n) % 3 for n in range(3)]
        columns.publish(pa.table([keys, [10 * grade for grade in grades], grades, [None] * 3], schema=graded))
    for _ in range(2):
        assert columns.read(0, 4).select(["key", "weight"]).to_pydict() == {"key": keys, "weight": [20] * 3}
        columns.merge(columns.files())


def test_merged_files_hold_what_they_held_and_only_they_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_FILES", 2)
    columns = kept(tmp_path)
    for start in (0, 10, 20, 30, 40):
        columns.publish(rows(range(start, start + 15)))
    groups = list(columns.to_merge())
    assert sorted(name for group in groups for name in group) == sorted(columns.files())
    before = columns.read(0, 4)
    for group in groups:
        columns.merge(group)
    assert len(columns.files()) == 3 and columns.read(0, 4).equals(before)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_removed_with_one_warning_and_the_others_serve(tmp_path, caplog, how):
    caplog.set_level(logging.WARNING, "clipmill")
    columns = kept(tmp_path)
    bad = tmp_path / "columns" / "digest" / columns.publish(rows(range(30)))
    columns.publish(rows(range(30, 40)))
    data = bytearray(bad.read_bytes())
    data[len(data) // 2] ^= 1
    bad.write_bytes({"flipped": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}[how])
    for _ in range(2):
        found = [columns.read(slot, slot + 1) for slot in range(4)]
        assert set(weights(pa.concat_tables(found))) >= set(range(30, 40))
    assert not bad.exists() and weights(columns.read(0, 4)) == list(range(30, 40))
    assert sum("measured again" in record.getMessage() for record in caplog.records) == 1


def test_nothing_kept_is_an_empty_table(tmp_path):
    assert kept(tmp_path).read(0, 4).equals(SCHEMA.empty_table()) and kept(tmp_path).files() == []
