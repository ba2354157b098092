"""Bounds how many pairs may share captions that are nearly the same: MinHash with verification."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.kept_apart import HEARD, Heard, settled
from curation.methods.minhash import alike, bands, rows_for
from curation.methods.pictures.duplicates import Criterion, criterion_of
from curation.methods.reasons import sift
from curation.stage import GROUP, NO_NOTES, Context, Group, Told, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.draws import hashed_u64, mixed

COMPARE, SHARE = "compare", "share"
_TOLD = pa.schema([pa.field("name", pa.string()), *list(HEARD)[1:]])
_LIMITS = pa.schema([("head", pa.string()), ("last", pa.string())])
_MOST, _LENGTH = 2**32 - 1, 8  # digits of a length in a rank


class CaptionMinhash(Group):
    """Two texts (case-folded, spaces collapsed) are alike when the Jaccard of their shingles, runs of `shingle`
    characters, is at least `threshold`. Going through all distinct texts, the longest first, each that is still there
    takes those alike to it into its group, so that every text of a group is alike to its head. Of all pairs with a
    text of one group, the same text or another, at most `max_pairs` keep it.

    hashes, recall  who is compared is found by MinHash: bands of as many hashes as let two texts exactly as alike as
                    `threshold` meet with a chance of `recall`, those more alike with a greater one. Who meets is
                    compared by the shingles themselves, so none goes that is not alike
    survivor        pairs that keep it: the best by the first criterion that differs (as in exact_duplicates), at last
                    the smaller uid. A larger `max_pairs` only adds captions

    Texts of fewer characters than `shingle` are alike to themselves alone. Reason (of captions, and of pairs left
    without one): near_copy; detail: the head of the group.
    """

    kind: Literal["caption_minhash"] = "caption_minhash"
    after_first: ClassVar[tuple[str, ...]] = ("max_pairs", "survivor")
    repeated: ClassVar[frozenset[str]] = frozenset({COMPARE})

    threshold: float = Field(0.8, gt=0, le=1)
    shingle: int = Field(5, ge=1, le=64)
    hashes: int = Field(128, ge=1, le=1024)
    recall: float = Field(0.99, gt=0, lt=1)
    max_pairs: int = Field(1, ge=1)
    survivor: tuple[Criterion, ...] = ("area", "num_captions", "longest_caption")

    @model_validator(mode="after")
    def _reachable(self) -> "CaptionMinhash":
        if 1 - (1 - self.threshold) ** self.hashes < self.recall:
            raise ValueError(f"{self.hashes} hashes find too few of those alike at {self.threshold}: give more hashes")
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("captions.text", *(("width", "height") if "area" in self.survivor else ()))

    @property
    def steps(self) -> tuple[str, ...]:
        return (COMPARE, SHARE)

    def notes_per_pair(self, step: str, ctx: Context) -> int:
        return self.hashes // self._rows if step == COMPARE else 1

    @property
    def _rows(self) -> int:
        return rows_for(self.threshold, self.hashes, self.recall)

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        said = _Said.of(pairs)
        heard = _heard(said, told)
        if told.step == SHARE:
            heads = said.heads(heard).take(pa.array(said.at))
            ranks = self._ranks(pairs).take(pa.array(said.row))
            notes = pa.table({"head": heads, "rank": ranks}).group_by(["head", "rank"]).aggregate([])
            return notes.append_column(GROUP, pa.array(hashed_u64(notes.column("head").to_pylist())))
        asks = np.flatnonzero(heard.asks)
        if not len(asks):
            return NO_NOTES.empty_table()
        texts = said.texts.take(pa.array(asks))
        groups = bands(texts.to_pylist(), self.shingle, self.hashes, self._rows)
        notes = pa.table({"name": texts, "state": heard.state[asks]})
        salted = (mixed(each ^ np.uint64(at)) for at, each in enumerate(groups))
        return pa.concat_tables([notes.append_column(GROUP, pa.array(each)) for each in salted])

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        """Each text once; of a head's pairs as many as may keep it, and one more, which says that there are others."""
        if step == COMPARE:
            return notes.group_by([GROUP, "name", "state"]).aggregate([])
        ordered = notes.sort_by([("head", "ascending"), ("rank", "ascending")])
        place = np.arange(ordered.num_rows) - np.repeat(*_runs(ordered.column("head")))
        return ordered.filter(pa.array(place <= self.max_pairs))

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        ordered = self.combine(notes, step)
        if step == COMPARE:
            return self._compared(ordered)
        starts, lengths = _runs(ordered.column("head"))
        last = starts[lengths > self.max_pairs] + self.max_pairs - 1
        return ordered.take(pa.array(last, pa.int64())).rename_columns({"rank": "last"})

    def _compared(self, notes: pa.Table) -> pa.Table:
        """HEARD of the texts of each group, by name."""
        order = np.lexsort([whole(_rank_of(notes.column("name"))).to_pylist(), notes.column(GROUP).to_numpy()])
        notes = notes.take(pa.array(order))
        starts, lengths = _runs(notes.column(GROUP))
        made = [pa.schema([pa.field(GROUP, pa.uint64()), *_TOLD]).empty_table()]
        for start, length in zip(starts[lengths > 1], lengths[lengths > 1], strict=True):
            some = notes.slice(start, length)
            names, state = whole(some.column("name")), some.column("state").to_numpy()
            near = alike(names.to_pylist(), self.shingle, self.threshold)
            found = settled(names, _rank_of(names), state, near).rename_columns(_TOLD.names)
            group = pa.array(np.full(found.num_rows, some.column(GROUP)[0].as_py(), np.uint64))
            made.append(found.add_column(0, GROUP, group))
        return pa.concat_tables(made).combine_chunks()

    def judge(self, pairs: pa.Table, told: Told, ctx: Context) -> Verdicts:
        said = _Said.of(pairs)
        heads = said.heads(_heard(said, told)).take(pa.array(said.at))
        limits = told.of(SHARE, _LIMITS)
        last = whole(limits.column("last")).take(pc.index_in(heads, whole(limits.column("head"))))
        lost = pc.fill_null(pc.greater(self._ranks(pairs).take(pa.array(said.row)), last), False)
        reasons = pc.if_else(lost, pa.scalar("near_copy"), pa.scalar(None, pa.string()))
        return sift(explode(pairs), whole(reasons), pairs.num_rows, heads)

    def _ranks(self, pairs: pa.Table) -> pa.Array:
        """A text for each pair that sorts the better the sooner."""
        values = [2**62 - criterion_of(name, pairs) for name in self.survivor]
        heads = ["".join(f"{value:016x}" for value in row) for row in zip(*values, strict=True)]
        uids = pairs.column("uid").to_pylist()
        return pa.array([head + uid for head, uid in zip(heads or [""] * len(uids), uids, strict=True)], pa.string())


