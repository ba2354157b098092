"""The nearest of each picture are those that a comparison of all with all finds, whichever groups told of them."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.pictures.candidates import FARTHEST, LEADS, LED, NEAR, NEAREST, near_ones, nearest
from curation.methods.pictures.leaders import FEW
from curation.stage import GROUP
from curation.table.uids import DIGITS


def rank(number: int) -> str:
    """Ranks whose order is not that of the uids they end in."""
    return f"{number:04x}" + f"{number * 7919 % 10007:0{DIGITS}x}"


Told = dict[tuple[str, str], tuple[int, bool, bool]]
"""(own, near) -> distance, whether the other one leads it, whether it leads the other one."""


def expected(rows: Told, most: int) -> set[tuple[str, str, int, int]]:
    """(uid, near, distance, how): the nearest, then of the better rank; and the best of those that lead it, if any."""
    by_own = defaultdict(list)
    for (own, near), (distance, leads, led) in rows.items():
        by_own[own].append((near, distance, leads, led))
    found = set()
    for own, some in by_own.items():
        nearest = sorted(some, key=lambda row: (row[1], row[0]))[:most]
        best = sorted(row for row in some if row[2])[:FEW]
        for row in some:
            how = NEAREST * (row in nearest) + LEADS * (row in best) + LED * row[3]
            if how:
                found.add((own[-DIGITS:], row[0], row[1], how))
    return found


def told(table: pa.Table) -> list[tuple[str, str, int, int]]:
    assert table.schema == NEAR
    return [tuple(row.values()) for row in table.to_pylist()]


numbers = st.lists(st.integers(-20, 20), min_size=24, max_size=24).map(lambda each: np.array(each, np.int8))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30, unique=True), st.data(), st.integers(1, 4)
)
def test_of_all_that_share_a_group_each_has_its_nearest(notes, data, most):
    sketches = [data.draw(numbers) for _ in notes]
    found: Told = {}
    reach = 64
    for (group, one), mine in zip(notes, sketches, strict=True):
        near = []
        for (there, other), theirs in zip(notes, sketches, strict=True):
            distance = int(((mine.astype(int) - theirs) ** 2).sum())
            if group == there and one != other and distance <= FARTHEST:
                near.append((rank(other), distance))
        best = sorted(other for other, distance in near if other < rank(one) and distance <= reach)[:FEW]
        for other, distance in near:
            here, there = (rank(one), other), (other, rank(one))
            known = found.get(here, (distance, False, False))
            found[here] = (min(distance, known[0]), known[1] or other in best, known[2])
            known = found.get(there, (distance, False, False))
            found[there] = (min(distance, known[0]), known[1], known[2] or other in best)
    table = pa.table(
        {
            GROUP: pa.array([group for group, _ in notes], pa.uint64()),
            "rank": pa.array([bytes.fromhex(rank(number)) for _, number in notes], pa.binary(len(rank(0)) // 2)),
            "sketch": pa.array([each.tobytes() for each in sketches], pa.binary(24)),
        }
    )
    rows = told(near_ones(table, most))
    assert len(rows) == len(set(rows)) and set(rows) == expected(found, most)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(6, 30), st.integers(0, FARTHEST), st.booleans(), st.booleans()),
        max_size=60,
    ),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_what_several_groups_tell_comes_to_the_same_in_any_order(rows, most, random):
    found: Told = {}
    for own, near, distance, leads, led in rows:
        known = found.get((rank(own), rank(near)), (distance, False, False))
        found[rank(own), rank(near)] = (min(distance, known[0]), known[1] or leads, known[2] or led)
    random.shuffle(rows)
    columns = [
        [rank(own)[-DIGITS:], rank(near), distance, leads * LEADS + led * LED]
        for own, near, distance, leads, led in rows
    ]
    table = pa.table([list(each) for each in zip(*columns, strict=True)] or [[], [], [], []], schema=NEAR)
    got = told(nearest(table, most))
    assert len(got) == len(set(got)) and set(got) == expected(found, most)


@pytest.mark.parametrize("most", [1, 5])
def test_nothing_told_is_nothing_near(most):
    assert nearest(NEAR.empty_table(), most).num_rows == 0
