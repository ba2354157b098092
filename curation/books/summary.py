"""summary.json: what the report shows of a curation job. Numbers reconcile: every pair ends in exactly one outcome."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from curation.books import concept_counts, frequencies, ledger, tally
from curation.job import Job
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
    return rows + [row for group in tally["groups"] for row in (group["survivor"], *group["removed"])]


def build(
    job: Job,
    manifest: Manifest,
    tally: dict[str, Any],
    tops: frequencies.Tops,
    thumbs: Mapping[str, str | None],
    others: Mapping[str, dict[str, int]] = MappingProxyType({}),
) -> dict[str, Any]:
    """The content of summary.json; `thumbs`: sha256 -> data URI; `others`: what stages count besides, by name."""
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
        "kept_examples": [_shown(row) for row in tally["kept"]],
        "drop_examples": {label: [_shown(row, True) for row in some] for label, some in sorted(tally["drops"].items())},
        "duplicate_groups": [
            {
                "reason": group["reason"],
                "survivor": _shown(group["survivor"]),
                "removed": [_shown(row, True) for row in group["removed"]],
            }
            for group in groups
        ],
        "sections": _sections(job, stages),
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
    return [{"text": text, "pairs": pairs} for text, pairs in texts]


def _shown(row: dict[str, Any], with_detail: bool = False) -> dict[str, Any]:
    shown = {"uid": row["uid"], "url": row["url"], "caption": row.get("caption") or "", "thumb": row.get("thumb")}
    return shown | ({"detail": row.get("detail") or ""} if with_detail else {})


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


def with_survivors(job: Job, groups: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each group with the row of its survivor, wherever that ended."""
    found = []
    for uid, group in groups.items():
        bucket = int(job.cut.bucket_of(pa.array([uid]))[0])
        survivor: dict[str, Any] = {"uid": uid, "url": "", "caption": "", "image_part": ""}
        for segment in job.segments:
            for suffix in (".ledger.parquet", ".parquet"):
                url = job.file(segment, bucket, suffix)
                if suffix == ".parquet" and segment is not job.segments[-1]:
                    continue  # pairs of earlier segments may be gone already
                rows = parquet.read_range(url, "uid", uid, uid + "g").to_pylist()
                if rows:
                    survivor = {**rows[0], "detail": ""}
                    survivor["caption"] = survivor.get("caption") or survivor["captions"][0]["text"]
        found.append({**group, "survivor": survivor})
    return found


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
