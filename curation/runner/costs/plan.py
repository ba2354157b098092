"""What a recipe is going to cost for so many pairs, by the formulae."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.job import ROWS_PER_BUCKET, asks_around, buckets_for, left_out
from curation.methods.rounds import rounds_of
from curation.pool.runs import PARTS
from curation.runner import exchange
from curation.runner.closing import grouping, measuring, shares
from curation.runner.costs import closing, ending
from curation.runner.costs.closing import Asking
from curation.runner.costs.cost import Cost, told_by
from curation.stage import IMAGE, Context, Generate, Group, Measure, Reduce, Stage
from curation.stage_order import added

READS_S = 5_000
"""Reads a second that a node and its store sustain together: assumed."""
ROUNDS = 8
"""Of a repeated step, taken for granted: seven on the clip-art crawl, one more for each tenfold or so."""
_KNOWN, _RELATED = 0.5, 0.2  # shares of pairs: whose input somebody has already, that are alike to another one
_KEPT, _IN_A_SHARD, _SHOWN = 0.5, 5_000, 1_000  # share of pairs that is written, pairs of a shard, pictures shown
# benchmarks/growth.py: bytes of a pair in one table (urls and captions of a real crawl), of a note; seconds of a pair
# in a segment and in a round of notes on one core of 2020; memory of a task beside its rows, and of a row.
_PAIR_BYTES, _NOTE_BYTES, _SEGMENT_S, _NOTE_S, _TASK_BYTES, _ROW_BYTES = 300, 50, 25e-6, 4e-6, 300 << 20, 4_000


@dataclass(frozen=True)
class Plan:
    """What a recipe is going to cost. bytes: written to the pool and the working folder, and about twice read; memory:
    of the largest task, bytes; core_s: seconds of one core, without what images and models take."""

    pairs: int
    parts: int
    buckets: int
    cost: Cost
    bytes: int
    memory: int
    core_s: float

    def hours(self, nodes: int, cores: int) -> float:
        """On so many nodes of so many cores: of computing or of reading, whichever takes longer."""
        return max(self.core_s / cores, self.cost.reads / READS_S) / nodes / 3600


def plan(stages: Sequence[Stage], pairs: int, parts: int) -> Plan:
    """Of `stages` on so many pairs, from parts that have one mention and one image for each of them."""
    return _Plan(stages, pairs, parts).whole()


class _Plan:
    """Stage by stage. opens: what the next segment reads of what settled its first stage."""

    def __init__(self, stages: Sequence[Stage], pairs: int, parts: int) -> None:
        self.stages, self.pairs, self.parts, self.buckets = stages, pairs, parts, buckets_for(2 * pairs)
        runs = max(-(-parts // PARTS), min(parts, 16))
        packs = 2 * runs * self.buckets
        self.memory = 0  # of the widest answers that one task holds
        self.cost = Cost(parts + runs + self.buckets, 4 * parts + 3 * runs + 2 * self.buckets, packs, 2 * parts)
        self.squares = {field.name: field.type.byte_width for stage in stages for field in squares_of(stage)}
        self.written = 0  # bytes of a pair in the tables of all segments
        self.segments, self.notes, self.opens = 0, 0, {"told": 0, "states": 0, "kept": 0}
        self.vectors: dict[str, int] = {}  # column -> bytes of a row
        self.answers: dict[str, int] = {}  # the same column -> packs that a bucket reads

    def whole(self) -> Plan:
        for at, stage in enumerate(self.stages):
            self._look(stage, self.buckets * (2 if isinstance(stage, (Reduce, Group)) else 1))  # it asks, and judges
            if asks_around(stage):
                self._segment(at, is_closed=True)
                self.opens = {"told": 0, "states": 0, "kept": 0}
                self._settle(stage)
        self._segment(len(self.stages), is_closed=False)
        reduces = sum(isinstance(stage, Reduce) for stage in self.stages)
        kept = int(self.pairs * _KEPT)
        self.cost += ending.shards(self.buckets, -(-kept // _IN_A_SHARD), kept)
        self.cost += ending.books(self.buckets, self.segments)
        against = sum(type(stage).held_against is not Stage.held_against for stage in self.stages)
        self.cost += ending.summary(
            self.buckets, self.segments, self.pairs, shown=_SHOWN, against=against, reduces=reduces
        )
        vectors = sum(self.vectors.values())
        squares = sum(self.squares.values())
        written = self.written + 2 * (_PAIR_BYTES + squares + vectors)  # in the pool, and as answers
        in_a_bucket = min(2 * self.pairs // self.buckets, ROWS_PER_BUCKET)
        return Plan(
            self.pairs,
            self.parts,
            self.buckets,
            self.cost,
            bytes=self.pairs * written + self.notes * _NOTE_BYTES,
            memory=_TASK_BYTES + max(self.memory, in_a_bucket * (_ROW_BYTES + squares + vectors)),
            core_s=self.pairs * _SEGMENT_S * (self.segments + 2) + self.notes * _NOTE_S,
        )

    def _segment(self, done: int, is_closed: bool) -> None:
        """Behind the first `done` stages."""
        there = [field.name for stage in self.stages[:done] for field in squares_of(stage)]
        gone = left_out(self.stages, done)
        self.written += _PAIR_BYTES + sum(self.squares[name] for name in there if name not in gone)
        self.cost += closing.segment(self.buckets, is_first=not self.segments, is_closed=is_closed, **self.opens)
        self.cost += closing.freed(self.buckets) if self.segments else Cost()
        self.segments += 1

    def _look(self, stage: Stage, buckets: int) -> None:
        """The vectors that a stage reads, so many times over buckets."""
        packs = [self.answers[name] for name in stage.reads if name in self.answers]
        self.cost += closing.vectors(buckets, sum(packs))

    def _settle(self, stage: Stage) -> None:
        if isinstance(stage, Measure):
            new, runs = int(self.pairs * (1 - _KNOWN)), closing.runs_of(stage, self.buckets, self.pairs)
            number, width = max(1, new // shares.MOST_ROWS), measuring.row_bytes(stage)
            self.cost += closing.measure(self.buckets, runs, new, number, 0, of_images=IMAGE in stage.reads)
            self.cost += Cost(files=1) if isinstance(stage, Generate) else Cost()  # what was known when it began
            self.memory = max(self.memory, self.pairs // runs * 2 * (_NOTE_BYTES + width))  # rows, and as they are cut
            self.opens["told"], self.notes = told_by(runs), self.notes + self.pairs
            if stage.store == "vectors":
                self.vectors |= dict.fromkeys(added(stage), width)
                self.answers |= dict.fromkeys(added(stage), told_by(runs))
        elif isinstance(stage, Group):
            rounds = _rounds(stage, self.buckets, self.pairs)
            self.cost += closing.group(self.buckets, rounds)
            self._look(stage, self.buckets * (len(rounds) - 1))
            self.notes += sum(each.notes for each in rounds)
            settled = [len(exchange.runs(each.slots, each.notes, grouping.ROWS)) for each in rounds]
            self.opens["told"] = sum(told_by(number) for number in settled)
        elif isinstance(stage, Reduce):
            taken = rounds_of(stage, self.pairs)
            self.cost += closing.reduce(self.buckets, taken)
            again = sum(each.asks for each in taken[1:])
            self._look(stage, self.buckets * again)
            self.notes += self.pairs * again
            self.opens["states"] = 1
            self.opens["kept"] = max((each.pieces for each in taken), default=0)


def squares_of(stage: Stage) -> list[pa.Field]:
    """What it adds to the tables that is wide: bytes of a fixed width."""
    return [each for each in stage.adds if pa.types.is_fixed_size_binary(each.type)]


def _rounds(stage: Group, buckets: int, pairs: int) -> list[Asking]:
    """Of all pairs at first and where each has several notes, else of the related."""
    found: list[Asking] = []
    for step in stage.steps:
        each, repeats = stage.notes_per_pair(step, Context(0, 2 * pairs)), step in stage.repeated
        notes = pairs * each if not found or each > 1 else int(pairs * _RELATED)
        over = grouping.spread_of(buckets, each, not found or repeats)
        rounds = ROUNDS if repeats and found else over.passes
        asked = [Asking(over.slots, buckets, notes // over.passes, over.passes > 1 and at > 0) for at in range(rounds)]
        found += asked
    return found
