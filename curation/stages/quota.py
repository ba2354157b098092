"""A mixture: so many pairs, or such a share, of each value of a column (a source, a host, a language, a tag)."""

from fractions import Fraction
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.first_of_each import FirstOfEach
from curation.methods.selection import bits_of
from curation.methods.shares import by_share
from curation.stage import Context, Section
from curation.table import captions
from curation.table.arrow import whole
from pipeline.draws import keyed_uniforms

_CAPTIONS = "captions."
OTHERS = "*"
_TALLY = pa.schema([("group", pa.int64()), ("size", pa.int64())])


class Quota(FirstOfEach):
    """Keeps of each value so many pairs, those with the smallest keyed draws (seed, uid), ties by uid: a larger number
    of a value only adds.

    by      a column of pairs, or of captions (captions.detected), of which a pair's first one speaks for it; or `host`,
            that of the image's url. Values are compared as text: true, false, 3, en
    counts  value -> pairs wanted; or
    shares  value -> share, in any unit, of `total` pairs. Parts of the total are whole numbers that add up to it.
            Without `total`: of the largest number of which every value has its share, so that the mixture is exact
    others  all values that are not named, and pairs without one: drop, or keep; or name "*" in counts or shares

    A value of which there are fewer pairs than wanted keeps what it has; the report says so. Reasons: over_quota,
    no_group (a value that has no quota).
    """

    kind: Literal["quota"] = "quota"
    reason: ClassVar[str] = "over_quota"

    by: str = Field(min_length=1)
    counts: dict[str, int] | None = None
    shares: dict[str, float] | None = None
    total: int | None = Field(None, ge=1)
    others: Literal["drop", "keep"] = "drop"
    after_first: ClassVar[tuple[str, ...]] = ("total",)

    @model_validator(mode="after")
    def _one_aim(self) -> "Quota":
        if (self.counts is None) == (self.shares is None):
            raise ValueError("give either counts or shares")
        named = self.counts or self.shares or {}
        if not named:
            raise ValueError("name at least one value")
        if self.counts is not None and self.total is not None:
            raise ValueError("total goes with shares")
        if min(named.values()) < 0 or (self.shares and min(named.values()) <= 0):
            raise ValueError("counts are 0 or more, shares more than 0")
        if OTHERS in named and self.others == "keep":
            raise ValueError('either others: keep or a quota for "*"')
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("url",) if self.by == "host" else (self.by,)

    @property
    def _names(self) -> list[str]:
        """Of the groups, in order; the last is of all others, where they have one."""
        named = sorted({*(self.counts or {}), *(self.shares or {})} - {OTHERS})
        return [*named, OTHERS] if self._has_others else named

    @property
    def _has_others(self) -> bool:
        return self.others == "keep" or OTHERS in (self.counts or self.shares or {})

    def tally(self, pairs: pa.Table, ctx: Context) -> pa.Table:
        group = self._groups(pairs)
        found, size = np.unique(group[group >= 0], return_counts=True)
        return pa.table([found, size], schema=_TALLY)

    def merge_tallies(self, partials: list[pa.Table]) -> pa.Table:
        found = pa.concat_tables(partials).group_by("group", use_threads=False).aggregate([("size", "sum")])
        return pa.table([found["group"], found["size_sum"]], schema=_TALLY).sort_by("group").combine_chunks()

    def quotas(self, tally: pa.Table) -> pa.Table:
        size = np.zeros(len(self._names), np.int64)
        size[tally.column("group").to_numpy()] = tally.column("size").to_numpy()
        wanted = self._wanted(size.tolist())
        return pa.table({"group": np.arange(len(size)), "wanted": pa.array(wanted, pa.int64()), "size": size})

    def _wanted(self, size: list[int]) -> list[int]:
        named = self.counts if self.counts is not None else self._parts(dict(zip(self._names, size, strict=True)))
        return [named.get(name, there) for name, there in zip(self._names, size, strict=True)]

    def _parts(self, size: dict[str, int]) -> dict[str, int]:
        names = sorted(self.shares or {})
        shares = [Fraction(str((self.shares or {})[name])) for name in names]
        whole_share, total = sum(shares), self.total
        if total is None:
            total = min(int(size[name] * whole_share / share) for name, share in zip(names, shares, strict=True))
            while any(part > size[name] for name, part in zip(names, by_share(shares, total), strict=True)):
                total -= 1  # what rounding gave to a value that has no more
        return dict(zip(names, by_share(shares, total), strict=True))

    def ranked(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> tuple[np.ndarray, np.ndarray]:
        draws = keyed_uniforms(ctx.seed, self.kind, pairs.column("uid").to_pylist())
        return self._groups(pairs), bits_of(draws)

    def _groups(self, pairs: pa.Table) -> np.ndarray:
        """int64: the number of each pair's group, -1 for none."""
        known = [name for name in self._names if name != OTHERS]
        values = pc.index_in(self._values(pairs), pa.array(known, pa.string()))
        return pc.fill_null(values, len(known) if self._has_others else -1).to_numpy().astype(np.int64)

    def _values(self, pairs: pa.Table) -> pa.Array:
        if self.by == "host":
            urls = whole(pairs.column("url")).dictionary_encode()
            return pa.array([_host(url) for url in urls.dictionary.to_pylist()], pa.string()).take(urls.indices)
        if self.by.startswith(_CAPTIONS):
            return captions.first(pairs, self.by.removeprefix(_CAPTIONS)).cast(pa.string())
        return whole(pairs.column(self.by)).cast(pa.string())

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        if state is None:
            return []
        rows = [
            (*row, min(row[1:]))
            for row in zip(self._names, *(state[n].to_pylist() for n in ("wanted", "size")), strict=True)
        ]
        return [Section(f"Quotas by {self.by}", "", (self.by, "wanted", "there", "kept"), tuple(rows[:100]))]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
