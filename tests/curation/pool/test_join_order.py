"""The join says the same of the same records, however they are cut into parts and ordered: ties in every column."""

import itertools
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.pool.store import ImagePlace, ImageReader, PoolSink
from tests.helpers.joins import join_bucket
from tests.helpers.lanes import examples
from tests.helpers.small_crawl import picture

URLS = [f"http://site.test/{letter}.png" for letter in "abc"]
BODIES = [picture(1, side=8), picture(2, side=8), b"<html>", b""]
WORDS = ["", "x", "y"]
PLACE = ("image_part", "image_offset")


def texts(words=WORDS):
    return st.sampled_from(words)


# Records are a few of their kind with one or two fields changed: else hardly any two of them tie.
MENTION = {
    "url": texts(URLS), "text": texts(), "source": texts(["alt", "title", "z"]), "page_url": texts(),
    "page_robots": texts(["", "noai", "bot: x"]), "language": texts(), "extra": texts(), "uid": texts(["", "0" * 32]),
}  # fmt: skip
ANSWER = {
    "url": texts(URLS), "body": st.sampled_from(BODIES), "status": st.sampled_from([200, 203, 404, 500, 0]),
    "content_type": texts(), "x_robots_tag": texts(["", "noai", "bot: x"]), "fetched_at": texts(), "extra": texts(),
    "uid": texts(["", "0" * 32]), "problem": texts(["", "too_big", "truncated"]),
    "location": texts(["", *URLS[1:]]),
}  # fmt: skip


@st.composite
def twins(draw, kind, fields):
    first = draw(st.fixed_dictionaries(fields))
    changes = draw(st.lists(st.lists(st.sampled_from(sorted(fields)), max_size=2), max_size=4))
    return [(kind, first)] + [(kind, first | {name: draw(fields[name]) for name in names}) for names in changes]


records = st.lists(twins("o", MENTION) | twins("i", ANSWER), min_size=1, max_size=5).map(lambda some: sum(some, []))


def dealt(data, rows):
    """The rows in another order, over 1 to 5 parts with names in any order."""
    parts = [[] for _ in range(data.draw(st.integers(1, 5), label="parts"))]
    for row in data.draw(st.permutations(rows), label="order"):
        parts[data.draw(st.integers(0, len(parts) - 1), label="part")].append(row)
    return parts


def joined(parts, buckets):
    """Rows of PAIRS but for the places of images; the images' bytes; reasons and details."""
    with tempfile.TemporaryDirectory() as pool:
        names = [f"{number}" for number in range(len(parts))]
        for name, rows in zip(names, parts, strict=True):
            with PoolSink(pool, name) as sink:
                for kind, row in rows:
                    (sink.occurrence if kind == "o" else sink.image)(**row)
                sink.finish({})
        told, reader = [], ImageReader(pool)
        for bucket in range(buckets):
            pairs, verdicts = join_bucket(pool, names, bucket, buckets)
            reasons = zip(verdicts.reason.to_pylist(), verdicts.detail.to_pylist(), strict=True)
            for row, why in zip(pairs.to_pylist(), reasons, strict=True):
                body = reader.read(ImagePlace.of(row)) if row["image_sha256"] else None
                told.append(({name: value for name, value in row.items() if name not in PLACE}, body, why))
        return told


@examples(60)
@given(st.data(), records)
def test_the_cut_into_parts_and_their_order_leave_no_trace_in_the_pairs(data, rows):
    assert joined(dealt(data, rows), 2 ** data.draw(st.integers(0, 2))) == joined([rows], 1)


@pytest.mark.parametrize("name", ["content_type", "extra"])
def test_captures_that_differ_in_one_text_alone_are_chosen_by_it(name):
    """By no place either: neither the part's name nor the body's offset in it."""
    one = {"url": URLS[0], "body": BODIES[0], "uid": "0" * 32}
    said = ("o", {"url": URLS[2], "uid": "0" * 32, "text": "a cat", "source": "alt"})
    other = ("i", {"url": URLS[2], "body": BODIES[1], "fetched_at": "1"})  # moves what comes after it in the tar
    rows = [("i", one | {name: "y"}), ("i", one | {name: "x", "x_robots_tag": "noai"}), said]
    first = joined([rows], 1)
    assert first[0][0]["x_robots_tag"] == "noai" and first[0][0][name] == "x"
    for order in itertools.permutations([[rows[0]], [other, rows[1]], [said]]):
        assert joined(list(order), 1)[:1] == first
