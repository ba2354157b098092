"""What redirects and revisits cost before the join, and once more, revisits alone, before a download
(`runner/redirects.py`). With B buckets in S slots, and R runs, of which M hold redirects at all:

    unit             tasks   files        packs opened
    first hop        S       S + packs    M B, and of the D buckets that have some 2 R - M more; R - M of revisits alone
    a hop            S       S + packs    S times the slots that asked before, and R a bucket that is asked for
    originals        S       2 S          S times the L packs of lost payloads, and R B
    lost ones asked  S       2 S          S times the H slots that have originals, and the L packs
    gathering        S       3 S          F packs that were found S times, and once the Q that were reached
    followed         0       1

Packs of a hop are those that a slot has rows for: asked, found, reached, lost. Where no redirect is known only the last
line is left. The join of a bucket opens 2 tables of what was gathered.
"""

from dataclasses import dataclass

from curation.runner.costs.cost import Cost


@dataclass(frozen=True)
class Look:
    """One hop. asking: slots that asked at the hop before; buckets: looked through for what they asked, or at the first
    hop those that hold redirects; packs: published."""

    buckets: int
    packs: int
    asking: int = 0


def first(buckets: int, slots: int, runs: int, redirecting: int, look: Look, *, of_revisits: bool = False) -> Cost:
    """`redirecting`: the runs that hold redirects."""
    more = (runs - redirecting) + (0 if of_revisits else runs)
    return Cost(slots, slots + look.packs, buckets * redirecting + look.buckets * more)


def hop(slots: int, runs: int, look: Look) -> Cost:
    return Cost(slots, slots + look.packs, slots * look.asking + runs * look.buckets)


def originals(buckets: int, slots: int, runs: int, lost: int) -> Cost:
    """Looked for through all buckets. `lost`: packs of payloads that were not where revisits say."""
    return Cost(slots, 2 * slots, slots * lost + runs * buckets)


def asked_again(slots: int, having: int, lost: int) -> Cost:
    """`having`: slots that have originals; where there are none, nothing is asked."""
    return Cost(slots, 2 * slots, slots * (having + lost)) if having else Cost()


def gathered(slots: int, found: int, reached: int) -> Cost:
    """`found`, `reached`: packs of all hops. And the file that says that all is followed."""
    return Cost(slots, 3 * slots + 1, slots * found + reached)
