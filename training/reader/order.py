"""Which pairs a step draws: a pure function of (shard sizes, seed, global batch, lanes, window, step, origin).

The shards of all datasets are permuted anew in every epoch; their pairs, laid end to end, are cut into C contiguous
blocks, one for each lane. A lane walks through its block in windows, each shuffled by a keyed Feistel permutation, and
goes on with its block of the next epoch. A step takes the next B/C pairs of every lane: where the batch was another one
before some step, a lane goes on from the pairs it has given (the origin). So
- a step's pairs do not depend on the number of ranks, workers or restarts, and any step can be reached at once;
- every pair is drawn exactly once in every epoch, and all lanes cross an epoch's end within one draw of each other;
- nothing is stored per pair, only one prefix sum per shard.

Block lengths differ by one where C does not divide the number of pairs N. To keep lanes together for ever, lane l has
passed floor((e*N + l) / C) positions before epoch e: by Hermite's identity the blocks of an epoch add up to exactly N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.draws import keyed_u64, mixed
from pipeline.errors import DataError, RecipeError

MAX_LANES = 1024
_ROUNDS = 8
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_EPOCHS_KEPT = 3  # a step touches at most three epochs


@dataclass(frozen=True)
class Draw:
    """n pairs in lane order; int64 arrays of length n. `shard` counts through all datasets, `row` within the shard."""

    lane: np.ndarray
    epoch: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class _Epoch:
    key: int
    shift: int  # the blocks start here, so that a pair changes lanes even where a dataset has a single shard
    shards: np.ndarray  # permuted shard numbers
    starts: np.ndarray  # first position of each permuted shard, plus the end


def default_lanes(global_batch: int) -> int:
    """The largest divisor of the global batch that is at most 1,024."""
    return max(lanes for lanes in range(1, min(global_batch, MAX_LANES) + 1) if global_batch % lanes == 0)


class Order:
    """See the module. `shard_pairs` are the pairs of each shard (a shard may be empty).

    DataError when there are fewer pairs than one batch; RecipeError when the lanes do not divide the batch.
    """

    def __init__(
        self,
        shard_pairs: Sequence[int] | np.ndarray,
        *,
        seed: int,
        global_batch: int,
        lanes: int | None = None,
        window: int = 4096,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """`origin`: (step, pairs drawn before it by batches of other sizes); steps before it are not asked for."""
        self.shard_pairs = np.asarray(shard_pairs, dtype=np.int64)
        self.num_pairs = int(self.shard_pairs.sum())
        self.seed, self.global_batch, self.window, self.origin = seed, global_batch, window, origin
        self.lanes = default_lanes(global_batch) if lanes is None else lanes
        if global_batch % self.lanes:
            hint = f"train.reader.lanes={_nearest_divisor(global_batch, self.lanes)}"
            raise RecipeError(
                "train.reader.lanes",
                f"found {self.lanes}",
                f"expected a divisor of the global batch {global_batch}",
                hint,
            )
        if self.num_pairs < global_batch:
            found = f"the datasets hold {self.num_pairs} pairs"
            expected = f"one step needs the {global_batch} pairs of train.batch.global"
            raise DataError(
                "train.data", found, expected, f"train.batch.global={max(self.num_pairs, 1)} or less, or add data"
            )
        self._epochs: dict[int, _Epoch] = {}

    def lanes_of(self, rank: int, world: int) -> range:
        """The contiguous lanes of a rank (sizes differ by at most one); RecipeError with more ranks than lanes."""
        if world > self.lanes:
            expected = f"every process needs a lane, and the global batch {self.global_batch} is cut into {self.lanes}"
            raise RecipeError(
                "launch.processes",
                f"{world} processes",
                expected,
                f"use at most {self.lanes} processes or raise train.batch.global",
            )
        return range(rank * self.lanes // world, (rank + 1) * self.lanes // world)

    def rows_of(self, rank: int, world: int) -> int:
        """Rows of a rank's part of every step."""
        return len(self.lanes_of(rank, world)) * (self.global_batch // self.lanes)

    def epoch_at(self, step: int) -> float:
        """Passes over the data made before `step`."""
        return self.drawn_before(step) / self.num_pairs

    def drawn_before(self, step: int) -> int:
        """Pairs drawn by all steps before `step`, which is not before the origin."""
        first, drawn = self.origin
        return drawn + (step - first) * self.global_batch

    def draw(self, step: int, lanes: range | None = None) -> Draw:
        """The pairs of `step` in the given lanes (all when None), lane by lane."""
        lanes = range(self.lanes) if lanes is None else lanes
        count, n = self.lanes, self.num_pairs
        per_lane = self.global_batch // count
        lane = np.repeat(np.arange(lanes.start, lanes.stop, dtype=np.int64), per_lane)
        position = np.tile(self.drawn_before(step) // count + np.arange(per_lane, dtype=np.int64), len(lanes))
        epoch = ((position + 1) * count - lane - 1) // n
        before = (epoch * n + lane) // count
        length = ((epoch + 1) * n + lane) // count - before
        offset = position - before
        block = _summed(lane, (epoch + 1) * n, count) - _summed(lane, epoch * n, count)
        start = offset // self.window * self.window
        size = np.minimum(self.window, length - start)
        shard, row = np.empty_like(lane), np.empty_like(lane)
        for number in np.unique(epoch):
            here = epoch == number
            table = self._epoch(int(number))
            key = _mix(_mix(np.uint64(table.key) ^ lane[here].astype(np.uint64)) ^ start[here].astype(np.uint64))
            moved = permuted((offset - start)[here], size[here], key)
            place = (block[here] + start[here] + moved + table.shift) % n
            nth = np.searchsorted(table.starts, place, side="right") - 1
            shard[here], row[here] = table.shards[nth], place - table.starts[nth]
        return Draw(lane, epoch, shard, row)

    def _epoch(self, number: int) -> _Epoch:
        if number not in self._epochs:
            key = keyed_u64(self.seed, "order", number)
            draws = _mix(np.uint64(key) ^ _mix(np.arange(len(self.shard_pairs), dtype=np.uint64)))
            shards = np.argsort(draws, kind="stable")
            starts = np.concatenate([[0], np.cumsum(self.shard_pairs[shards])])
            while len(self._epochs) >= _EPOCHS_KEPT:
                del self._epochs[max(self._epochs, key=lambda kept: abs(kept - number))]
            self._epochs[number] = _Epoch(key, keyed_u64(self.seed, "shift", number) % self.num_pairs, shards, starts)
        return self._epochs[number]


def permuted(index: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Image of each index under the keyed permutation of range(size): elementwise, int64, uint64 key.

    A Feistel network on the next power of two (halves of unequal width allowed), applied again until the value falls
    inside (cycle walking): a bijection of range(size) for every key and size, in O(1) memory.
    """
    size = np.broadcast_to(np.asarray(size, dtype=np.int64), np.shape(index))
    key = np.broadcast_to(np.asarray(key, dtype=np.uint64), np.shape(index))
    value = np.array(index, dtype=np.uint64)
    bits = np.maximum(np.ceil(np.log2(np.maximum(size, 2))).astype(np.uint64), np.uint64(2))
    outside = np.arange(value.size)
    while outside.size:
        value[outside] = _feistel(value[outside], bits[outside], key[outside])
        outside = outside[value[outside] >= size[outside].astype(np.uint64)]
    return value.astype(np.int64)


def _feistel(value: np.ndarray, bits: np.ndarray, key: np.ndarray) -> np.ndarray:
    one = np.uint64(1)
    low_bits = bits // np.uint64(2)
    low_mask, high_mask = (one << low_bits) - one, (one << (bits - low_bits)) - one
    low, high = value & low_mask, value >> low_bits
    for turn in range(_ROUNDS):
        turn_key = key + np.uint64(turn)
        if turn % 2:
            low = low ^ (_mix(_mix(turn_key) ^ high) & low_mask)
        else:
            high = high ^ (_mix(_mix(turn_key) ^ low) & high_mask)
    return (high << low_bits) | low


def _mix(x: np.ndarray | np.uint64) -> np.ndarray:
    """One step of SplitMix64: a bijection of 64-bit words that scatters their bits and fixes none."""
    return mixed(np.atleast_1d(np.asarray(x, dtype=np.uint64)) + _GAMMA)


def _summed(lane: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """Sum of floor((x + j) / count) over the lanes j < lane."""
    return lane * (x // count) + np.maximum(0, lane - (count - x % count))


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = [d for d in range(1, min(number, MAX_LANES) + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))
