"""Balances the concepts of a set: head concepts are thinned, tail concepts kept whole (MetaCLIP; Xu et al., 2023)."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.reasons import mark
from curation.stage import Global, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.draws import keyed_uniforms, mixed

_BISECTIONS = 64  # halvings of [0, largest count]: finer than a float64 of that size


class Balance(Global):
    """An entry e that count_e texts mention is kept with p_e = t / max(count_e, t); a pair with 1 - prod(1 - p_e) over
    the distinct entries of all its captions. One keyed uniform per pair decides, so that a larger t only adds pairs.

    t             texts wanted per entry; or
    target_pairs  pairs wanted: exactly so many are kept, those that the smallest t lets in (ties by uid), which is what
                  the t it comes to would keep. Larger targets only add pairs. Holds the entries of all pairs in memory
                  once (about 40 bytes a match)
    unmatched     pairs that mention no entry: drop, or keep (they then count towards target_pairs)

    Reasons: unmatched, sampled_out.
    """

    kind: Literal["balance"] = "balance"
    reads: ClassVar[tuple[str, ...]] = ("captions.concepts",)

    t: float | None = Field(None, gt=0)
    target_pairs: int | None = Field(None, ge=1)
    unmatched: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _one_aim(self) -> "Balance":
        if (self.t is None) == (self.target_pairs is None):
            raise ValueError("give either t or target_pairs")
        return self

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        """Two sorts of notes: this bucket's count of each entry (uid ""); for target_pairs also each pair's entries."""
        _, entries = text_entries(pairs)
        entry, count = np.unique(entries, return_counts=True)
        notes = _notes(entry, count, np.zeros(len(entry)), pa.array([""] * len(entry), pa.string()))
        if self.target_pairs is None:
            return notes
        rows, entries = pair_entries(pairs)
        if self.unmatched == "keep":
            alone = np.setdiff1d(np.arange(pairs.num_rows), rows)
            rows, entries = np.concatenate([rows, alone]), np.concatenate([entries, np.full(len(alone), -1)])
        uids = whole(pairs.column("uid"))
        draw = keyed_uniforms(seed, "balance", uids.to_pylist())
        return pa.concat_tables([notes, _notes(entries, np.zeros(len(rows)), draw[rows], uids.take(pa.array(rows)))])

    def settle(self, notes: pa.Table) -> pa.Table:
        of_pairs = pc.not_equal(notes.column("uid"), "")
        counts = notes.filter(pc.invert(of_pairs))
        entry, at = np.unique(counts.column("entry").to_numpy(), return_inverse=True)
        total = np.zeros(len(entry), np.int64)
        np.add.at(total, at, counts.column("count").to_numpy())
        summed = _notes(entry, total, np.zeros(len(entry)), pa.array([""] * len(entry), pa.string()))
        return pa.concat_tables([summed, notes.filter(of_pairs).select(summed.column_names)]).drop_columns(["group"])

    def fold(self, settled: pa.Table) -> pa.Table:
        """entry, count, and in every row the t and the uid of the last pair that t lets in."""
        of_pairs = pc.not_equal(settled.column("uid"), "")
        counts = settled.filter(pc.invert(of_pairs)).select(["entry", "count"]).sort_by("entry")
        t, last = self.t, ""
        if self.target_pairs is not None:
            t, last = self._solve(settled.filter(of_pairs), counts)
            if not counts.num_rows:  # nothing matched anything, yet the cut has to be told
                counts = pa.table({"entry": pa.array([-1], pa.int64()), "count": pa.array([0], pa.int64())})
        table = counts.append_column("t", pa.array(np.full(counts.num_rows, t, np.float64)))
        return table.append_column("last_uid", pa.array([last] * counts.num_rows, pa.string()))

    def _solve(self, pairs: pa.Table, counts: pa.Table) -> tuple[float, str]:
        pairs = pairs.sort_by([("uid", "ascending"), ("entry", "ascending")])
        uids = whole(pairs.column("uid")).dictionary_encode()
        rows, starts = np.unique(uids.indices.to_numpy(), return_index=True)
        entries = pairs.column("entry").to_numpy()
        needed = threshold_t(
            np.repeat(np.arange(len(rows)), np.diff([*starts, len(entries)])),
            _counts_of(entries, counts),
            pairs.column("draw").to_numpy()[starts],
        )
        target = self.target_pairs or 0
        if len(needed) <= target:
            return np.inf, ""
        at = np.lexsort([np.arange(len(needed)), needed])[target - 1]  # uids are in order already
        return float(needed[at]), uids.dictionary[int(uids.indices[int(starts[at])].as_py())].as_py()

    def judge(self, pairs: pa.Table, folded: pa.Table, seed: int) -> Verdicts:
        num = pairs.num_rows
        rows, entries = pair_entries(pairs)
        unmatched = np.ones(num, bool)
        unmatched[rows] = False
        uids = whole(pairs.column("uid"))
        draw = keyed_uniforms(seed, "balance", uids.to_pylist())
        lost = np.zeros(num, bool)
        if folded.num_rows:
            counts = _counts_of(entries, folded)
            t, last = folded.column("t")[0].as_py(), folded.column("last_uid")[0].as_py()
            matched = np.flatnonzero(~unmatched)
            at = np.searchsorted(matched, rows)
            if self.target_pairs is None:
                lost[matched] = draw[matched] >= keep_probability(at, counts, len(matched), t)
            else:
                needed = np.zeros(num)
                needed[matched] = threshold_t(at, counts, draw[matched])
                later = pc.greater(uids, last).to_numpy(zero_copy_only=False)
                lost = (needed > t) | ((needed == t) & later)
        reasons = [("sampled_out", lost)]
        if self.unmatched == "drop":
            reasons.insert(0, ("unmatched", unmatched))
        return Verdicts(reason=mark(reasons, num))


def text_entries(pairs: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Row of the pair and entry of every match of every caption, int64 both."""
    flat = explode(pairs)
    concepts = whole(flat.column("concepts"))
    entries = concepts.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return flat.column(ROW).to_numpy()[pc.list_parent_indices(concepts).to_numpy()], entries


