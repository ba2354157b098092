"""The first so many pairs of each group by a key, exactly and of any number of pairs, from counts: a radix search in
all groups at once (selection.py beside this has it for one), for stages of the sort Reduce.

A pair's key is 16 hex digits that rise with its value and its uid behind them. What meets in one place is a row for
each group, some 65,536 counts (16 a group where there are more than 4,096), or as many gathered keys.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.reasons import mark
from curation.methods.rounds import Round
from curation.methods.selection import keys_of, summed
from curation.stage import Again, Context, Reduce, Verdicts
from curation.table.arrow import whole

NONE, ALL = "", "g"  # as the last key that stays: before and behind all hex digits
_MEET = 65_536
SEARCH = pa.schema([
    ("group", pa.int64()), ("wanted", pa.int64()), ("size", pa.int64()),
    ("last", pa.string()), ("rank", pa.int64()), ("gather", pa.bool_()), ("found", pa.bool_()),
])  # fmt: skip
"""group (rising) | pairs wanted and there | how the key of the last that stays begins | its place among those that
begin so | whether the keys themselves are wanted now | whether `last` is it, whole."""


class FirstOfEach(Reduce):
    """What a stage writes: `tally` of a bucket and `merge_tallies` of several in the first round, `quotas` from that of
    all, and `ranked`. Further columns of `quotas` stay in the state."""

    reason: ClassVar[str]

    def tally(self, pairs: pa.Table, ctx: Context) -> pa.Table:
        raise NotImplementedError

    def merge_tallies(self, partials: list[pa.Table]) -> pa.Table:
        raise NotImplementedError

    def quotas(self, tally: pa.Table) -> pa.Table:
        """group (int64, rising) | wanted | size | ..."""
        raise NotImplementedError

    def ranked(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> tuple[np.ndarray, np.ndarray]:
        """(group of each pair, int64, -1 for none; uint64 bits: the smaller the sooner)."""
        raise NotImplementedError

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        if state is None:
            return self.tally(pairs, ctx)
        at, keys = self._keyed(pairs, state, ctx)
        active = ~state.column("found").to_numpy()[at]
        at, keys = at[active], keys.filter(pa.array(active))
        begun = whole(state.column("last")).take(pa.array(at))
        length = len(_begun(state))
        inside = (
            pc.equal(pc.utf8_slice_codeunits(keys, 0, length), begun) if length else pa.array(np.ones(len(at), bool))
        )
        at, keys = at[inside.to_numpy(zero_copy_only=False)], keys.filter(inside)
        gather = pa.array(state.column("gather").to_numpy()[at])
        keys = pc.if_else(gather, keys, pc.utf8_slice_codeunits(keys, 0, length + _step(state.num_rows)))
        found = pc.value_counts(pc.binary_join_element_wise(_in_hex(at), keys, ""))
        return pa.table({"key": found.field("values"), "count": found.field("counts")})

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        if "key" in partials[0].column_names:
            return summed(partials)
        return self.merge_tallies(partials)

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        return (Round(),) * (1 + searches(pairs, 1))

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        return _searched(_started(self.quotas(partial)) if state is None else _narrowed(state, partial))

    def begun(self, quotas: pa.Table) -> pa.Table | Again:
        """What `finish` returns where `quotas` took rounds of its own."""
        return _searched(_started(quotas))

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        stays, in_group = np.zeros(pairs.num_rows, bool), self.ranked(pairs, state, ctx)[0] >= 0
        at, keys = self._keyed(pairs, state, ctx)
        last = whole(state.column("last")).take(pa.array(at))
        stays[in_group] = pc.less_equal(keys, last).to_numpy(zero_copy_only=False)
        return Verdicts(reason=mark([("no_group", ~in_group), (self.reason, ~stays)], pairs.num_rows))

    def _keyed(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> tuple[np.ndarray, pa.Array]:
        """(row of the state, key) of each pair that has a group."""
        group, bits = self.ranked(pairs, state, ctx)
        there = np.flatnonzero(group >= 0)
        uids = whole(pairs.column("uid")).take(pa.array(there))
        at = np.searchsorted(state.column("group").to_numpy(), group[there])
        return at, keys_of(bits[there], uids)


def _in_hex(rows: np.ndarray) -> pa.Array:
    """Eight digits of each."""
    digits = rows.astype(">u4").tobytes().hex().encode()
    return (
        pa.Array.from_buffers(pa.binary(8), len(rows), [None, pa.py_buffer(digits)]).cast(pa.binary()).cast(pa.string())
    )


def searches(pairs: int, groups: int) -> int:
    """About how many rounds follow the first: the values of a group differ from their fourth digit on, and what is left
    of all groups together is gathered."""
    digits, left = 3, pairs
    while left > _MEET:
        digits, left = digits + 1, left >> 4
    return -(-digits // _step(groups)) + 1


def _searched(state: pa.Table) -> pa.Table | Again:
    return state if state.column("found").to_numpy().all() else Again(state)


def _step(groups: int) -> int:
    """Digits of a round."""
    return max(digits for digits in (1, 2, 3, 4) if digits == 1 or groups * 16**digits <= _MEET)


def _begun(state: pa.Table) -> str:
    """How the key sought begins, of any group that is still searched: they all know equally many digits."""
    active = state.filter(pc.invert(state.column("found")))
    return active.column("last")[0].as_py() if active.num_rows else ""


def _started(quotas: pa.Table) -> pa.Table:
    wanted, size = (quotas.column(name).to_numpy() for name in ("wanted", "size"))
    all_, none = wanted >= size, wanted <= 0
    search = {
        "last": pc.if_else(pa.array(none), NONE, pc.if_else(pa.array(all_), ALL, "")),
        "rank": wanted, "gather": size <= _MEET // max(len(size), 1), "found": all_ | none,
    }  # fmt: skip
    for name, column in search.items():
        quotas = quotas.append_column(name, pa.array(column))
    return quotas


def _narrowed(state: pa.Table, counts: pa.Table) -> pa.Table:
    """One round further."""
    counts = counts.sort_by("key")
    key, count = whole(counts.column("key")), counts.column("count").to_numpy()
    row = np.frombuffer(bytes.fromhex("".join(pc.utf8_slice_codeunits(key, 0, 8).to_pylist())), ">u4")
    ends = np.concatenate([[0], np.cumsum(count)])
    found, gather = (state.column(name).to_numpy().copy() for name in ("found", "gather"))
    rank = state.column("rank").to_numpy().copy()
    active = np.flatnonzero(~found)
    before = ends[np.searchsorted(row, active)]
    at = np.searchsorted(ends[1:], before + rank[active])
    inside = count[at]
    rank[active] -= ends[at] - before
    found[active] = gather[active]
    gather[active] = (inside <= _MEET // len(found)) | (inside == 1)
    number = np.full(len(found), -1)
    number[active] = np.arange(len(active))
    ahead = pc.utf8_slice_codeunits(key, 8).take(pa.array(at)).take(pa.array(number, mask=number < 0))
    last = pc.coalesce(ahead, whole(state.column("last")))
    for name, column in {"last": last, "rank": rank, "gather": gather, "found": found}.items():
        state = state.set_column(state.schema.get_field_index(name), SEARCH.field(name), pa.array(column))
    return state
