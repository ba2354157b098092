"""The best near each picture, though only some of those near it were found."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.pictures.leaders import FEW, leaders
from curation.methods.pictures.sketches import near_sketches

NUMBERS, REACH = 24, 64


def held_against(group: np.ndarray, sketch: np.ndarray) -> dict[int, list[int]]:
    found, _ = leaders(sketch, *near_sketches(group, sketch, 1600))
    return {row: found[found[:, 0] == row, 1].tolist() for row in range(len(group))}


@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 1000))
def test_where_all_are_held_against_all_they_are_the_first_within_reach(num, groups, seed):
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, groups, num)).astype(np.uint64)
    sketch = rng.integers(-3, 4, (num, NUMBERS)).astype(np.int8)
    apart = ((sketch[:, None].astype(int) - sketch[None]) ** 2).sum(axis=2)
    found, distance = leaders(sketch, *near_sketches(group, sketch, 1600))
    wanted = [
        (row, other)
        for row in range(num)
        for other in [j for j in range(row) if group[j] == group[row] and apart[row, j] <= REACH][:FEW]
    ]
    assert [tuple(pair) for pair in found.tolist()] == wanted
    assert distance.tolist() == [apart[pair] for pair in wanted]


def test_all_of_a_crowd_are_led_by_its_very_best_and_two_crowds_in_a_group_each_by_its_own():
    rng = np.random.default_rng(0)
    base = np.array([[30] * NUMBERS, [30, -30] * (NUMBERS // 2)])
    crowd = rng.integers(0, 2, 6000)
    sketch = (base[crowd] + rng.integers(-1, 2, (6000, NUMBERS))).astype(np.int8)
    found = held_against(np.zeros(6000, np.uint64), sketch)
    first = [np.flatnonzero(crowd == each)[0] for each in range(2)]
    led = sum(first[crowd[row]] in some for row, some in found.items())
    assert led >= 5990
    assert all(crowd[row] == crowd[other] for row, some in found.items() for other in some)


def test_who_leads_does_not_depend_on_the_groups_settled_beside_it():
    rng = np.random.default_rng(1)
    sketch = rng.integers(-9, 10, (900, NUMBERS)).astype(np.int8)
    sketch[300:] = sketch[300] + rng.integers(-1, 2, (600, NUMBERS))
    group = np.repeat(np.array([1, 2, 3], np.uint64), 300)
    together = held_against(group, sketch)
    for each in range(3):
        alone = held_against(group[:300], sketch[each * 300 :][:300])
        assert {row + each * 300: [j + each * 300 for j in some] for row, some in alone.items()} == {
            row: some for row, some in together.items() if row // 300 == each
        }
