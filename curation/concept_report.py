"""What balancing did to the concepts of a set: MetaCLIP's entry_counts.json, and the figures of the report."""

import numpy as np
import pyarrow as pa

from curation.concepts import ConceptMatcher, read_entries
from curation.stages.balance import count_entries
from curation.stages.concept_match import ConceptMatch

_HEAD = 40
_CURVE_POINTS = 60


def entry_counts(entries: list[str], counts: np.ndarray) -> dict[str, int]:
    """Entry -> number of texts that mention it, every entry once, as in MetaCLIP's entry_counts.json."""
    return dict(zip(entries, counts.tolist(), strict=True))


def count_concepts(stage: ConceptMatch, buckets: list[pa.Table]) -> np.ndarray:
    """Texts that mention each entry of the stage's list, over tables of pairs that carry `captions.concepts`."""
    num = len(read_entries(stage.entries))
    return sum((count_entries(pairs, num) for pairs in buckets), np.zeros(num, np.int64))


def concept_report(stage: ConceptMatch, before: np.ndarray, after: np.ndarray, t: float | None) -> dict[str, object]:
    """Head, curve and tail share from counts per entry before and after balancing.

    The tail is what MetaCLIP calls so: entries that fewer than t texts mention before (t: that of `balance`, else the
    count of the 100th entry). `curve` holds counts at log-spaced ranks of the order before. `unreachable` are entries
    that no text can match in this mode.
    """
    entries = read_entries(stage.entries)
    order = np.lexsort([np.arange(len(before)), -before])
    matched = int(np.count_nonzero(before))
    t = float(t) if t is not None and np.isfinite(t) else None
    limit = t if t is not None else float(before[order[min(99, len(order) - 1)]])
    unreachable = ConceptMatcher(entries, stage.mode).unreachable
    ranks = np.unique(np.geomspace(1, max(matched, 1), _CURVE_POINTS).round().astype(np.int64))
    at = order[ranks - 1]
    return {
        "mode": stage.mode,
        "num_entries": len(entries),
        "num_matched_entries": matched,
        "num_unreachable_entries": len(unreachable),
        "unreachable": [entries[i] for i in unreachable[:_HEAD]],
        "t": t,
        "head": [
            {"entry": entries[i], "before": int(before[i]), "after": int(after[i])} for i in order[:_HEAD] if before[i]
        ],
        "curve": {"rank": ranks.tolist(), "before": before[at].tolist(), "after": after[at].tolist()},
        "tail_share_before": _share(before, before < limit),
        "tail_share_after": _share(after, before < limit),
    }


def _share(counts: np.ndarray, chosen: np.ndarray) -> float:
    return float(counts[chosen].sum() / max(counts.sum(), 1))
