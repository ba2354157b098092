"""Balances the concepts of a set: head concepts are thinned, tail concepts kept whole (MetaCLIP; Xu et al., 2023)."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.concepts.balancing import keep_probability, starts_of, t_of_share, tail_share, threshold_t
from curation.methods.concepts.lottery import NONE, Lots, Unit, lots_of
from curation.methods.concepts.mentions import Mentions, entry_totals, mentions
from curation.methods.reasons import count, mark
from curation.methods.rounds import Round
from curation.methods.selection import Search, bits_of, counted, narrowed, rounds_for, summed, value_of
from curation.stage import Again, Context, Counted, Reduce, Section, Verdicts
from curation.table.arrow import whole
from curation.table.captions import explode, implode
from curation.table.uids import DIGITS
from pipeline.settings import Settings

_COUNTS = pa.schema([("entry", pa.int64()), ("count", pa.int64())])
_BY_LANGUAGE = _COUNTS.append(pa.field("language", pa.string()))
_SEARCH = b"search"
_MILLION = 1_000_000
_DENSE = 1 << 22  # entries whose values may lie in one array by number: 32 MiB
_APART = 2**32  # numbers of entries are below: those of one language, then those of the next


class PerLanguage(Settings):
    """`column` of the captions holds their language (`language` adds `detected`), and t is that of `reference`;
    of every other language it is the count up to which as large a share of its mentions falls on the tail."""

    column: str = Field("detected", min_length=1)
    reference: str = Field("en", min_length=1)


class Balance(Reduce):
    """An entry e that count_e texts mention is kept with p_e = t / max(count_e, t); a text with 1 - prod(1 - p_e) over
    the entries it mentions. A text that a pair carries twice counts and draws once. Keyed uniforms decide, so that a
    larger t only adds. Texts that lose are dropped, and a pair goes with its last one.

    unit          what draws. text: every text for itself (MetaCLIP). one_text: one text of each pair, all as likely,
                  and only it can stay (MetaCLIP 2, worldwide; Chuang et al., 2025). pair: once for the entries of all
                  its texts, which stay or go together: the more texts a pair has, the surer it stays
    t             texts wanted per entry; or
    target_pairs  pairs wanted: exactly so many are kept, those that the smallest t lets in (ties by uid), each with
                  texts that this t keeps. Larger targets only add
    per_language  counts entries in every language apart, with a t for each (MetaCLIP 2); not with target_pairs. Where
                  no text of the reference mentions anything, its t serves all
    unmatched     texts (of unit pair: pairs) that mention no entry: drop, MetaCLIP's filter of noise, or keep, as if
                  they mentioned a rare one (a pair that keeps one counts towards target_pairs)

    Reasons, of captions and of pairs left without one: sampled_out, unmatched (of pairs: none of its texts mentions
    anything); of captions only: not_picked (of one_text).
    """

    kind: Literal["balance"] = "balance"
    version: ClassVar[int] = 2
    after_first: ClassVar[tuple[str, ...]] = ("unit", "t", "target_pairs", "unmatched")

    unit: Unit = "text"
    t: float | None = Field(None, gt=0)
    target_pairs: int | None = Field(None, ge=1)
    unmatched: Literal["drop", "keep"] = "drop"
    per_language: PerLanguage | None = None

    @model_validator(mode="after")
    def _one_aim(self) -> "Balance":
        if (self.t is None) == (self.target_pairs is None):
            raise ValueError("give either t or target_pairs")
        if self.per_language and self.t is None:
            raise ValueError("per_language takes t, that of the reference")
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        more = (f"captions.{self.per_language.column}",) if self.per_language else ()
        return ("captions.text", "captions.concepts", *more)

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        """First the texts that mention each entry; for target_pairs then the pairs by the t that lets them in."""
        if state is None:
            return self._totals(pairs)
        said = mentions(pairs)
        lots = self._lots(said, pairs, ctx.seed)
        row, needed = self._entered(lots, state)
        return counted(bits_of(needed), whole(pairs.column("uid")).take(pa.array(row)), _search_of(state))

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        if "key" in partials[0].column_names:
            return summed(partials)
        schema = _BY_LANGUAGE if self.per_language else _COUNTS
        by = [name for name in ("language", "entry") if name in schema.names]
        both = pa.concat_tables(partials).group_by(by, use_threads=False).aggregate([("count", "sum")])
        both = both.sort_by([(name, "ascending") for name in by]).rename_columns([*by, "count"])
        return both.select(schema.names).cast(schema)

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        return (Round(),) * (1 + (rounds_for(pairs) if self.target_pairs else 0))

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        """entry (rising), count, and in every row the t and the uid of the last pair that t lets in. The first row is
        that of no entry, so that the cut is told even where nothing matches."""
        if state is None:
            if self.per_language is not None:
                return self._told_by_language(partial)
            counts = pa.concat_tables([_no_entry(), partial])
            if self.target_pairs is None:
                return _told(counts, self.t or 0.0, "")
            return Again(_searching(counts, Search(rank=self.target_pairs)))
        search = _search_of(state)
        if not search.prefix and (pc.sum(partial.column("count")).as_py() or 0) <= search.rank:
            return _told(state, np.inf, "")
        search = narrowed(partial, search)
        if not search.found:
            return Again(_searching(state, search))
        return _told(state, value_of(search.prefix), search.prefix[-DIGITS:])

    def _entered(self, lots: Lots, counts: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(row, smallest t that lets the pair in): with the first of its lots."""
        needed = threshold_t(lots.owner, _counts_of(lots.entry, counts), lots.draw)
        row, first = np.unique(lots.row, return_index=True)
        return row, np.minimum.reduceat(needed, first) if len(row) else needed

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        said = self._said(pairs, _languages(state))
        lots = self._lots(said, pairs, ctx.seed)
        lost = self._lost(lots, whole(pairs.column("uid")), state)
        drew, stays = np.zeros(pairs.num_rows, bool), np.zeros(pairs.num_rows, bool)
        drew[lots.row] = True
        stays[lots.row[~lost]] = True
        reason = mark([("unmatched", ~drew), ("sampled_out", ~stays)], pairs.num_rows)
        counts = self._expected(lots, stays, state)
        if self.unit == "pair":
            return Verdicts(reason=reason, counts=counts)
        reasons = self._text_reasons(said, lots, lost).take(pa.array(said.text_of))
        left = implode(explode(pairs).filter(reasons.is_null()), pairs.num_rows)
        return Verdicts(reason=reason, captions=left, caption_drops=count(reasons), counts=counts)

    def counted(self, state: pa.Table) -> Counted:
        entry, count, t = (state.column(name).to_numpy() for name in ("entry", "count", "t"))
        label, at = np.unique(entry[1:], return_inverse=True)
        return Counted(label, np.bincount(at, count[1:], len(label)).astype(np.int64), float(t[0]))

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        if state is None:
            return []
        t, told = state.column("t")[0].as_py(), counts.get("others", {})
        reached = "all that there are" if np.isinf(t) else f"t came to {t:,.4g}"
        wanted = "" if self.target_pairs is None else f"{self.target_pairs:,} pairs were wanted: {reached}. "
        columns = ("", "expected", "standard deviation", "actual", "off, in deviations")
        rows: tuple[tuple[str | float, ...], ...] = ()
        if "stayed" in told:
            mean, spread = told["expected_millionths"] / _MILLION, (told["variance_millionths"] / _MILLION) ** 0.5
            off = (told["stayed"] - mean) / spread if spread else 0.0
            rows = (("pairs kept", round(mean, 1), round(spread, 1), told["stayed"], round(off, 2)),)
        said = f"{wanted}What the chances at this t let expect of the draws, and what came."
        return [Section("Balanced: expected and actual", said, columns, rows), *self._language_sections(state)]

    def _said(self, pairs: pa.Table, languages: Sequence[str]) -> Mentions:
        """The mentions; an entry has another number in each language."""
        said = mentions(pairs)
        if self.per_language is None:
            return said
        number = pc.index_in(self._language_of(pairs, said), pa.array(languages, pa.string()))
        of_text = pc.fill_null(number, 0).to_numpy().astype(np.int64)
        return said._replace(entry=said.entry + of_text[said.owner] * _APART)

    def _language_of(self, pairs: pa.Table, said: Mentions) -> pa.Array:
        """Of each text; "" where it is not known."""
        assert self.per_language is not None
        first = np.unique(said.text_of, return_index=True)[1]
        return pc.fill_null(whole(explode(pairs).column(self.per_language.column)), "").take(pa.array(first))

    def _totals(self, pairs: pa.Table) -> pa.Table:
        """Texts that mention each entry, in every language apart."""
        if self.per_language is None:
            return pa.table(list(entry_totals(mentions(pairs))), schema=_COUNTS)
        languages = sorted(pc.unique(self._language_of(pairs, mentions(pairs))).to_pylist())
        entry, total = entry_totals(self._said(pairs, languages))
        names = [languages[at] for at in (entry // _APART).tolist()]
        return pa.table([entry % _APART, total, names], schema=_BY_LANGUAGE)

    def _told_by_language(self, counts: pa.Table) -> pa.Table:
        """The state, with the t of each row's language."""
        assert self.per_language is not None and self.t is not None
        number, t = counts.column("count").to_numpy(), np.full(counts.num_rows, self.t)
        of = {name: pc.equal(counts.column("language"), name).to_numpy() for name in _languages(counts)}
        reference = of.pop(self.per_language.reference, None)
        if reference is not None:
            share = tail_share(number[reference], self.t)
            for rows in of.values():
                t[rows] = t_of_share(number[rows], share)
        told = _told(pa.concat_tables([_no_entry(), counts], promote_options="default"), self.t, "")
        told = told.append_column("language", pa.concat_arrays([pa.nulls(1, pa.string()), whole(counts["language"])]))
        return told.set_column(told.schema.get_field_index("t"), "t", pa.array(np.concatenate([[self.t], t])))

    def _language_sections(self, state: pa.Table | None) -> list[Section]:
        if state is None or self.per_language is None:
            return []
        by = state.slice(1).group_by("language").aggregate([("t", "min"), ("count", "sum"), ("entry", "count")])
        rows = tuple(tuple(row.values()) for row in by.sort_by([("count_sum", "descending")]).slice(0, 20).to_pylist())
        return [Section("Balanced by language", "", ("language", "t", "mentions", "entries"), rows)]

    def _lots(self, said: Mentions, pairs: pa.Table, seed: int) -> Lots:
        uids = pairs.column("uid").to_pylist()
        return lots_of(said, uids, seed, self.kind, self.unit, self.unmatched == "keep")

    def _expected(self, lots: Lots, stays: np.ndarray, state: pa.Table) -> dict[str, int]:
        """Pairs that the chances let expect and their variance, in whole millionths that add up in any order, beside
        those that stay. A pair stays with 1 - prod(1 - chance) over its lots, each drawn for itself."""
        first = starts_of(lots.row)
        chance = keep_probability(lots.owner, _counts_of(lots.entry, state), len(lots.row), self._ts(lots, state))
        gone = np.multiply.reduceat(1 - chance, first) if len(first) else np.zeros(0)
        names = ("expected_millionths", "variance_millionths")
        told = {n: int(np.rint(v * _MILLION).sum()) for n, v in zip(names, (1 - gone, gone * (1 - gone)), strict=True)}
        return {**told, "stayed": int(stays.sum())}

    def _ts(self, lots: Lots, state: pa.Table) -> Any:
        """The t of each mention, or one for all."""
        return _looked_up(lots.entry, state, "t") if self.per_language else state.column("t")[0].as_py()

    def _lost(self, lots: Lots, uids: pa.Array, state: pa.Table) -> np.ndarray:
        """Whether each lot loses, bool [lot]."""
        counts = _counts_of(lots.entry, state)
        if self.target_pairs is None:
            return lots.draw >= keep_probability(lots.owner, counts, len(lots.row), self._ts(lots, state))
        t, last = state.column("t")[0].as_py(), state.column("last_uid")[0].as_py()
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
    return _looked_up(entries, table, "count")


def _looked_up(entries: np.ndarray, table: pa.Table, name: str) -> np.ndarray:
    known, values = table.column("entry").to_numpy(), table.column(name).to_numpy()
    if "language" in table.column_names:
        number = pc.index_in(table.column("language"), pa.array(_languages(table), pa.string()))
        known = known + pc.fill_null(number, 0).to_numpy().astype(np.int64) * _APART
    if known[-1] < _DENSE:  # a look-up costs a fifth of a search
        dense = np.zeros(int(known[-1]) - NONE + 2)
        dense[known - NONE] = values
        return dense[np.minimum(entries - NONE, len(dense) - 1)]
    at = np.minimum(np.searchsorted(known, entries), len(known) - 1)
    return np.where(known[at] == entries, values[at], 0).astype(np.float64)


def _languages(state: pa.Table) -> list[str]:
    """Of a state, in order: all that some text which mentions an entry has."""
    if "language" not in state.column_names:
        return []
    return sorted(pc.unique(pc.drop_null(state.column("language"))).to_pylist())


def _no_entry() -> pa.Table:
    return pa.table([[NONE], [0]], schema=_COUNTS)


def _told(counts: pa.Table, t: float, last: str) -> pa.Table:
    table = pa.table([counts["entry"], counts["count"]], schema=_COUNTS)
    table = table.append_column("t", pa.array(np.full(table.num_rows, t, np.float64)))
    return table.append_column("last_uid", pa.array([last] * table.num_rows, pa.string()))


def _searching(counts: pa.Table, search: Search) -> pa.Table:
    return counts.replace_schema_metadata({_SEARCH: json.dumps(search._asdict())})


def _search_of(state: pa.Table) -> Search:
    return Search(**json.loads(state.schema.metadata[_SEARCH]))