def pair_entries(pairs: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The distinct entries of each pair, sorted by row, then entry."""
    rows, entries = text_entries(pairs)
    distinct = np.unique(np.stack([rows, entries], axis=1), axis=0)
    return distinct[:, 0], distinct[:, 1]


def count_entries(pairs: pa.Table, num_entries: int) -> np.ndarray:
    """How many texts mention each entry, int64 [num_entries]."""
    return np.bincount(text_entries(pairs)[1], minlength=num_entries)


def keep_probability(rows: np.ndarray, counts: np.ndarray, num: int, t: float) -> np.ndarray:
    """1 - prod(1 - t / max(count, t)) for each of `num` rows; `rows` (sorted, every row at least once) owns `counts`.

    A count of 0 marks a pair without entries: probability 1.
    """
    # Products one after the other, not sums of logarithms: the same float64 on every machine.
    missing = np.where(counts > t, 1.0 - t / np.maximum(counts, 1e-300), 0.0)
    return 1.0 - np.multiply.reduceat(missing, np.searchsorted(rows, np.arange(num))) if num else np.zeros(0)


def threshold_t(rows: np.ndarray, counts: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """The smallest t (to float64) at which each pair is kept, that is draw < keep_probability. Arguments as there."""
    num = len(draw)
    if not num:
        return np.zeros(0)
    starts = np.searchsorted(rows, np.arange(num))
    high = np.minimum.reduceat(counts.astype(np.float64), starts)  # at the rarest entry's count it is certain
    low = np.zeros(num)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        share = np.minimum(middle[rows] / np.maximum(counts, 1e-300), 1.0)
        kept = draw < 1.0 - np.multiply.reduceat(1.0 - share, starts)
        high, low = np.where(kept, middle, high), np.where(kept, low, middle)
    return high


def _counts_of(entries: np.ndarray, table: pa.Table) -> np.ndarray:
    known, count = table.column("entry").to_numpy(), table.column("count").to_numpy()
    if not len(known):
        return np.zeros(len(entries))
    at = np.minimum(np.searchsorted(known, entries), len(known) - 1)
    return np.where(known[at] == entries, count[at], 0).astype(np.float64)


def _notes(entry: np.ndarray, count: np.ndarray, draw: np.ndarray, uid: pa.Array) -> pa.Table:
    entry = np.asarray(entry, np.int64)
    return pa.table(
        {
            "group": pa.array(mixed(entry.view(np.uint64))),
            "uid": uid,
            "entry": pa.array(entry),
            "count": pa.array(np.asarray(count, np.int64)),
            "draw": pa.array(np.asarray(draw, np.float64)),
        }
    )
