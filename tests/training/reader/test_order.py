from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.errors import DataError, RecipeError
from training.reader.order import Order, default_lanes, permuted


@st.composite
def orders(draw) -> Order:
    lanes = draw(st.integers(1, 12))
    batch = lanes * draw(st.integers(1, 4))
    shards = draw(st.lists(st.integers(0, 30), min_size=1, max_size=8))
    shards[0] += batch  # at least one batch
    window = draw(st.integers(1, 40))
    return Order(shards, seed=draw(st.integers(0, 2**32)), global_batch=batch, lanes=lanes, window=window)


def _ids(order: Order, steps: range, lanes: range | None = None) -> list[tuple[int, int, int]]:
    drawn = [order.draw(step, lanes) for step in steps]
    return [(int(e), int(s), int(r)) for d in drawn for e, s, r in zip(d.epoch, d.shard, d.row, strict=True)]


@given(orders())
@settings(max_examples=60, deadline=None)
def test_every_pair_is_drawn_exactly_once_in_every_epoch(order: Order) -> None:
    epochs = 3
    steps = -(-(epochs + 1) * order.num_pairs // order.global_batch)
    every = {(shard, row) for shard, pairs in enumerate(order.shard_pairs) for row in range(pairs)}
    drawn = _ids(order, range(steps))
    for epoch in range(epochs):
        of_epoch = [(s, r) for e, s, r in drawn if e == epoch]
        assert len(of_epoch) == order.num_pairs
        assert set(of_epoch) == every


@given(orders(), st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_ranks_rows_end_to_end_are_the_global_batch_for_any_world_size(order: Order, step: int, world: int) -> None:
    world = min(world, order.lanes)
    whole = _ids(order, range(step, step + 1))
    parts = [_ids(order, range(step, step + 1), order.lanes_of(rank, world)) for rank in range(world)]
    assert [row for part in parts for row in part] == whole
    assert [len(part) for part in parts] == [order.rows_of(rank, world) for rank in range(world)]


@given(orders(), st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_starting_at_any_step_gives_the_tail_of_the_whole_run(order: Order, start: int) -> None:
    fresh = Order(
        order.shard_pairs, seed=order.seed, global_batch=order.global_batch, lanes=order.lanes, window=order.window
    )
    for step in range(max(0, start - 3), start):
        order.draw(step)  # whatever was drawn before
    assert _ids(order, range(start, start + 4)) == _ids(fresh, range(start, start + 4))


@given(orders(), st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_lanes_never_drift_apart(order: Order, step: int) -> None:
    epochs = order.draw(step).epoch
    true = order.epoch_at(step)
    assert abs(epochs - true).max() <= 1 + 2 * order.global_batch / order.num_pairs


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_a_window_is_permuted(size: int, key: int) -> None:
    out = permuted(np.arange(size), np.int64(size), np.uint64(key))
    assert np.array_equal(np.sort(out), np.arange(size))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 13])
def test_a_window_is_shuffled_without_favourites(size: int) -> None:
    keys = np.random.default_rng(0).integers(0, 2**63, 4000).astype(np.uint64)
    for index in range(size):
        out = permuted(np.full(len(keys), index), np.int64(size), keys)
        assert stats.chisquare(np.bincount(out, minlength=size)).pvalue > 1e-5


def test_neighbours_in_a_shard_are_torn_apart() -> None:
    order = Order([1000] * 20, seed=1, global_batch=64, lanes=16, window=512)
    draws = [order.draw(step) for step in range(200)]
    rows = np.concatenate([d.row[d.lane == 3] for d in draws])
    assert np.mean(np.abs(np.diff(rows)) == 1) < 0.05
    assert np.corrcoef(rows[:-1], rows[1:])[0, 1] < 0.9


def test_another_epoch_or_seed_is_another_order() -> None:
    def lane(seed: int, steps: range) -> list[tuple[int, int]]:
        order = Order([50, 60, 70, 80], seed=seed, global_batch=20, lanes=5, window=16)
        return [(s, r) for _, s, r in _ids(order, steps)]

    first, second, other = lane(0, range(13)), lane(0, range(13, 26)), lane(1, range(13))
    assert set(first) == set(second) == set(other)
    assert first != second and first != other


def test_another_epoch_has_its_shards_in_another_order_not_only_from_another_start() -> None:
    order = Order([64] * 50, seed=5, global_batch=64, lanes=1, window=64)
    epochs = [np.concatenate([order.draw(step).shard for step in range(e * 50, e * 50 + 50)]) for e in range(3)]
    after = [{(int(a), int(b)) for a, b in pairwise(shards) if a != b} for shards in epochs]  # who follows whom
    for one, other in combinations(after, 2):
        assert len(one & other) < 0.3 * len(one)


def test_a_single_shard_does_not_pin_its_pairs_to_a_lane() -> None:
    order = Order([1000], seed=0, global_batch=10, lanes=10, window=1000)
    lanes_of_pair_0 = set()
    for step in range(100 * 8):
        drawn = order.draw(step)
        lanes_of_pair_0 |= set(drawn.lane[drawn.row == 0])
    assert len(lanes_of_pair_0) > 3


def test_memory_does_not_grow_with_the_pairs() -> None:
    # 2e12 pairs in 1,000 shards: anything kept per pair could not be allocated
    order = Order([2_000_000_000] * 1000, seed=0, global_batch=4096)
    drawn = order.draw(10**8)
    assert len(drawn) == 4096 and len({*zip(drawn.shard.tolist(), drawn.row.tolist(), strict=True)}) == 4096
    for step in range(0, 10**9, 10**8):
        order.draw(step)
    assert len(order._epochs) <= 3


def test_default_lanes_divide_the_batch() -> None:
    assert [default_lanes(b) for b in (1, 7, 256, 1024, 2048, 32768, 3000)] == [1, 7, 256, 1024, 1024, 1024, 1000]


def test_faults_say_what_to_type() -> None:
    with pytest.raises(DataError, match=r"hold 5 pairs; one step needs the 8 pairs[^\n]*\nhint: train.batch.global=5"):
        Order([2, 3], seed=0, global_batch=8)
    with pytest.raises(
        RecipeError, match=r"found 3; expected a divisor of the global batch 8\nhint: train.reader.lanes=2"
    ):
        Order([20], seed=0, global_batch=8, lanes=3)
    with pytest.raises(RecipeError, match="5 processes; every process needs a lane"):
        Order([20], seed=0, global_batch=4).lanes_of(0, 5)


@given(
    st.integers(1, 6), st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12)), min_size=2, max_size=4),
    st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 40), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_batches_of_other_sizes_go_on_where_the_lanes_are(lanes, stages, shards, window, seed) -> None:
    """(rows a lane, steps) of each stage; the last one goes on until three epochs are drawn."""
    shards[0] += 5 * lanes
    drawn, step, pairs = [], 0, 0
    every = {(shard, row) for shard, count in enumerate(shards) for row in range(count)}
    for number, (rows, steps) in enumerate(stages):
        order = Order(shards, seed=seed, global_batch=rows * lanes, lanes=lanes, window=window, origin=(step, pairs))
        assert order.drawn_before(step) == pairs
        if number == len(stages) - 1:
            steps = max(steps, -(-4 * len(every) // (rows * lanes)))
        drawn += _ids(order, range(step, step + steps))
        step, pairs = step + steps, pairs + steps * rows * lanes
        assert order.epoch_at(step) == pairs / len(every)
    for epoch in range(3):
        of_epoch = [(shard, row) for one, shard, row in drawn if one == epoch]
        assert sorted(of_epoch) == sorted(every)
    lane_alone = Order(shards, seed=seed, global_batch=lanes, lanes=lanes, window=window)  # one row a lane and step
    assert set(_ids(lane_alone, range(pairs // lanes))) == set(drawn)
