"""What a job costs in tasks, files and reads, in closed form; tests/curation/runner/test_costs.py counts it.

The way from inputs to the joined table is in curation/pool/costs.py. Behind it, with B buckets:

    unit                    tasks   files    packs opened            tables opened
    segment                 B       3 B      answers, or what told   B
      the first             + 0     + B
      that a stage ends     + 0     + B
    packs of B > 256        G       2 G      B a run of slots                          G = B / 256, then B' = G
    Measure: look up, R     R       R        B' R + files F of the columns
             measure, N     N       2 N      N R                                       and one read an image
             answer         R       2 R      B' R + (F + N) R        at most 256 files of columns, else merged
    Group:   a round, T     T       2 T      B' T
             asked again    A       2 A      A x packs told so far   A
    packs told, R or T > 16 G       2 G      R or T a run of slots                     G = R / 256 or T / 256
    Reduce:  a round                                                 B and a state a task, from the second on
             merged         tree    2 tree                           all leaves and nodes but the last; FAN = 64
             in pieces, P   B+G+P   2 (B + G) + 3 P  B P + G P, at most     B + 2 P and states         and one finish
    closed                          1

A pack is opened for two reads: of entries, and of blobs that lie side by side. R and T are runs of slots, of about
200,000 inputs and 50,000 notes, of up to 16 times as many where there would be more than 256, a power of two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.job import ROWS_PER_BUCKET, asks_around, buckets_for
from curation.pool import columns
from curation.runner import exchange
from curation.runner.closing import grouping, measuring, reducing, shares
from curation.stage import IMAGE, Context, Group, Measure, Stage
from curation.table.uids import power_of_two


@dataclass(frozen=True)
class Cost:
    """tasks: run; files: published; packs: opened, for two reads each; tables: opened; images: read."""

    tasks: int = 0
    files: int = 0
    packs: int = 0
    tables: int = 0
    images: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(_plain(self), _plain(other), strict=True)))

    def times(self, number: int) -> "Cost":
        return Cost(*(each * number for each in _plain(self)))


def _plain(cost: Cost) -> tuple[int, ...]:
    return cost.tasks, cost.files, cost.packs, cost.tables, cost.images


def segment(
    buckets: int, *, is_first: bool = False, is_closed: bool = False, told: int = 0, state: bool = False
) -> Cost:
    """`told`: packs that its opener reads in each bucket (runs of answers, or of all rounds); `state`: of a Reduce."""
    files = 3 + is_first + is_closed
    return Cost(buckets, files * buckets, told * buckets, (1 + state) * buckets)


def sources(buckets: int) -> int:
    """Packs that are read of one exchange."""
    return len(exchange.groups_of(buckets)) or buckets


def merged(number: int, most: int | None = None) -> Cost:
    """Packs merged in groups, each read in one run of slots; nothing when they are few."""
    groups = len(exchange.groups_of(number, most))
    return Cost(groups, 2 * groups, number if groups else 0)


def told_by(runs: int) -> int:
    """Packs that every bucket reads of so many runs."""
    return len(exchange.groups_of(runs, exchange.READ)) or runs


def measure(buckets: int, inputs: int, new: int, shares: int, known_files: int, *, of_images: bool = True) -> Cost:
    """`inputs` asked for by all buckets, `new` of them measured in `shares`; `known_files` of columns before."""
    runs = len(exchange.runs(buckets, inputs, measuring.RUN_ROWS))
    asked = sources(buckets) * runs
    look_up = Cost(runs, runs, asked + known_files * runs)
    made = Cost(shares, 2 * shares, shares * runs, 0, new if of_images else 0)
    files = known_files + shares
    kept = merged(files, columns.MOST_FILES)
    files, kept = (kept.tasks, Cost(kept.tasks, kept.tasks, kept.packs)) if kept.tasks else (files, kept)
    answer = Cost(runs, 2 * runs, asked + files * runs)
    return merged(buckets) + look_up + made + kept + answer + merged(runs, exchange.READ) + Cost(files=1)


def group(buckets: int, rounds: Sequence[tuple[int, int, int]]) -> Cost:
    """`rounds`: (slots, buckets asked, notes) of each, in order; the first are asked by the segment."""
    whole, told = Cost(files=1), 0
    for number, (slots, asked, notes) in enumerate(rounds):
        if number:
            whole += Cost(asked, 2 * asked, asked * told, asked)
        if notes:
            runs, by = len(exchange.runs(slots, notes, grouping.ROWS)), asked if number else buckets
            whole += merged(by) + Cost(runs, 2 * runs, sources(by) * runs) + merged(runs, exchange.READ)
            told += told_by(runs)
    return whole


def reduce(buckets: int, rounds: int) -> Cost:
    """The tree of each round: its leaves are the partials of all buckets."""
    nodes, level = 0, buckets
    tables = buckets
    while level > reducing.FAN:
        level = -(-level // reducing.FAN)
        nodes, tables = nodes + level, tables + level
    tree = Cost(nodes + 1, 2 * (nodes + 1), 0, tables)
    again = Cost(buckets, 2 * buckets, 0, 2 * buckets) + Cost(tables=1)
    return tree.times(rounds) + again.times(rounds - 1) + Cost(files=1)


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


ROUNDS = 8
"""Of a repeated step, taken for granted: seven on the clip-art crawl, one more for each tenfold or so."""
_KNOWN, _RELATED = 0.5, 0.2  # shares of pairs: whose input somebody has already, that are alike to another one
# benchmarks/growth.py: bytes of a pair in one table (urls and captions of a real crawl), of a note; seconds of a pair
# in a segment and in a round of notes on one core of 2020; memory of a task beside its rows, and of a row.
_PAIR_BYTES, _NOTE_BYTES, _SEGMENT_S, _NOTE_S, _TASK_BYTES, _ROW_BYTES = 300, 50, 25e-6, 4e-6, 300 << 20, 4_000


def plan(stages: Sequence[Stage], pairs: int, parts: int) -> Plan:
    """Of `stages` on so many pairs, from parts that have one mention and one image for each of them."""
    buckets, squares = buckets_for(2 * pairs), sum(map(_fixed_bytes, stages))
    runs = max(-(-parts // exchange.FAN), min(parts, 16))
    cost = Cost(parts + runs + buckets, 4 * parts + 3 * runs + 2 * buckets, 2 * runs * buckets, 2 * parts)
    notes, told, state, segments = 0, 0, False, 1
    for stage in stages:
        if not asks_around(stage):
            continue
        cost += segment(buckets, is_first=segments == 1, is_closed=True, told=told, state=state)
        told, state, segments = 0, False, segments + 1
        if isinstance(stage, Measure):
            new = int(pairs * (1 - _KNOWN))
            cost += measure(buckets, pairs, new, max(1, new // shares.MOST_ROWS), 0, of_images=IMAGE in stage.reads)
            told, notes = told_by(len(exchange.runs(buckets, pairs, measuring.RUN_ROWS))), notes + pairs
        elif isinstance(stage, Group):
            rounds = _rounds(stage, buckets, pairs)
            cost += group(buckets, rounds)
            notes += sum(each for _, _, each in rounds)
            told = sum(told_by(len(exchange.runs(slots, each, grouping.ROWS))) for slots, _, each in rounds)
        else:
            cost, state = cost + reduce(buckets, 1), True
    cost += segment(buckets, told=told, state=state)
    return Plan(
        pairs,
        parts,
        buckets,
        cost,
        bytes=pairs * (_PAIR_BYTES + squares) * (segments + 2) + notes * _NOTE_BYTES,
        memory=_TASK_BYTES + (_ROW_BYTES + squares) * min(2 * pairs // buckets, ROWS_PER_BUCKET),
        core_s=pairs * _SEGMENT_S * (segments + 2) + notes * _NOTE_S,
    )


def _fixed_bytes(stage: Stage) -> int:
    """Of what a stage adds to a pair: thumbnails and grey squares are more than all texts."""
    return sum(each.type.byte_width for each in stage.adds if pa.types.is_fixed_size_binary(each.type))


def _rounds(stage: Group, buckets: int, pairs: int) -> list[tuple[int, int, int]]:
    """(slots, buckets asked, notes): of all pairs at first and where each has several notes, else of the related."""
    found: list[tuple[int, int, int]] = []
    for step in stage.steps:
        each = stage.notes_per_pair(step, Context(0, 2 * pairs))
        notes = pairs * each if not found or each > 1 else int(pairs * _RELATED)
        found += [(buckets * power_of_two(each), buckets, notes)] * (ROUNDS if step in stage.repeated and found else 1)
    return found
