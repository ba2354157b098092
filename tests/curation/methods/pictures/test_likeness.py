"""Who stays of alike pairs, said by messages, is who goes through all of them one by one says, in few rounds."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.pictures.likeness import (
    LINKS,
    SAID,
    Neighbours,
    component_heads,
    decisions,
    introductions,
    near_survivors,
)
from tests.helpers.lanes import examples


def names(number: int, seed: int) -> list[str]:
    """Ranks: a value in front, ending in a uid that has nothing to do with it."""
    rng = random.Random(seed)
    return [f"{value:04x}{rng.getrandbits(128):032x}" for value in rng.sample(range(number * 3), number)]


def simulated(ranks, edges, bucket_of, say, conclude) -> tuple[dict[str, str], int]:
    """({rank: rank of the survivor} of pairs that have links, rounds), pairs living in the buckets `bucket_of`."""
    both = edges + [(b, a) for a, b in edges]
    where = {rank[-32:]: bucket_of[n] for n, rank in enumerate(ranks)}
    links = {}
    for bucket in set(bucket_of):
        own = [rank for rank in ranks if where[rank[-32:]] == bucket]
        here = [(ranks[a][-32:], ranks[b]) for a, b in both if bucket_of[a] == bucket]
        table = pa.table([[u for u, _ in here], [n for _, n in here]], schema=LINKS)
        links[bucket] = Neighbours.of(pa.array(own, pa.string()), table)
    told = {bucket: [] for bucket in links}
    for rounds in range(3 * len(ranks) + 3):
        said = [row for bucket in links for row in say(links[bucket], told[bucket]).to_pylist()]
        random.Random(rounds).shuffle(said)
        if not said:
            break
        for bucket in links:
            rows = [row for row in said if where[row["uid"]] == bucket]
            told[bucket].append(pa.Table.from_pylist([{n: r[n] for n in SAID.names} for r in rows], schema=SAID))
    else:
        raise AssertionError("it never ends")
    found = {}
    for bucket, own in links.items():
        found |= dict(zip(own.rank.to_pylist(), conclude(own, told[bucket]).to_pylist(), strict=True))
    return found, rounds


def greedy(ranks, edges) -> dict[str, str]:
    near = {rank: set() for rank in ranks}
    for a, b in edges:
        near[ranks[a]].add(ranks[b])
        near[ranks[b]].add(ranks[a])
    kept, goes = [], {}
    for rank in sorted(ranks):
        better = sorted(set(kept) & near[rank])
        if not better:
            kept.append(rank)
        goes[rank] = better[0] if better else rank
    return {rank: goes[rank] for rank in ranks if near[rank]}


def components(ranks, edges) -> dict[str, str]:
    parent = list(range(len(ranks)))

    def root(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    for a, b in edges:
        parent[root(a)] = root(b)
    linked = {n for edge in edges for n in edge}
    return {ranks[n]: min(ranks[m] for m in range(len(ranks)) if root(m) == root(n)) for n in linked}


@st.composite
def graphs(draw):
    number = draw(st.integers(2, 14))
    node = st.integers(0, number - 1)
    edges = draw(st.lists(st.tuples(node, node).filter(lambda e: e[0] != e[1]), max_size=25))
    buckets = draw(st.lists(st.integers(0, 3), min_size=number, max_size=number))
    return names(number, draw(st.integers(0, 10**6))), edges, buckets


@given(graphs())
@examples(120)
def test_near_survivors_are_those_of_going_from_the_best_down(graph):
    ranks, edges, buckets = graph
    found, _ = simulated(ranks, edges, buckets, decisions, near_survivors)
    assert found == greedy(ranks, edges)


@given(graphs())
@examples(120)
def test_component_heads_are_the_best_of_all_that_hang_together(graph):
    ranks, edges, buckets = graph
    found, _ = simulated(ranks, edges, buckets, introductions, component_heads)
    assert found == components(ranks, edges)


@pytest.mark.parametrize(("ordered", "lengths"), [(False, (10, 100, 1_000)), (True, (10, 50, 100))])
def test_a_chain_hangs_together_in_rounds_that_grow_as_a_logarithm(ordered, lengths):
    taken = {}
    for length in lengths:
        ranks = names(length, 5)
        ranks = sorted(ranks) if ordered else ranks
        edges = [(n, n + 1) for n in range(length - 1)]
        found, taken[length] = simulated(ranks, edges, [n % 4 for n in range(length)], introductions, component_heads)
        assert set(found.values()) == {min(ranks)}
    assert all(rounds <= 2 * length.bit_length() + 2 for length, rounds in taken.items())
