"""Files of measured columns: a damaged one is removed and what it held is not known; strangers stay."""

import pyarrow as pa
import pytest

from curation.pool.column_files import measured_columns, publish_columns

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("width", pa.int32()), pa.field("reason", pa.string())])
TABLE = pa.table([["a", "b"], [1, 2], [None, "blank"]], schema=SCHEMA)


def read(folder, low="00000000", high="g"):
    return list(measured_columns(str(folder), low, high, SCHEMA))


def test_only_files_whose_range_meets_are_read(tmp_path):
    publish_columns(str(tmp_path), "00000000", "40000000", TABLE)
    assert read(tmp_path) == [TABLE] and read(tmp_path, "20000000", "60000000") == [TABLE]
    assert read(tmp_path, "40000000", "80000000") == []


def test_every_damage_makes_a_file_unknown_and_removes_it(tmp_path):
    publish_columns(str(tmp_path), "00000000", "g", TABLE)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    cut = [data[:at] for at in range(0, len(data), 97)]
    flips = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(0, len(data), 7)]
    for junk in (*cut, *flips, b"[" * 1000):
        path.write_bytes(junk)
        assert read(tmp_path) == [] and not path.exists()
    path.write_bytes(data)
    assert read(tmp_path) == [TABLE]


@pytest.mark.parametrize("name", ["notes.txt", "a-b", "00000000-g-x.parquet", "old-name.parquet"])
def test_names_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    assert read(tmp_path) == [] and (tmp_path / name).exists()


def test_a_file_of_other_columns_is_unknown(tmp_path):
    publish_columns(str(tmp_path), "00000000", "g", TABLE.drop_columns(["width"]))
    assert read(tmp_path) == []
