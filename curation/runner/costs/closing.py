"""What segments cost, and what settles the stages that end them. With B buckets:

    unit                    tasks   files          packs opened            tables opened
    segment                 B       3 B            answers, or what told   B, and states of a Reduce: B, or 2 B
      the first             + 0     + B
      that a stage ends     + 0     + B
      freed afterwards      B / 256
    packs of B > 512        G       2 G            B a run of slots                                    G = B / 512
    Measure: look up, R     R       R              G R + files F of the columns
             measure, N     N       N + columns N  N R                     and one read an image
             answer         R       2 R            G R + (F + N) R         at most 256 files of columns, else merged
    Group:   a round, T     T       2 T            G T
             settled        A / 256 1                                                           freed
             asked again    A       2 A            A x packs told so far   A
    packs told, R or T > 16 G       2 G            R or T a run of slots               G = R / 512 or T / 512
    Reduce:  a round        tree    2 tree         all leaves and nodes but the last; FAN = 64
             asked again    B       2 B                                    2 B and a state
             in pieces, P   P + 1   3 P + 2        G P                     2 P and a state
               asked by B   B + G   2 (B + G)      B where they are more than 512
    closed                          1
    vectors read                                   answers of that Measure, by every bucket each time a stage looks

G stands for B where the packs are read one by one. A pack is opened for two reads: of entries, and of blobs that lie
side by side. R and T are runs of slots, of about 200,000 inputs and 50,000 notes, of up to 16 times as many (of answers
512 MiB) where there would be more than 256, a power of two. What is merged is opened once more for each 32 MiB that it
has (256 packs five times at 4 million pairs, of 104,000 opened in all). What is kept of P pieces is opened by each task
of a bucket (2 P: a CPU goes through all centres twice), of a piece its own, or all of them in a round that asks no
bucket. Evaluation and reference sets are read once by each process.
"""

from collections.abc import Sequence
from typing import NamedTuple

from curation.methods.rounds import Round
from curation.pool import columns
from curation.runner import exchange
from curation.runner.closing import grouping, measuring, reducing
from curation.runner.costs.cost import Cost, in_groups, merged, sources, told_by
from curation.stage import Measure

_FREED = 256
"""Buckets, or files, that a task removes."""
_PASSES = 2
"""Over what is kept of pieces, by a task of a bucket (methods/vectors/nearest.py)."""


def segment(
    buckets: int, *, is_first: bool = False, is_closed: bool = False, told: int = 0, states: int = 0, kept: int = 0
) -> Cost:
    """`told`: packs that its opener reads in each bucket (runs of answers, or of all rounds); of a Reduce `states`: how
    often that is read, 2 where the report shows something by it; kept: its pieces."""
    files = 3 + is_first + is_closed
    return Cost(buckets, files * buckets, told * buckets, (1 + states) * buckets, kept=_PASSES * kept * buckets)


def freed(number: int) -> Cost:
    """So many buckets, or files, that nothing reads any more."""
    return Cost(in_groups(number, _FREED))


def vectors(buckets: int, packs: int) -> Cost:
    """What keys stand for, read once by every bucket: `packs` are those of the answers (`answered`)."""
    return Cost(packs=buckets * packs)


def runs_of(stage: Measure, buckets: int, inputs: int) -> int:
    """Runs of slots in which the inputs of a Measure are looked up and answered."""
    return len(exchange.runs(buckets, inputs, measuring.RUN_ROWS, measuring.most_rows(stage)))


def measure(
    buckets: int, runs: int, new: int, shares: int, known: int, *, of_images: bool = True, made: int | None = None
) -> Cost:
    """`new` inputs measured in `shares`; `known`: files of columns before, `made`: by these shares (a Generate makes
    one of every batch)."""
    asked, made = sources(buckets) * runs, shares if made is None else made
    look_up = Cost(runs, runs, asked + known * runs)
    measured = Cost(shares, shares + made, shares * runs, 0, new if of_images else 0)
    files = known + made
    kept = merged(files, columns.MOST_FILES)
    files, kept = (kept.tasks, Cost(kept.tasks, kept.tasks, kept.packs)) if kept.tasks else (files, kept)
    answer = Cost(runs, 2 * runs, asked + files * runs)
    return merged(buckets) + look_up + measured + kept + answer + merged(runs, exchange.READ) + Cost(files=1)


class Asking(NamedTuple):
    """A round of a Group. is_same: a further pass, which is told what the first was."""

    slots: int
    asked: int
    notes: int
    is_same: bool = False


def group(buckets: int, rounds: Sequence[Asking]) -> Cost:
    """In order; the first are asked by the segment."""
    whole, told, before = Cost(files=1), 0, 0
    for number, each in enumerate(rounds):
        by, before = each.asked if number else buckets, before if each.is_same else told
        if number:
            whole += Cost(by, 2 * by, by * before, by)
        if each.notes:
            runs = len(exchange.runs(each.slots, each.notes, grouping.ROWS))
            whole += merged(by) + Cost(runs, 2 * runs, sources(by) * runs) + merged(runs, exchange.READ)
            told += told_by(runs)
        whole += Cost(files=1) + freed((by if number else 0) + len(exchange.groups_of(by)))
    return whole


def reduce(buckets: int, rounds: Sequence[Round]) -> Cost:
    """In order; the first is asked by the segment, and never comes in pieces."""
    whole, kept = Cost(files=1), 0
    for number, (pieces, asks) in enumerate(rounds):
        by = buckets if asks else 0
        if number:
            whole += Cost(by, 2 * by, 0, 2 * by, kept=_PASSES * kept * by) + Cost(tables=1)
        if pieces:
            whole += _in_pieces(by, pieces, kept)
            kept = pieces
        else:
            whole += _tree(by)
    return whole


def _tree(leaves: int) -> Cost:
    """Partials merged, FAN at a time, and finished by one task."""
    nodes, level, tables = 0, leaves, leaves
    while level > reducing.FAN:
        level = in_groups(level, reducing.FAN)
        nodes, tables = nodes + level, tables + level
    return Cost(nodes + 1, 2 * (nodes + 1), 0, tables)


def _in_pieces(buckets: int, pieces: int, kept: int) -> Cost:
    """Each piece finished by one task, and what they told by one more; what went before is removed."""
    opened = min(kept, pieces) if buckets else kept * pieces
    finished = Cost(pieces + 1, 3 * pieces + 2, sources(buckets) * pieces, 2 * pieces, kept=opened)
    return merged(buckets) + finished + freed(buckets + len(exchange.groups_of(buckets)) + kept)
