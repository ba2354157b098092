"""Bounds are inclusive and each has its own reason."""

import pyarrow as pa
import pytest

from curation.stages.image_size import ImageSize
from tests.helpers.pairs import pair, pairs_of, run_rule


@pytest.mark.parametrize(
    ("width", "height", "size", "settings", "expected"),
    [
        (31, 90, 500, {"min_side": 32}, "too_small"),
        (32, 90, 500, {"min_side": 32}, None),
        (100, 50, 500, {"max_side": 99}, "too_large"),
        (99, 50, 500, {"max_side": 99}, None),
        (300, 100, 500, {"max_aspect": 3}, None),
        (301, 100, 500, {"max_aspect": 3}, "aspect"),
        (100, 301, 500, {"max_aspect": 3}, "aspect"),
        (100, 100, 500, {"min_aspect": 1.5}, "aspect"),
        (100, 100, 99, {"min_bytes": 100}, "few_bytes"),
        (100, 100, 100, {"min_bytes": 100, "max_bytes": 100}, None),
        (100, 100, 101, {"max_bytes": 100}, "many_bytes"),
        (1, 60_000, 100, {"min_side": 2, "max_aspect": 3}, "too_small"),
        (1, 1, 1, {}, None),
    ],
)
def test_each_bound_has_its_reason(width, height, size, settings, expected):
    row = pair("a", "text", image_size=size)
    pairs = pairs_of(row, width=(pa.int32(), [width]), height=(pa.int32(), [height]))
    verdicts = run_rule(ImageSize(**settings), pairs)
    assert verdicts.reason.to_pylist() == [expected]
    assert verdicts.detail.to_pylist() == [f"{width}x{height}, {size} bytes" if expected else None]


def test_no_pairs_no_verdicts():
    pairs = pairs_of(pair("a", "text"), width=(pa.int32(), [1]), height=(pa.int32(), [1]))
    assert len(ImageSize().judge(pairs.slice(0, 0), 0).reason) == 0
