"""Numbers by the name of a column: of fields of the input, too."""

import json
import math

import pyarrow as pa

from curation.methods.scores import numbers
from curation.stage import Context
from curation.stages.threshold import Threshold

ODD = ['{"s": 0.5}', '{"s": 3, "t": "x"}', '{"s": true}', '{"s": "0.5"}', '{"s": null}', '{"t": 1}', "", "no json",
       "[1]", '{"s": [1]}', '{"s": NaN}', '{"s": 1e400}', '{"s": -9007199254740993}', '{"a": {"s": 2}}']  # fmt: skip


def test_a_field_of_the_input_is_a_number_where_it_is_one():
    found = numbers(pa.table({"extra": pa.array(ODD)}), "extra.s").tolist()
    expected = [0.5, 3, 1, *[math.nan] * 9, float(-9007199254740993), math.nan]
    assert [str(each) for each in found] == [str(float(each)) for each in expected]
    assert Threshold(column="extra.s", min=0.4).reads == ("extra",)


def test_a_name_with_quotes_and_other_letters_is_found():
    extra = pa.table({"extra": [json.dumps({'a "b" é': 7})]})
    assert numbers(extra, 'extra.a "b" é').tolist() == [7.0]


def test_bounds_on_a_field_of_the_input():
    pairs = pa.table({"uid": ["a", "b", "c"], "extra": ['{"s": 0.2}', '{"s": 0.9}', ""]})
    assert Threshold(column="extra.s", min=0.5).judge(pairs, Context()).reason.to_pylist() == [
        "below",
        None,
        "no_value",
    ]


def test_sources_that_are_spared_make_another_measure_and_none_leave_the_old_one():
    plain = {"column": "captions.score", "min": 0.5}
    digests = {Threshold(**plain, **more).digest() for more in ({}, {"sources": ["a"]}, {"sources": ["b"]})}
    assert len(digests) == 3
    assert "sources" not in Threshold(**plain).identity()
    assert Threshold(**plain, sources=["a"]).reads == ("captions.score", "captions.source")


def test_a_column_of_64_bits_is_as_near_as_a_float_comes():
    hashes = pa.table({"phash": pa.array([2**64 - 1, 0, None, 2**53 + 1], pa.uint64())})
    assert [str(each) for each in numbers(hashes, "phash").tolist()] == [str(2.0**64), "0.0", "nan", str(2.0**53)]
