"""What a job costs in tasks, files and reads, in closed form; tests/curation/runner/test_costs.py counts it.

The way from inputs to the joined table is in curation/pool/costs.py. Behind it, with B buckets:

    unit                    tasks   files    packs opened            tables opened
    segment                 B       3 B      answers, or what told   B
      the first             + 0     + B
      that a stage ends     + 0     + B
    packs of B > 256        G       2 G      B a run of slots                          G = B / 256, then B' = G
    Measure: look up, R     R       R        B' R + files F of the columns
             measure, N     N       2 N      N R                                       and one read an image
             answer         R       2 R      B' R + (F + N) R
    Group:   a round, T     T       2 T      B' T
             asked again    A       2 A      A x runs told so far    A
    Reduce:  a round                                                 B and a state a task, from the second on
             merged         tree    2 tree                           all leaves and nodes but the last; FAN = 64
    closed                          1

A pack is opened for two reads: of entries, and of blobs that lie side by side. R and T are runs of slots, of about
200,000 inputs and 50,000 notes, a power of two and at most as many as there are slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curation.runner import exchange
from curation.runner.closing import grouping, measuring, reducing


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


def merged(buckets: int, runs: int = 1) -> Cost:
    """Packs of all buckets merged in groups, each read in `runs` runs of slots; nothing when they are few."""
    groups = len(exchange.groups_of(buckets))
    return Cost(groups, 2 * groups, buckets * runs if groups else 0)


def measure(buckets: int, inputs: int, new: int, shares: int, known_files: int, *, of_images: bool = True) -> Cost:
    """`inputs` asked for by all buckets, `new` of them measured in `shares`; `known_files` of columns before."""
    runs = len(exchange.runs(buckets, inputs, measuring.RUN_ROWS))
    asked = sources(buckets) * runs
    look_up = Cost(runs, runs, asked + known_files * runs)
    made = Cost(shares, 2 * shares, shares * runs, 0, new if of_images else 0)
    answer = Cost(runs, 2 * runs, asked + (known_files + shares) * runs)
    return merged(buckets) + look_up + made + answer + Cost(files=1)


def group(buckets: int, slots: int, rounds: Sequence[tuple[int, int]]) -> Cost:
    """`rounds`: (buckets asked, notes) of each, in order; the first are asked by the segment."""
    whole, told = Cost(files=1), 0
    for number, (asked, notes) in enumerate(rounds):
        if number:
            whole += Cost(asked, 2 * asked, asked * told, asked)
        if notes:
            runs, by = len(exchange.runs(slots, notes, grouping.ROWS)), asked if number else buckets
            whole += merged(by) + Cost(runs, 2 * runs, sources(by) * runs)
            told += runs
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
