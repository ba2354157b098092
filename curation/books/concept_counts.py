"""How often each concept is mentioned, as the last balance stage counted: for the report and entry_counts.json."""

from typing import Any, NamedTuple

import numpy as np

from curation.job import Job
from curation.methods.concepts import entry_counts, read_entries
from curation.stages.balance import Balance
from curation.stages.concept_match import ConceptMatch
from curation.states import last_state
from pipeline import storage
from pipeline.outputs import ENTRY_COUNTS

_TOP, _CURVE_POINTS = 40, 60


class Counted(NamedTuple):
    """names: the whole list; entry, before: those mentioned (rising) and how many texts do; t: that of the balance."""

    mode: str
    names: list[str]
    entry: np.ndarray
    before: np.ndarray
    t: float


def is_counted(job: Job) -> bool:
    kinds = {type(stage) for stage in job.settings.stages}
    return {ConceptMatch, Balance} <= kinds


def counted(job: Job) -> Counted | None:
    """None when the recipe does not balance."""
    if not is_counted(job):
        return None
    match = [stage for stage in job.settings.stages if isinstance(stage, ConceptMatch)][-1]
    closed = [s for s in job.segments if s.closer is not None and isinstance(job.stage(s.closer), Balance)]
    folded = last_state(job, closed[-1])
    entry, before = folded.column("entry").to_numpy(), folded.column("count").to_numpy()
    t = folded.column("t")[0].as_py() if folded.num_rows else float("inf")
    return Counted(match.mode, read_entries(match.entries), entry[entry >= 0], before[entry >= 0], t)


def publish_counts(job: Job, folder: str) -> None:
    """entry_counts.json in MetaCLIP's format: a map from every entry to its number of texts."""
    found = counted(job)
    if found is not None:
        storage.publish_json(storage.join(folder, ENTRY_COUNTS), entry_counts(found.names, found.entry, found.before))


def summary(job: Job, entries: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Any] | None:
    """Head, curve and tail share before and after; `entries`: (numbers, counts) of the entries of the kept pairs."""
    found = counted(job)
    if found is None or entries is None or not len(found.entry):
        return None
    entry, before = found.entry, found.before
    kept = dict(zip(entries[0].tolist(), entries[1].tolist(), strict=True))
    after = np.array([kept.get(number, 0) for number in entry.tolist()], np.int64)
    head = np.lexsort([entry, -before])[:_TOP]
    ranks = np.unique(np.round(np.geomspace(1, len(entry), min(_CURVE_POINTS, len(entry)))).astype(int))
    tail = before < found.t
    return {
        "mode": found.mode,
        "num_entries": len(found.names),
        "num_matched_entries": len(entry),
        "t": found.t if np.isfinite(found.t) else None,
        "head": [{"entry": found.names[entry[i]], "before": int(before[i]), "after": int(after[i])} for i in head],
        "curve": {
            "rank": ranks.tolist(),
            "before": np.sort(before)[::-1][ranks - 1].tolist(),
            "after": np.sort(after)[::-1][ranks - 1].tolist(),
        },
        "tail_share_before": float(before[tail].sum() / max(before.sum(), 1)),
        "tail_share_after": float(after[tail].sum() / max(after.sum(), 1)),
    }
