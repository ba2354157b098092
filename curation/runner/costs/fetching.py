"""What the download costs between the pool and the join, beside the answers of the hosts. With B buckets, parts merged
into R runs (of which in Q mentions count), S slots of hosts, and N parts of downloaded images, merged into M runs:

    unit              tasks   files        packs opened                             tables opened
    runs, R           R       3 R                                                   2 a part
    a hop             B       2 B + U + L  Q B at the first, leads B at the others, hops so far, B
                                           R B more where something is asked for
    urls, U > 256     G       G            U a run of slots                         G = U / 256; leads, too
    slots, S          S       6 N + C + 2 S                 U or G, S times         N
    counting          B                    (2 R + M) B                              hops, B

U and L are the buckets with something to download, or with redirects that are known. A part is committed after
`commit_urls` or `commit_bytes`, and is a part like any other: images.tar, two tables, part.json, a ledger, and the
note of its batch. A chunk C is 100,000 urls of a slot. A slot that is not done within its turn is a task again.

Before that revisits are followed (`following.py`), which costs a file where there are none.
"""

from dataclasses import dataclass

from curation.runner.costs.cost import Cost, in_groups

_FAN = 256


@dataclass(frozen=True)
class Hop:
    """urls, leads: buckets that have something to download, that know of redirects; led: packs of leads that each
    bucket reads (none at the first hop); slots_led: slots whose answers redirect."""

    urls: int
    leads: int = 0
    led: int = 0
    slots_led: int = 0


def merging(parts: int, runs: int) -> Cost:
    return Cost(runs, 3 * runs, 0, 2 * parts)


def asking(buckets: int, asking_runs: int, runs: int, number: int, hop: Hop) -> Cost:
    """Hop `number`, of buckets that all mention something."""
    packs = buckets * (runs + (hop.led if number else asking_runs))
    brought = sum((_together(each) for each in (hop.urls, hop.leads)), Cost())
    tables = number * buckets  # what the hops before have asked for
    return Cost(buckets, 2 * buckets + hop.urls + hop.leads, packs, tables) + brought


def downloading(slots: int, urls: int, chunks: int, parts: int, hop: Hop) -> Cost:
    """`urls`: buckets that have some; chunks, parts: of all slots."""
    packs = slots * (in_groups(urls, _FAN) if urls > _FAN else urls)
    files = 6 * parts + chunks + 2 * slots + hop.slots_led
    return Cost(slots, files, packs, parts)


def counting(buckets: int, runs: int, new_runs: int, hops: int) -> Cost:
    """And the file that says that the download is finished."""
    return Cost(buckets, 1, buckets * (2 * runs + new_runs), buckets * hops)


def _together(packs: int) -> Cost:
    groups = in_groups(packs, _FAN) if packs > _FAN else 0
    return Cost(groups, groups, packs if groups else 0)
