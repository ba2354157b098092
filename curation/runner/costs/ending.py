"""What the end of a job costs: shards, books and the summary. With B buckets and S segments:

    unit             tasks      files   tables opened    images read
    shards, N        N          3 N     N + B - 1        one a pair
    verdicts         B          B       B S
    subset           1          1       B
    concept index    B          B + 1   B                with `emit.concepts`
    entry counts     1          1                        where a stage counts
    tallies, T       T          T       B (S + 2)        T = B, at most 256
    frequent words   W          W                T W     W: a million rows each
    survivors        at most B          (S + 1) each
    thumbnails       a 32nd             0                those shown: some hundred, whatever the size
    evaluation sets  1 a stage          0                whose hits are shown beside their items
    summary          0          1                        and a state of each Reduce

A table of a shard, a slot of words or a survivor is opened for the rows of a range.
"""

from curation.books import frequencies, tally, thumbnails
from curation.runner.costs.cost import Cost, in_groups

SHOWN = 48, 12, 7
"""Pictures of the report: of what is kept, of each reason, of a group of copies."""


def shards(buckets: int, shards: int, kept: int) -> Cost:
    """At most: a bucket that ends with a shard is opened once less."""
    return Cost(shards, 3 * shards, 0, shards + buckets - 1, kept)


def books(buckets: int, segments: int, *, counted: bool = False, concepts: bool = False) -> Cost:
    """`counted`: some stage counts concepts; `concepts`: as `emit.concepts`."""
    index = Cost(buckets, buckets + 1, 0, buckets + counted) if concepts else Cost()
    counts = Cost(1, 1, 0, 1) if counted else Cost()
    return Cost(buckets + 1, buckets + 1, 0, buckets * (segments + 1)) + index + counts


def summary(
    buckets: int,
    segments: int,
    pairs: int,
    *,
    survivors: tuple[int, int] = (0, 0),
    shown: int = 0,
    against: int = 0,
    reduces: int = 0,
    counted: bool = False,
) -> Cost:
    """`pairs` with a caption before any stage; `survivors`: how many are shown, in how many buckets; shown: distinct
    pictures; against: stages that show what pairs were held against; reduces: stages of that sort."""
    groups, slots = len(tally.groups_of(buckets)), frequencies.slots_for(pairs)
    words = Cost(groups + slots, groups, 0, buckets * (segments + 2) + groups * slots)
    number, in_buckets = survivors
    pictures = Cost(in_buckets + in_groups(shown, thumbnails.BATCH), 0, 0, number * (segments + 1), shown)
    return words + pictures + Cost(tasks=against, files=1, tables=reduces + counted)
