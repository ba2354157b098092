"""What lies in the pool in place of an image speaks for its bytes, and for nothing else."""

import pyarrow as pa

from curation.table.stored import Stored, sha256_of_stored, size_of_stored

SMALL = Stored("ab" * 32, 321, "jpg", "png", 2000, 1000)


def test_the_text_says_what_it_was_made_from():
    assert Stored.of(str(SMALL)) == SMALL and Stored.of("") is None and Stored.of(None) is None


def test_sha256_and_size_are_of_what_is_stored_and_else_of_the_original():
    columns = {"image_sha256": ["c" * 64, "d" * 64, ""], "image_size": [9000, 8, 0]}
    pairs = pa.table({**columns, "image_stored": [str(SMALL), "", ""]})
    assert sha256_of_stored(pairs).to_pylist() == ["ab" * 32, "d" * 64, ""]
    assert size_of_stored(pairs).to_pylist() == [321, 8, 0]
    assert sha256_of_stored(pairs[:0]).type == pa.string() and size_of_stored(pairs[:0]).type == pa.int64()
