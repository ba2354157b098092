"""Columns as one piece, up to what arrow's 32-bit offsets reach."""

import pyarrow as pa
import pytest

from curation.table import arrow
from pipeline.errors import DataError


def test_chunks_become_one_array_whatever_their_number():
    for chunks in ([], [["a"]], [["a"], [], ["b", None]]):
        column = pa.chunked_array(chunks, pa.string())
        assert isinstance(arrow.whole(column), pa.Array) and arrow.whole(column).to_pylist() == column.to_pylist()


def test_more_than_two_gib_is_an_error_that_says_what_to_type():
    chunk = pa.array(["x" * (64 << 20)])
    with pytest.raises(DataError, match=r"at most 2 GiB a bucket\nhint: give `curate\.buckets`"):
        arrow.whole(pa.chunked_array([chunk] * 33))  # the chunks share one buffer