class _Said:
    """The captions of some pairs: distinct `texts`, and of each caption its text (`at`) and pair (`row`)."""

    def __init__(self, texts: pa.Array, at: np.ndarray, row: np.ndarray) -> None:
        self.texts, self.at, self.row = texts, at, row

    @classmethod
    def of(cls, pairs: pa.Table) -> "_Said":
        flat = explode(pairs)
        encoded = whole(flat.column("text")).dictionary_encode()
        folded = pa.array([" ".join(each.casefold().split()) for each in encoded.dictionary.to_pylist()], pa.string())
        again = folded.take(encoded.indices).dictionary_encode()
        return cls(again.dictionary, again.indices.to_numpy(), flat.column(ROW).to_numpy())

    def heads(self, heard: Heard) -> pa.Array:
        """The head of the group of each text."""
        return pc.coalesce(pc.utf8_slice_codeunits(heard.survivor, _LENGTH), self.texts)


def _heard(said: _Said, told: Told) -> Heard:
    return Heard.of(said.texts, [each.rename_columns(HEARD.names) for each in told.rounds(COMPARE, _TOLD)])


def _rank_of(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The longer the sooner, then by the text itself, which stands behind."""
    return pa.array([f"{_MOST - len(text):0{_LENGTH}x}{text}" for text in texts.to_pylist()], pa.string())


def _runs(ordered: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(first row, number of rows) of each run of equal values."""
    ends = pc.run_end_encode(whole(ordered)).run_ends.to_numpy().astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return starts, ends - starts
