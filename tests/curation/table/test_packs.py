"""Packs give back for each slot exactly what was put there, whatever the run of slots asked for, and know damage."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.table import packs
from pipeline.errors import DataError


def table_of(rows):
    return pa.table({"n": pa.array(rows, pa.int64()), "text": pa.array([f"row {row}" for row in rows], pa.string())})


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 6), st.integers(0, 7))
def test_a_run_of_slots_gives_their_rows_in_order(tmp_path_factory, slot_of, first, length):
    url = str(tmp_path_factory.mktemp("packs") / "a.pack")
    packs.publish_cut(url, table_of(range(len(slot_of))), np.array(slot_of, np.int64), 7)
    stop = min(first + length, 7)
    found = [(slot, row) for slot, table in packs.read_slots(url, first, stop) for row in table["n"].to_pylist()]
    wanted = sorted((slot, row) for row, slot in enumerate(slot_of) if first <= slot < stop)
    assert found == wanted


def test_equal_tables_make_equal_bytes_and_the_note_is_of_them(tmp_path):
    notes = [
        packs.publish_pack(str(tmp_path / name), (table_of(range(n)) for n in (3, 0, 900)), 3) for name in ("a", "b")
    ]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert notes[0] == notes[1] and notes[0]["bytes"] == (tmp_path / "a").stat().st_size


@given(st.integers(0, 15 + 32 * 4), st.integers(0, 7))
def test_no_damage_to_the_entries_reads_as_an_empty_slot(tmp_path_factory, at, bit):
    path = tmp_path_factory.mktemp("packs") / "a.pack"
    packs.publish_pack(str(path), [table_of([1, 2]), table_of([]), table_of([3])], 3)
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)
    if at < 16:  # the head is read by nobody who knows the slots
        assert len(packs.read_slots(str(path), 0, 3)) == 2
        return
    with pytest.raises(DataError, match=r"a\.pack"):
        packs.read_pack(str(path), 0, 3)


def test_a_file_of_something_else_is_no_empty_pack(tmp_path):
    for content in (b"[" * 50_000, bytes(50_000), b""):
        (tmp_path / "a.pack").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.pack"):
            packs.read_pack(str(tmp_path / "a.pack"), 0, 2)


def test_a_lost_table_is_no_empty_slot(tmp_path):
    with pytest.raises(ValueError, match="1 tables for 2 slots"):
        packs.publish_pack(str(tmp_path / "a"), [table_of([1])], 2)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("where", ["entries", "blob", "end"])
def test_damage_is_named_with_the_file(tmp_path, where):
    path = tmp_path / "a.pack"
    packs.publish_pack(str(path), [table_of([1, 2]), table_of(range(50))], 2)
    data = bytearray(path.read_bytes())
    if where == "end":
        data = data[:-9]
    else:
        data[20 if where == "entries" else len(data) - 30] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.pack"):
        packs.read_pack(str(path), 0, 2)
