"""How often each label is given, as the last stage counted that counts any: for the report and entry_counts.json."""

from typing import Any, NamedTuple

import numpy as np

from curation.job import Job, Segment
from curation.methods.concepts.matcher import entry_counts
from curation.stage import Counted, Labels, Reduce, Stage
from curation.states import last_state
from pipeline import storage
from pipeline.outputs import ENTRY_COUNTS

_TOP, _CURVE_POINTS = 40, 60


class Concepts(NamedTuple):
    """labels: the whole list; counts: of those that occur."""

    labels: Labels
    counts: Counted


def _counter(job: Job) -> Segment | None:
    """The last segment that ends in a stage that counts labels."""
    found = [s for s in job.segments if s.closer is not None and _overrides(job.stage(s.closer), Reduce, "counted")]
    return found[-1] if found else None


def _overrides(stage: Stage, sort: type[Stage], name: str) -> bool:
    return isinstance(stage, sort) and getattr(type(stage), name) is not getattr(sort, name)


def is_counted(job: Job) -> bool:
    return _counter(job) is not None and any(_overrides(stage, Stage, "labels") for stage in job.settings.stages)


def counted(job: Job) -> Concepts | None:
    """None when no stage of the recipe counts labels."""
    segment = _counter(job)
    if segment is None or segment.closer is None:
        return None
    given = [stage.labels() for stage in job.settings.stages[: segment.closer] if _overrides(stage, Stage, "labels")]
    stage = job.stage(segment.closer)
    assert isinstance(stage, Reduce)
    counts = stage.counted(last_state(job, segment))
    return Concepts(given[-1], counts) if given and given[-1] and counts else None


def publish_counts(job: Job, folder: str) -> None:
    """entry_counts.json in MetaCLIP's format: a map from every entry to its number of texts."""
    found = counted(job)
    if found is not None:
        content = entry_counts(found.labels.names, found.counts.label, found.counts.texts)
        storage.publish_json(storage.join(folder, ENTRY_COUNTS), content)


def summary(job: Job, entries: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Any] | None:
    """Head, curve and tail share before and after; `entries`: (numbers, counts) of the entries of the kept pairs."""
    found = counted(job)
    if found is None or entries is None or not len(found.counts.label):
        return None
    (names, rule), (entry, before, bound) = found
    kept = dict(zip(entries[0].tolist(), entries[1].tolist(), strict=True))
    after = np.array([kept.get(number, 0) for number in entry.tolist()], np.int64)
    head = np.lexsort([entry, -before])[:_TOP]
    ranks = np.unique(np.round(np.geomspace(1, len(entry), min(_CURVE_POINTS, len(entry)))).astype(int))
    tail = before < bound
    return {
        "mode": rule,
        "num_entries": len(names),
        "num_matched_entries": len(entry),
        "t": bound if np.isfinite(bound) else None,
        "head": [{"entry": names[entry[i]], "before": int(before[i]), "after": int(after[i])} for i in head],
        "curve": {
            "rank": ranks.tolist(),
            "before": np.sort(before)[::-1][ranks - 1].tolist(),
            "after": np.sort(after)[::-1][ranks - 1].tolist(),
        },
        "histogram": _histogram(before, after),
        "tail_share_before": float(before[tail].sum() / max(before.sum(), 1)),
        "tail_share_after": float(after[tail].sum() / max(after.sum(), 1)),
    }


def _histogram(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Concepts by their number of texts, in bins of powers of two; `gone`: those that no kept text mentions."""
    top = int(before.max()).bit_length()
    bins = [np.bincount(np.log2(n[n > 0]).astype(int), minlength=top)[:top].tolist() for n in (before, after)]
    edges = [float(2**each) for each in range(top + 1)]
    return {"edges": edges, "before": bins[0], "after": bins[1], "gone": int((after == 0).sum())}
