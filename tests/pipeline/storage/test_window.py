"""A window on a file gives what the file has, wherever it is moved."""

import random

import pytest

from pipeline.errors import DataError
from pipeline.storage.window import READ_AHEAD, Window


def test_any_walk_over_a_file_reads_what_is_there(tmp_path):
    rng = random.Random(0)
    data = rng.randbytes(3 * READ_AHEAD + 17)
    (tmp_path / "a").write_bytes(data)
    window = Window(str(tmp_path / "a"))
    for at in [
        READ_AHEAD + 5,
        0,
        len(data) - 3,
        READ_AHEAD,
        READ_AHEAD - 1,
        *(rng.randrange(len(data)) for _ in "x" * 50),
    ]:
        count = rng.choice([0, 1, 10, 5000, READ_AHEAD + 1])
        assert window.read(at, count) == data[at : at + count]
        far = rng.randrange(len(data))
        assert window.glance(far, 10) == data[far : far + 10]
    assert window.read(len(data), 1) == b"" and window.exactly(3, 4) == data[3:7]
    with pytest.raises(DataError, match="ends at byte"):
        window.exactly(len(data) - 1, 2)
