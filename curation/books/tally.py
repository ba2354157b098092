"""What a group of buckets adds to the summary: counts, histograms and the examples that may be shown. All small.

`merge` gives the same whatever the order: an example has its place in a keyed order, a group the first of its stages.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.books import evidence, frequencies
from curation.books.examples import examples, first, order_of
from curation.job import Job
from curation.methods.concepts.mentions import entry_totals, mentions
from curation.table import arrow, captions
from pipeline import storage

KEPT_EXAMPLES, DROP_EXAMPLES, GROUPS, REMOVED = 48, 12, 12, 6  # groups and drops: of each stage, of each reason
_SIDES = [float(round(16 * 2 ** (i / 2))) for i in range(21)]  # 16 to 16,384 pixels, two bins an octave
EDGES: dict[str, list[float]] = {
    "width": [1.0, *_SIDES],
    "height": [1.0, *_SIDES],
    "aspect": [round(2 ** (i / 4), 3) for i in range(-12, 13)],  # width over height, 1:8 to 8:1
    "caption_words": [float(i) for i in range(1, 33)],
}


_MOST_TASKS = 256  # so many tallies, of some megabytes each when there are many concepts, meet on the driver


def groups_of(buckets: int) -> list[range]:
    """The buckets of each task."""
    size = -(-buckets // _MOST_TASKS)
    return [range(first, min(first + size, buckets)) for first in range(0, buckets, size)]


def tally(job: Job, buckets: Sequence[int], slots: int) -> dict[str, Any]:
    """The share of some buckets; `merge` adds such up. Their words go to a file of `slots` slots (frequencies.py)."""
    whole: dict[str, Any] = {}
    tables: list[pa.Table] = []
    for bucket in buckets:
        part, found = _bucket(job, bucket)
        whole = merge(whole, part)
        tables += found
    frequencies.publish(job, buckets[0], slots, tables)
    return whole


def _bucket(job: Job, bucket: int) -> tuple[dict[str, Any], list[pa.Table]]:
    kept = storage.read_parquet(job.file(job.segments[-1], bucket, ".parquet"))
    ledgers = [storage.read_parquet(job.file(each, bucket, ".ledger.parquet")) for each in job.segments]
    gone = pa.concat_tables(ledgers)
    before = storage.read_parquet(job.file(job.segments[0], bucket, ".before.parquet"))
    after = pc.value_counts(pc.drop_null(captions.first(kept)))
    after = pa.table({"text": after.field("values"), "pairs": after.field("counts")})
    measured = gone.filter(pc.is_valid(gone.column("width")))
    found = [
        frequencies.rows_of(frequencies.BEFORE, before.column("text"), before.column("pairs")),
        frequencies.rows_of(frequencies.AFTER, after.column("text"), after.column("pairs")),
        frequencies.counted(frequencies.LANGUAGE, pc.fill_null(captions.first(kept, "language"), "")),
        frequencies.counted(frequencies.SOURCE, pc.fill_null(captions.first(kept, "source"), "")),
    ]
    part = {
        "histograms": _histograms(kept, measured, before, after),
        "kept": examples(job.seed, kept.append_column("caption", captions.first(kept)), KEPT_EXAMPLES),
        "drops": _drops(job, gone),
        "groups": _groups(job, gone),
        "entries": _entries(kept),
        "shown": _shown(job, ledgers, gone),
        "words": {name: evidence.words_of(kept, name) for name in words_told(job)},
    }
    return part, found


def _histograms(kept: pa.Table, gone: pa.Table, before: pa.Table, after: pa.Table) -> dict[str, dict[str, np.ndarray]]:
    def sides(table: pa.Table) -> dict[str, np.ndarray]:
        if "width" not in table.schema.names:
            return {name: np.zeros(0) for name in ("width", "height", "aspect")}
        width, height = (table.column(n).to_numpy().astype(float) for n in ("width", "height"))
        return {"width": width, "height": height, "aspect": width / np.maximum(height, 1)}

    mine, theirs = sides(kept), sides(gone)
    found = {
        name: {"before": _bins(name, mine[name]) + _bins(name, theirs[name]), "after": _bins(name, mine[name])}
        for name in mine
    }
    words = {}
    for when, table in (("before", before), ("after", after)):
        lengths = np.array([len(text.split()) for text in table.column("text").to_pylist()], float)
        words[when] = _bins("caption_words", lengths, table.column("pairs").to_numpy())
    return {**found, "caption_words": words}


def _bins(name: str, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Counts per bin; what lies outside is counted in the first or last one."""
    edges = np.array(EDGES[name])
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(at, weights, len(edges) - 1).astype(np.int64)


