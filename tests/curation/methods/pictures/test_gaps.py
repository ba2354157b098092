"""Copies are those before a gap: the rule read aloud, on any distances."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.pictures.gaps import APART, FAR, ONE, Crowd, before_the_gap

MOST = 250_000
DISTANCES = st.one_of(
    st.lists(st.one_of(st.integers(0, 600_000), st.just(FAR)), max_size=30),
    st.lists(st.integers(0, 300_000), max_size=12),
)


def is_nearest(at: int, best: int) -> bool:
    """Whether one is of the nearest, where each `best`-th is held against for being good."""
    return not best or at % best > 0


def chosen(distances: dict[str, list[int]], crowded: set[str], many: int, best: int = 0) -> dict[str, list[int]]:
    rows = [
        {"uid": uid, "near": f"{uid}-{at}", "apart": value, "nearest": is_nearest(at, best)}
        for uid, values in distances.items()
        for at, value in enumerate(values)
    ]
    found = before_the_gap(
        pa.Table.from_pylist(rows, schema=APART), MOST, Crowd(pa.array(sorted(crowded), pa.string()), many)
    ).to_pylist()
    taken = {row["near"] for row in found}
    return {
        uid: sorted(v for at, v in enumerate(values) if f"{uid}-{at}" in taken) for uid, values in distances.items()
    }


def read_aloud(values: list[int], is_crowded: bool, many: int, best: int) -> list[int]:
    bound = -1
    nearest = [v for at, v in enumerate(values) if is_nearest(at, best)]
    in_crowd = is_crowded and sum(v <= 2 * MOST for v in nearest) >= many
    for value in values:
        reach = max(value, 50_000)
        before = sum(v <= reach for v in values)
        between = sum(reach < v <= reach + reach // 2 for v in values)
        if value >= MOST:
            continue
        gap = between * 20 <= before and not (in_crowd and max(nearest) > MOST // 2)
        if gap or (in_crowd and max(values) <= MOST * 3 // 2 and value <= MOST // 2):
            bound = max(bound, value)
    return sorted(v for v in values if v <= bound)


@given(
    st.dictionaries(st.sampled_from("abcd"), DISTANCES),
    st.sets(st.sampled_from("abcd")),
    st.integers(1, 6),
    st.sampled_from([0, 2, 3]),
)
def test_the_rule_is_what_it_says(distances, crowded, many, best):
    wanted = {uid: read_aloud(values, uid in crowded, many, best) for uid, values in distances.items()}
    assert chosen(distances, crowded, many, best) == wanted


def test_copies_by_far_the_nearest_and_siblings_by_degrees():
    copies = [ONE // 10, ONE // 8, ONE // 2, FAR]
    degrees = [ONE // 100 * n for n in range(8, 40)]
    found = chosen({"a": copies, "b": degrees}, set(), 4)
    assert found == {"a": copies[:2], "b": []}


def test_the_gap_is_half_of_what_lies_before_it():
    assert chosen({"a": [100_000, 149_000, 200_000, 260_000]}, set(), 4) == {"a": []}
    assert chosen({"a": [100_000, 151_000, 200_000, 260_000]}, set(), 4) == {"a": [100_000]}
