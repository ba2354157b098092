"""Evidence as summary.json has it: histograms as bins with bounds, rows with their pictures, words as tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from curation.books.evidence import Evidence, lower_bound, nothing
from curation.job import Job
from curation.stage import Generate

_MOST_BINS, _MOST_WORDS = 1000, 300
_OTHERS = "(others)"


def of_stages(job: Job, evidence: Evidence, kept: Mapping[str, dict[str, int]]) -> list[dict[str, Any]]:
    """In the order of the recipe; `kept`: words among the kept pairs, by column."""
    found = []
    for name, stage in zip(job.names, job.settings.stages, strict=False):
        told = nothing() | evidence.get(name, {})
        shown: dict[str, Any] = {
            "scores": [_histogram(column, scores) for column, scores in sorted(told["scores"].items())],
            "groups": [_group(title, group) for title, group in _in_order(told["picks"])],
            "changed": [{**of_row(row), "before": row["before"], "after": row["after"]} for row in told["changed"]],
            "words": [_words(column, counts, kept.get(column, {})) for column, counts in told["words"].items()],
        }
        if isinstance(stage, Generate):
            shown["answers"] = [_answers(fate, rows) for fate, rows in sorted(told["answers"].items())]
            shown["by"] = stage.provenance() if shown["answers"] else {}
        if any(shown.values()):
            found.append({"stage": name, "kind": stage.kind, **shown})
    return found


def _answers(fate: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Pairs whose answers came to the same; "": they are used."""
    told = ("asked", "answers", "more")
    return {"reason": fate, "examples": [{**of_row(row), **{name: row[name] for name in told}} for row in rows]}


def _in_order(picks: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(
        ((title, group) for title, group in picks.items() if group["rows"]), key=lambda i: (i[1]["place"], i[0])
    )


def of_row(row: dict[str, Any], with_detail: bool = False) -> dict[str, Any]:
    shown = {"uid": row["uid"], "url": row["url"], "caption": row.get("caption") or "", "thumb": row.get("thumb")}
    return shown | ({"detail": row.get("detail") or ""} if with_detail else {})


def _group(title: str, group: dict[str, Any]) -> dict[str, Any]:
    rows = [{**of_row(row, True), "kept": row["kept"], "reason": row["reason"] or ""} for row in group["rows"]]
    for shown, row in zip(rows, group["rows"], strict=True):
        if beside := row.get("beside"):
            shown["beside"] = beside
    return {"title": title, "examples": rows}


def _histogram(column: str, scores: dict[str, Any]) -> dict[str, Any]:
    """Bins that hold something, by their bounds; those of two runs nest, so that both can be drawn over one axis."""
    bins = np.array(sorted(map(int, scores["bins"])), np.uint64)
    counts = np.array([scores["bins"][str(each)] for each in bins.tolist()], np.int64).reshape(-1, 2)
    width = 1
    while len(bins) > _MOST_BINS:
        width *= 2
        bins, at = np.unique(bins // np.uint64(2), return_inverse=True)
        fewer = np.zeros((len(bins), 2), np.int64)
        np.add.at(fewer, at, counts)
        counts = fewer
    return {
        "column": column, "of": scores["of"], "cuts": scores["cuts"], "none": scores["none"],
        "low": [lower_bound(int(each) * width) for each in bins.tolist()],
        "high": [lower_bound((int(each) + 1) * width) for each in bins.tolist()],
        "before": counts[:, 0].tolist(), "after": counts[:, 1].tolist(),
    }  # fmt: skip


def _words(column: str, counts: dict[str, int], kept: dict[str, int]) -> dict[str, Any]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [[word, number, kept.get(word, 0)] for word, number in ranked[:_MOST_WORDS]]
    if rest := ranked[_MOST_WORDS:]:
        rows.append([_OTHERS, sum(number for _, number in rest), sum(kept.get(word, 0) for word, _ in rest)])
    return {"column": column, "rows": rows}
