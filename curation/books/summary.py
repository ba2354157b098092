"""summary.json: what the report shows of a curation job. Numbers reconcile: every pair ends in exactly one outcome."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from curation.books import concept_counts, evidence, frequencies, ledger, shown, tally
from curation.books.examples import CHARACTERS
from curation.job import Job
from curation.pool.store import PLACE
from curation.stage import Reduce
from curation.states import last_state
from curation.table import parquet
from pipeline.contract.manifest import Manifest

Rows = list[dict[str, Any]]


def shown_rows(job: Job, tally: dict[str, Any]) -> Rows:
    """The rows that have a picture in the report. Who opted out did so from being shown around, too: not those."""
    hidden = {name for name, stage in zip(job.names, job.settings.stages, strict=False) if stage.hides_images}
    shown = [some for label, some in tally["drops"].items() if label.split(".")[0] not in hidden]
    rows = [*tally["kept"], *(row for some in shown for row in some)]
    rows += [row for told in tally["shown"].values() for row in evidence.rows_with_images(told)]
    return rows + [row for group in tally["groups"] for row in (group["survivor"], *group["removed"])]


def build(
    job: Job,
    manifest: Manifest,
    tally: dict[str, Any],
    tops: frequencies.Tops,
    thumbs: Mapping[str, str | None],
    others: Mapping[str, dict[str, int]] = MappingProxyType({}),
    origin: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """The content of summary.json; `thumbs`: sha256 -> data URI; `others`: what stages count besides, by name;
    `origin`: {"sources": each with what its parts counted, "download": what came of it, or None, "asked": what the
    answers of each stage that generates have cost}."""
    for row in shown_rows(job, tally):
        row["thumb"] = thumbs.get(row.get("image_sha256") or "")
    groups = tally["groups"]
    counts: dict[str, int] = {}
    for part in manifest.inputs:
        for name, number in part.counts.items():
            counts[name] = counts.get(name, 0) + number
    stages = [stage.model_dump() | {"others": others.get(stage.name, {})} for stage in manifest.stages]
    return {
        "name": manifest.name,
        "job_digest": job.digest,
        "recipe_digest": manifest.recipe_digest,
        "manifest_digest": manifest.digest(),
        "inputs": [part.model_dump() for part in manifest.inputs],
        "occurrences": counts.get("occurrences", 0),
        "images_stored": counts.get("images_stored", 0),
        "pairs_in": stages[0]["pairs_in"],
        "pairs_kept": manifest.num_pairs,
        "stages": stages,
        "kept_examples": [shown.of_row(row) for row in tally["kept"]],
        "drop_examples": {
            label: [shown.of_row(row, True) for row in some] for label, some in sorted(tally["drops"].items())
        },
        "duplicate_groups": [
            {
                "reason": group["reason"],
                "count": group["count"],
                "survivor": shown.of_row(group["survivor"]),
                "removed": [shown.of_row(row, True) for row in group["removed"]],
            }
            for group in groups
        ],
        "sections": _sections(job, stages),
        "evidence": shown.of_stages(job, tally["shown"], tally["words"]),
        "sources": list(origin.get("sources", [])),
        "download": origin.get("download"),
        "asked": list(origin.get("asked", [])),
        "concepts": concept_counts.summary(job, tally["entries"]),
        "languages": dict(tops[frequencies.LANGUAGE]),
        "caption_sources": dict(tops[frequencies.SOURCE]),
        "top_captions_before": _top(tops[frequencies.BEFORE]),
        "top_captions_after": _top(tops[frequencies.AFTER]),
        "histograms": _histograms(job, tally["histograms"]),
    }


def _sections(job: Job, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the stages say of themselves, in their order."""
    counts = {each["name"]: each for each in stages}
    closed = {segment.closer: segment for segment in job.segments}
    found = []
    for at, stage in enumerate(job.settings.stages):
        state = last_state(job, closed[at]) if isinstance(stage, Reduce) else None
        told = stage.sections(counts.get(job.names[at], {}), state)
        found += [{"stage": job.names[at], **section._asdict()} for section in told]
    return found


def _top(texts: list[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"text": text[:CHARACTERS], "pairs": pairs} for text, pairs in texts]


def _histograms(job: Job, counts: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    cuts = {name: float(cut) for stage in job.settings.stages for name, cut in stage.cuts().items()}
    return {
        name: {
            "edges": edges,
            "before": counts[name]["before"].tolist(),
            "after": counts[name]["after"].tolist(),
            "cut": cuts.get(name),
        }
        for name, edges in tally.EDGES.items()
    }


def survivors(job: Job, bucket: int, uids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of some pairs of a bucket, wherever they ended."""
    hidden = {name for name, stage in zip(job.names, job.settings.stages, strict=False) if stage.hides_images}
    files = [job.file(each, bucket, ".ledger.parquet") for each in job.segments]
    found: dict[str, dict[str, Any]] = {}
    for url in (*files, job.file(job.segments[-1], bucket, ".parquet")):  # pairs of earlier segments may be gone
        for uid in uids:
            for row in parquet.read_range(url, "uid", uid, uid + "g").to_pylist():
                caption = row.get("caption") or next((each["text"] for each in row.get("captions") or ()), "")
                place = {name: row[name] for name in PLACE} if row.get("stage") not in hidden else {}
                found[uid] = {"uid": uid, "url": row["url"][:CHARACTERS], "caption": caption[:CHARACTERS], **place}
    return found


def with_survivors(groups: Mapping[str, dict[str, Any]], found: Mapping[str, dict[str, Any]]) -> Rows:
    """Each group with the row of its survivor."""
    return [
        {**group, "survivor": found.get(group["uid"], {"uid": group["uid"], "url": ""})} for group in groups.values()
    ]


def stage_counts(counts: list[ledger.Counts]) -> list[dict[str, Any]]:
    """The manifest's form: captions that a stage adds (merged in from removed copies) count as negative drops."""
    found = []
    for each in counts:
        plain = each.plain()
        added = plain.pop("captions_added")
        plain.pop("others")
        plain["caption_drops"] = dict(sorted(plain["caption_drops"].items())) | ({"added": -added} if added else {})
        plain["drops"] = dict(sorted(plain["drops"].items()))
        found.append(plain)
    return found
