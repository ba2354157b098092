"""The nearest of each picture are those that a comparison of all with all finds, whichever groups told of them."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.pictures.candidates import FARTHEST, NEAR, near_ones, nearest
from curation.stage import GROUP
from curation.table.uids import DIGITS


def rank(number: int) -> str:
    """Ranks whose order is not that of the uids they end in."""
    return f"{number:04d}-" + f"{number * 7919 % 10007:0{DIGITS}x}"


def expected(rows: dict[tuple[str, str], int], most: int) -> set[tuple[str, str, int]]:
    """(uid, near, distance): at most so many of each, the nearest first, then the better rank."""
    by_uid = defaultdict(list)
    for (own, near), distance in rows.items():
        by_uid[own[-DIGITS:]].append((distance, near))
    return {(uid, near, distance) for uid, some in by_uid.items() for distance, near in sorted(some)[:most]}


def told(table: pa.Table) -> list[tuple[str, str, int]]:
    assert table.schema == NEAR
    return [tuple(row.values()) for row in table.to_pylist()]


numbers = st.lists(st.integers(-20, 20), min_size=24, max_size=24).map(lambda each: np.array(each, np.int8))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30, unique=True), st.data(), st.integers(1, 4)
)
def test_of_all_that_share_a_group_each_has_its_nearest(notes, data, most):
    sketches = [data.draw(numbers) for _ in notes]
    found = {}
    for (group, one), mine in zip(notes, sketches, strict=True):
        for (there, other), theirs in zip(notes, sketches, strict=True):
            distance = int(((mine.astype(int) - theirs) ** 2).sum())
            if group == there and one != other and distance <= FARTHEST:
                key = (rank(one), rank(other))
                found[key] = min(distance, found.get(key, distance))
    table = pa.table(
        {
            GROUP: pa.array([group for group, _ in notes], pa.uint64()),
            "rank": pa.array([rank(number) for _, number in notes], pa.string()),
            "sketch": pa.array([each.tobytes() for each in sketches], pa.binary(24)),
        }
    )
    rows = told(near_ones(table, most))
    assert len(rows) == len(set(rows)) and set(rows) == expected(found, most)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(6, 30), st.integers(0, FARTHEST)), max_size=60),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_what_several_groups_tell_comes_to_the_same_in_any_order(rows, most, random):
    found: dict[tuple[str, str], int] = {}
    for own, near, distance in rows:
        key = (rank(own), rank(near))
        found[key] = min(distance, found.get(key, distance))
    random.shuffle(rows)
    columns = [[rank(own)[-DIGITS:], rank(near), distance] for own, near, distance in rows]
    table = pa.table([list(each) for each in zip(*columns, strict=True)] or [[], [], []], schema=NEAR)
    got = told(nearest(table, most))
    assert len(got) == len(set(got)) and set(got) == expected(found, most)


@pytest.mark.parametrize("most", [1, 5])
def test_nothing_told_is_nothing_near(most):
    assert nearest(NEAR.empty_table(), most).num_rows == 0
