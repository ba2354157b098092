"""Balances the concepts of a set: head concepts are thinned, tail concepts kept whole (MetaCLIP; Xu et al., 2023)."""

import json
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.balancing import keep_probability, threshold_t
from curation.methods.lottery import NONE, Lots, Unit, lots_of
from curation.methods.mentions import Mentions, entry_totals, mentions
from curation.methods.reasons import count, mark
from curation.methods.selection import Search, bits_of, counted, narrowed, summed, value_of
from curation.stage import Again, Context, Counted, Reduce, Section, Verdicts
from curation.table.arrow import whole
from curation.table.captions import explode, implode

_COUNTS = pa.schema([("entry", pa.int64()), ("count", pa.int64())])
_SEARCH = b"search"
UID = 32  # digits


class Balance(Reduce):
    """An entry e that count_e texts mention is kept with p_e = t / max(count_e, t); a text with 1 - prod(1 - p_e) over
    the entries it mentions. A text that a pair carries twice counts and draws once. Keyed uniforms decide, so that a
    larger t only adds. Texts that lose are dropped, and a pair goes with its last one.

    unit          what draws. text: every text for itself (MetaCLIP). one_text: one text of each pair, all as likely,
                  and only it can stay (MetaCLIP 2, worldwide; Chuang et al., 2025). pair: once for the entries of all
                  its texts, which stay or go together: the more texts a pair has, the surer it stays
    t             texts wanted per entry; or
    target_pairs  pairs wanted: exactly so many are kept, those that the smallest t lets in (ties by uid), each with the
                  texts that this t keeps. Larger targets only add
    unmatched     texts (of unit pair: pairs) that mention no entry: drop, MetaCLIP's filter of noise, or keep, as if
                  they mentioned a rare one (a pair that keeps one counts towards target_pairs)

    Reasons, of captions and of pairs left without one: sampled_out, unmatched (of pairs: none of its texts mentions
    anything); of captions only: not_picked (of one_text).
    """

    kind: Literal["balance"] = "balance"
    reads: ClassVar[tuple[str, ...]] = ("captions.text", "captions.concepts")
    version: ClassVar[int] = 2
    after_first: ClassVar[tuple[str, ...]] = ("unit", "t", "target_pairs", "unmatched")

    unit: Unit = "text"
    t: float | None = Field(None, gt=0)
    target_pairs: int | None = Field(None, ge=1)
    unmatched: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _one_aim(self) -> "Balance":
        if (self.t is None) == (self.target_pairs is None):
            raise ValueError("give either t or target_pairs")
        return self

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        """First the texts that mention each entry; for target_pairs then the pairs by the t that lets them in."""
        said = mentions(pairs)
        if state is None:
            entry, total = entry_totals(said)
            return pa.table([entry, total], schema=_COUNTS)
        lots = self._lots(said, pairs, ctx.seed)
        row, needed = self._entered(lots, state)
        return counted(bits_of(needed), whole(pairs.column("uid")).take(pa.array(row)), _search_of(state))

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        if "key" in partials[0].column_names:
            return summed(partials)
        both = pa.concat_tables(partials).group_by("entry", use_threads=False).aggregate([("count", "sum")])
        both = both.sort_by("entry")
        return pa.table([both["entry"], both["count_sum"]], schema=_COUNTS)

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        """entry (rising), count, and in every row the t and the uid of the last pair that t lets in. The first row is
        that of no entry, so that the cut is told even where nothing matches."""
        if state is None:
            none = pa.table([[NONE], [0]], schema=_COUNTS)
            counts = pa.concat_tables([none, partial])
            if self.target_pairs is None:
                return _told(counts, self.t or 0.0, "")
            return Again(_searching(counts, Search(rank=self.target_pairs)))
        search = _search_of(state)
        if not search.prefix and (pc.sum(partial.column("count")).as_py() or 0) <= search.rank:
            return _told(state, np.inf, "")
        search = narrowed(partial, search)
        if not search.found:
            return Again(_searching(state, search))
        return _told(state, value_of(search.prefix), search.prefix[-UID:])

    def _entered(self, lots: Lots, counts: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(row, smallest t that lets the pair in): with the first of its lots."""
        needed = threshold_t(lots.owner, _counts_of(lots.entry, counts), lots.draw)
        row, first = np.unique(lots.row, return_index=True)
        return row, np.minimum.reduceat(needed, first) if len(row) else needed

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        said = mentions(pairs)
        lots = self._lots(said, pairs, ctx.seed)
        lost = self._lost(lots, whole(pairs.column("uid")), state)
        drew, stays = np.zeros(pairs.num_rows, bool), np.zeros(pairs.num_rows, bool)
        drew[lots.row] = True
        stays[lots.row[~lost]] = True
        reason = mark([("unmatched", ~drew), ("sampled_out", ~stays)], pairs.num_rows)
        if self.unit == "pair":
            return Verdicts(reason=reason)
        reasons = self._text_reasons(said, lots, lost).take(pa.array(said.text_of))
        left = implode(explode(pairs).filter(reasons.is_null()), pairs.num_rows)
        return Verdicts(reason=reason, captions=left, caption_drops=count(reasons))

    def counted(self, state: pa.Table) -> Counted:
        entry, count, t = (state.column(name).to_numpy() for name in ("entry", "count", "t"))
        return Counted(entry[entry >= 0], count[entry >= 0], float(t[0]))

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        if state is None or self.target_pairs is None:
            return []
        t = state.column("t")[0].as_py()
        reached = "all that there are" if np.isinf(t) else f"t came to {t:,.4g}"
        return [Section("Balanced to a size", f"{self.target_pairs:,} pairs were wanted: {reached}.")]

    def _lots(self, said: Mentions, pairs: pa.Table, seed: int) -> Lots:
        uids = pairs.column("uid").to_pylist()
        return lots_of(said, uids, seed, self.kind, self.unit, self.unmatched == "keep")

    def _lost(self, lots: Lots, uids: pa.Array, state: pa.Table) -> np.ndarray:
        """Whether each lot loses, bool [lot]."""
        counts = _counts_of(lots.entry, state)
        t, last = state.column("t")[0].as_py(), state.column("last_uid")[0].as_py()
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


def _told(counts: pa.Table, t: float, last: str) -> pa.Table:
    table = pa.table([counts["entry"], counts["count"]], schema=_COUNTS)
    table = table.append_column("t", pa.array(np.full(table.num_rows, t, np.float64)))
    return table.append_column("last_uid", pa.array([last] * table.num_rows, pa.string()))


def _searching(counts: pa.Table, search: Search) -> pa.Table:
    return counts.replace_schema_metadata({_SEARCH: json.dumps(search._asdict())})


def _search_of(state: pa.Table) -> Search:
    return Search(**json.loads(state.schema.metadata[_SEARCH]))
