"""Keeps the best of the whole set by any column of numbers: exactly so many, whatever the cut."""

from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.reasons import mark, sift
from curation.methods.rounds import Round
from curation.methods.scores import CAPTIONS, Judged, OfColumn, best_of_each, judged_by
from curation.methods.selection import Search, bits_of, counted, narrowed, rounds_for, summed, value_of
from curation.stage import Again, Context, Reduce, Section, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, counts, explode

_VALUE = 16  # digits


class TopFraction(OfColumn, Reduce):
    """Keeps the `fraction` (rounded down) or the number `keep` of those that have a value which have the greatest;
    equal values by uid, the smaller first. A larger fraction only adds.

    column  of numbers. Of a column of the captions (captions.score):
    per     pair: the best of a pair's captions speaks for it, and all of them stay or go with it (DataComp scores the
            one caption a pair has there); caption: captions are chosen one by one, those of `sources` where there are
            such, and a pair goes with its last

    ties    by_uid: exactly so many. all: what equals the last stays, too, and a fraction has one more to begin with, as
            DataComp has it: of n values, the greatest first, that behind the first int(n x fraction) is the threshold

    Reasons: below_fraction, no_value.
    """

    kind: Literal["top_fraction"] = "top_fraction"
    after_first: ClassVar[tuple[str, ...]] = ("fraction", "keep", "ties")

    fraction: float | None = Field(None, gt=0, le=1)
    keep: int | None = Field(None, ge=1)
    per: Literal["pair", "caption"] = "pair"
    ties: Literal["by_uid", "all"] = "by_uid"

    @model_validator(mode="after")
    def _one_aim(self) -> "TopFraction":
        if (self.fraction is None) == (self.keep is None):
            raise ValueError("give either fraction or keep")
        if self.per == "caption" and not self.column.startswith(CAPTIONS):
            raise ValueError(f"per: caption wants a column of the captions, such as {CAPTIONS}score")
        if self.sources is not None and self.per == "pair":
            raise ValueError("sources: expected per: caption beside it")
        return self

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        values, names, _ = self._ranked(pairs)
        there = np.flatnonzero(~np.isnan(values))
        search = Search() if state is None else Search(**state.to_pylist()[0])
        return counted(bits_of(-values[there]), names.take(pa.array(there)), search)

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        return summed(partials)

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        return (Round(),) * rounds_for(pairs)

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        """The Search, whose prefix is in the end the key of the last that stays: "" for none."""
        if state is None:
            num = pc.sum(partial.column("count")).as_py() or 0
            rank = self.keep or int(Fraction(str(self.fraction)) * num)
            rank += self.ties == "all" and self.fraction is not None
            if not 0 < rank < num:
                return _told(Search("g" if rank else "", rank, found=True))
            search = Search(rank=rank)
        else:
            search = Search(**state.to_pylist()[0])
        search = narrowed(partial, search)
        return _told(search) if search.found else Again(_told(search))

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        reasons = self._reasons(*self._ranked(pairs), state)
        return sift(explode(pairs), reasons, pairs.num_rows) if self.per == "caption" else Verdicts(reason=reasons)

    def _reasons(self, values: np.ndarray, names: pa.Array, spared: np.ndarray, state: pa.Table) -> pa.Array:
        last = state.column("prefix")[0].as_py()
        if len(last) > _VALUE:
            bits, cut = bits_of(-values), np.uint64(int(last[:_VALUE], 16))
            first = pc.less_equal(names, last[_VALUE:]).to_numpy(zero_copy_only=False)
            stays = (bits < cut) | ((bits == cut) & (first | (self.ties == "all")))
        else:
            stays = np.full(len(values), bool(last))
        return mark([("no_value", np.isnan(values) & ~spared), ("below_fraction", ~stays & ~spared)], len(values))

    def cut_at(self, state: pa.Table | None) -> tuple[float, ...]:
        last = "" if state is None else state.column("prefix")[0].as_py()
        return (-value_of(last),) if len(last) > _VALUE else ()

    def judged(self, pairs: pa.Table, state: pa.Table | None) -> Judged:
        assert state is not None
        values, names, spared = self._ranked(pairs)
        kept = self._reasons(values, names, spared, state).is_null().to_numpy(False)
        return judged_by(pairs, values, kept, self.per == "caption")

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        said = [f"{self.column} of at least {cut:.6g} stayed." for cut in self.cut_at(state)]
        return [Section("The best by a column", each) for each in said]

    def _ranked(self, pairs: pa.Table) -> tuple[np.ndarray, pa.Array, np.ndarray]:
        """(value, name that rises with the uid, whether it stays in any case) of each pair or caption."""
        (values, spared), uids = self.numbers_of(pairs), whole(pairs.column("uid"))
        if not self.column.startswith(CAPTIONS):
            return values, uids, spared
        rows = explode(pairs).column(ROW).to_numpy()
        if self.per == "pair":
            return best_of_each(values, rows, pairs.num_rows), uids, np.zeros(pairs.num_rows, bool)
        lengths = counts(pairs.column("captions"))
        place = np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]
        names = [f"{uid}{at:08x}" for uid, at in zip(uids.take(pa.array(rows)).to_pylist(), place, strict=True)]
        return values, pa.array(names, pa.string()), spared


def _told(search: Search) -> pa.Table:
    return pa.Table.from_pylist([search._asdict()])
