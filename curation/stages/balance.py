"""Balances the concepts of a set: head concepts are thinned, tail concepts kept whole (MetaCLIP; Xu et al., 2023)."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.balancing import keep_probability, threshold_t
from curation.methods.lottery import NONE, Lots, Unit, lots_of
from curation.methods.mentions import Mentions, entry_totals, mentions
from curation.methods.reasons import count, mark
from curation.stage import Global, Verdicts
from curation.table.arrow import whole
from curation.table.captions import explode, implode
from pipeline.draws import mixed


class Balance(Global):
    """An entry e that count_e texts mention is kept with p_e = t / max(count_e, t); a text with 1 - prod(1 - p_e) over
    the entries it mentions. A text that a pair carries twice counts and draws once. Keyed uniforms decide, so that a
    larger t only adds. Texts that lose are dropped, and a pair goes with its last one.

    unit          what draws. text: every text for itself (MetaCLIP). one_text: one text of each pair, all as likely,
                  and only it can stay (MetaCLIP 2, worldwide; Chuang et al., 2025). pair: once for the entries of all
                  its texts, which stay or go together: the more texts a pair has, the surer it stays
    t             texts wanted per entry; or
    target_pairs  pairs wanted: exactly so many are kept, those that the smallest t lets in (ties by uid), each with the
                  texts that this t keeps. Larger targets only add. Holds the entries of all texts in memory once (about
                  50 bytes a match)
    unmatched     texts (of unit pair: pairs) that mention no entry: drop, MetaCLIP's filter of noise, or keep, as if
                  they mentioned a rare one (a pair that keeps one counts towards target_pairs)

    Reasons, of captions and of pairs left without one: sampled_out, unmatched (of pairs: none of its texts mentions
    anything); of captions only: not_picked (of one_text).
    """

    kind: Literal["balance"] = "balance"
    reads: ClassVar[tuple[str, ...]] = ("captions.text", "captions.concepts")
    version: ClassVar[int] = 2

    unit: Unit = "text"
    t: float | None = Field(None, gt=0)
    target_pairs: int | None = Field(None, ge=1)
    unmatched: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _one_aim(self) -> "Balance":
        if (self.t is None) == (self.target_pairs is None):
            raise ValueError("give either t or target_pairs")
        return self

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        """Two sorts of notes: this bucket's count of each entry (uid ""); for target_pairs also each lot's entries."""
        said = mentions(pairs)
        entry, total = entry_totals(said)
        notes = _notes(pa.array([""] * len(entry), pa.string()), entry, count=total)
        if self.target_pairs is None:
            return notes
        lots = self._lots(said, pairs, seed)
        uids = whole(pairs.column("uid")).take(pa.array(lots.row[lots.owner]))
        return pa.concat_tables(
            [notes, _notes(uids, lots.entry, text=lots.text[lots.owner], draw=lots.draw[lots.owner])]
        )

    def settle(self, notes: pa.Table) -> pa.Table:
        """The counts of an entry summed up; the other notes as they are."""
        of_lots = pc.not_equal(notes.column("uid"), "")
        counts = notes.filter(pc.invert(of_lots)).group_by("entry").aggregate([("count", "sum")])
        total = counts.column("count_sum").to_numpy()
        summed = _notes(pa.array([""] * len(total), pa.string()), counts.column("entry").to_numpy(), count=total)
        return pa.concat_tables([summed, notes.filter(of_lots).select(summed.column_names)]).drop_columns(["group"])

    def fold(self, settled: pa.Table) -> pa.Table:
        """entry (rising), count, and in every row the t and the uid of the last pair that t lets in. The first row is
        that of no entry, so that the cut is told even where nothing matches."""
        of_lots = pc.not_equal(settled.column("uid"), "")
        found = settled.filter(pc.invert(of_lots)).sort_by("entry")
        entry = np.concatenate([[NONE], found.column("entry").to_numpy()]).astype(np.int64)
        total = np.concatenate([[0], found.column("count").to_numpy()]).astype(np.int64)
        counts = pa.table({"entry": entry, "count": total})
        t, last = (self.t, "") if self.target_pairs is None else self._solve(settled.filter(of_lots), counts)
        table = counts.append_column("t", pa.array(np.full(counts.num_rows, t, np.float64)))
        return table.append_column("last_uid", pa.array([last] * counts.num_rows, pa.string()))

    def _solve(self, lots: pa.Table, counts: pa.Table) -> tuple[float, str]:
        """The t that lets in `target_pairs` pairs, and the last of them: a pair comes in with the first of its lots."""
        lots = lots.sort_by([("uid", "ascending"), ("text", "ascending"), ("entry", "ascending")])
        uids = whole(lots.column("uid")).dictionary_encode()
        pair, text, entry = uids.indices.to_numpy(), lots.column("text").to_numpy(), lots.column("entry").to_numpy()
        new = np.ones(len(pair), bool)
        new[1:] = (np.diff(pair) != 0) | (np.diff(text) != 0)
        starts = np.flatnonzero(new)
        needed = threshold_t(np.cumsum(new) - 1, _counts_of(entry, counts), lots.column("draw").to_numpy()[starts])
        target = self.target_pairs or 0
        if len(uids.dictionary) <= target:
            return np.inf, ""
        _, first = np.unique(pair[starts], return_index=True)
        needed = np.minimum.reduceat(needed, first)
        at = np.lexsort([np.arange(len(needed)), needed])[target - 1]  # uids are in order already
        return float(needed[at]), uids.dictionary[int(at)].as_py()

    def judge(self, pairs: pa.Table, folded: pa.Table, seed: int) -> Verdicts:
        said = mentions(pairs)
        lots = self._lots(said, pairs, seed)
        lost = self._lost(lots, whole(pairs.column("uid")), folded)
        drew, stays = np.zeros(pairs.num_rows, bool), np.zeros(pairs.num_rows, bool)
        drew[lots.row] = True
        stays[lots.row[~lost]] = True
        reason = mark([("unmatched", ~drew), ("sampled_out", ~stays)], pairs.num_rows)
        if self.unit == "pair":
            return Verdicts(reason=reason)
        reasons = self._text_reasons(said, lots, lost).take(pa.array(said.text_of))
        left = implode(explode(pairs).filter(reasons.is_null()), pairs.num_rows)
        return Verdicts(reason=reason, captions=left, caption_drops=count(reasons))

    def _lots(self, said: Mentions, pairs: pa.Table, seed: int) -> Lots:
        uids = pairs.column("uid").to_pylist()
        return lots_of(said, uids, seed, self.kind, self.unit, self.unmatched == "keep")

    def _lost(self, lots: Lots, uids: pa.Array, folded: pa.Table) -> np.ndarray:
        """Whether each lot loses, bool [lot]."""
        counts = _counts_of(lots.entry, folded)
        t, last = folded.column("t")[0].as_py(), folded.column("last_uid")[0].as_py()
        if self.target_pairs is None:
            return lots.draw >= keep_probability(lots.owner, counts, len(lots.row), t)
        needed = threshold_t(lots.owner, counts, lots.draw)
        later = pc.greater(uids, last).to_numpy(zero_copy_only=False)[lots.row]
        return (needed > t) | ((needed == t) & later)

    def _text_reasons(self, said: Mentions, lots: Lots, lost: np.ndarray) -> pa.Array:
        """Why each text goes, string [text]; null where it stays."""
        num = len(said.row)
        has_lot, loses, matched = np.zeros(num, bool), np.zeros(num, bool), np.zeros(num, bool)
        of_text = lots.text != NONE
        has_lot[lots.text[of_text]] = True
        loses[lots.text[of_text & lost]] = True
        matched[said.owner] = True
        unmatched = ~matched if self.unmatched == "drop" else np.zeros(num, bool)
        return mark([("unmatched", unmatched), ("not_picked", ~has_lot), ("sampled_out", loses)], num)


def _counts_of(entries: np.ndarray, table: pa.Table) -> np.ndarray:
    """The count of each entry by a table whose column `entry` rises, float64; 0 where it has none."""
    known, count = table.column("entry").to_numpy(), table.column("count").to_numpy()
    at = np.minimum(np.searchsorted(known, entries), len(known) - 1)
    return np.where(known[at] == entries, count[at], 0).astype(np.float64)


def _notes(
    uid: pa.Array,
    entry: np.ndarray,
    count: np.ndarray | int = 0,
    text: np.ndarray | int = NONE,
    draw: np.ndarray | float = 0.0,
) -> pa.Table:
    shape = np.shape(entry)
    entry = np.asarray(entry, np.int64)
    return pa.table(
        {
            "group": pa.array(mixed(entry.view(np.uint64))),
            "uid": uid,
            "text": pa.array(np.broadcast_to(np.asarray(text, np.int64), shape)),
            "entry": pa.array(entry),
            "count": pa.array(np.broadcast_to(np.asarray(count, np.int64), shape)),
            "draw": pa.array(np.broadcast_to(np.asarray(draw, np.float64), shape)),
        }
    )