def words_told(job: Job) -> list[str]:
    """The columns of few words that some stage adds."""
    return list(dict.fromkeys(name for stage in job.settings.stages for name in stage.told_in_words))


def _shown(job: Job, ledgers: list[pa.Table], gone: pa.Table) -> evidence.Evidence:
    names = [n for n, stage in zip(job.names, job.settings.stages, strict=False) if stage.hides_images]
    hidden = gone.filter(pc.is_in(gone.column("stage"), pa.array(names, pa.string()))).column("uid")
    return evidence.hidden(evidence.merged(map(evidence.taken, ledgers)), set(hidden.to_pylist()))


def _drops(job: Job, gone: pa.Table) -> dict[str, list[dict[str, Any]]]:
    labels = pc.binary_join_element_wise(gone.column("stage"), gone.column("reason"), ".")
    return {
        label: examples(job.seed, gone.filter(pc.equal(labels, label)), DROP_EXAMPLES)
        for label in sorted(pc.unique(labels).to_pylist())
    }


def _groups(job: Job, gone: pa.Table) -> dict[str, dict[str, Any]]:
    """By stage and survivor its removed copies here, of the first `GROUPS` survivors of each stage in keyed order."""
    names = [n for n, stage in zip(job.names, job.settings.stages, strict=False) if stage.detail_is_survivor]
    is_uid = pc.fill_null(pc.match_substring_regex(gone.column("detail"), "^[0-9a-f]{32}$"), False)
    found = {}
    for stage in names:
        removed = gone.filter(pc.and_(pc.equal(gone.column("stage"), stage), is_uid))
        counted = pc.value_counts(arrow.whole(removed.column("detail")))
        survivors, counts = (counted.field(n).to_pylist() for n in ("values", "counts"))
        order = order_of(survivors, job.seed)
        for at in np.argsort(order, kind="stable")[:GROUPS]:
            rows = removed.filter(pc.equal(removed.column("detail"), survivors[at]))
            found[f"{stage} {survivors[at]}"] = {
                "order": int(order[at]),
                "uid": survivors[at],
                "stage": stage,
                "reason": f"{stage}.{rows.column('reason')[0]}",
                "count": counts[at],
                "removed": examples(job.seed, rows, REMOVED),
            }
    return found


def _entries(kept: pa.Table) -> tuple[np.ndarray, np.ndarray] | None:
    """(entry, number of distinct texts that mention it) over the kept pairs; None without matched concepts."""
    if "concepts" not in captions.explode(kept).schema.names:
        return None
    return entry_totals(mentions(kept))


def merge(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Adds one more tally; `whole` starts as {}."""
    if not whole:
        return part
    for when in ("before", "after"):
        for name in EDGES:
            whole["histograms"][name][when] = whole["histograms"][name][when] + part["histograms"][name][when]
    whole["kept"] = first(whole["kept"] + part["kept"], KEPT_EXAMPLES)
    for label, rows in part["drops"].items():
        whole["drops"][label] = first(whole["drops"].get(label, []) + rows, DROP_EXAMPLES)
    for name, group in part["groups"].items():
        mine = whole["groups"].setdefault(name, {**group, "count": 0, "removed": []})
        mine["count"] += group["count"]
        mine["removed"] = first(mine["removed"] + group["removed"], REMOVED)
    ranked = sorted(whole["groups"].items(), key=lambda item: (item[1]["order"], item[0]))
    stages = {group["stage"] for _, group in ranked}
    firsts = [[item for item in ranked if item[1]["stage"] == stage][:GROUPS] for stage in sorted(stages)]
    whole["groups"] = dict(item for some in firsts for item in some)
    whole["shown"] = evidence.merged([whole["shown"], part["shown"]])
    for name, counts in part["words"].items():
        whole["words"][name] = dict(Counter(whole["words"].get(name, {})) + Counter(counts))
    if part["entries"] is not None:
        both = [whole["entries"], part["entries"]]
        entry, at = np.unique(np.concatenate([e for e, _ in both]), return_inverse=True)
        whole["entries"] = entry, np.bincount(at, np.concatenate([n for _, n in both]), len(entry)).astype(np.int64)
    return whole
