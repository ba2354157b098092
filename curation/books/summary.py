"""summary.json: what the report shows of a curation run. Numbers reconcile: every pair ends in exactly one outcome."""

import base64
import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image

from curation.books import concept_counts, ledger, tally
from curation.job import Job
from curation.pool.store import ImageReader
from curation.table import parquet
from pipeline.contract.manifest import Manifest
from pipeline.errors import ClipmillError
from pipeline.images.decoder import FORMATS, PILLOW_MAX_PIXELS, Refused, decode

THUMB_SIDE, THUMB_QUALITY, THUMB_BATCH = 128, 78, 32
_TOP_CAPTIONS = 25

RunThumbs = Callable[[list[list[dict[str, Any]]]], Iterable[tuple[int, list[str | None]]]]


def build(job: Job, manifest: Manifest, tally: dict[str, Any], run_thumbs: RunThumbs) -> dict[str, Any]:
    """The content of summary.json; `run_thumbs` makes thumbnails of batches of rows, in any order."""
    groups = _with_survivors(job, tally["groups"])
    # Who opted out did so from being shown around, too: those rows get no thumbnail.
    shown = [some for label, some in tally["drops"].items() if not label.startswith("opt_out.")]
    rows = [*tally["kept"], *(row for some in shown for row in some)]
    rows += [row for group in groups for row in (group["survivor"], *group["removed"])]
    _add_thumbs(rows, run_thumbs)
    counts: dict[str, int] = {}
    for part in manifest.inputs:
        for name, number in part.counts.items():
            counts[name] = counts.get(name, 0) + number
    stages = [stage.model_dump() for stage in manifest.stages]
    return {
        "name": manifest.name,
        "run_digest": job.run_digest,
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
        "concepts": concept_counts.summary(job, tally["entries"]),
        "languages": _ranked(tally["languages"]),
        "caption_sources": _ranked(tally["caption_sources"]),
        "top_captions_before": _top(tally["texts"]["before"]),
        "top_captions_after": _top(tally["texts"]["after"]),
        "histograms": _histograms(job, tally["histograms"]),
    }


def _ranked(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _top(texts: dict[str, int]) -> list[dict[str, Any]]:
    ranked = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:_TOP_CAPTIONS]
    return [{"text": text, "pairs": pairs} for text, pairs in ranked]


def _shown(row: dict[str, Any], with_detail: bool = False) -> dict[str, Any]:
    shown = {"uid": row["uid"], "url": row["url"], "caption": row.get("caption") or "", "thumb": row.get("thumb")}
    return shown | ({"detail": row.get("detail") or ""} if with_detail else {})


def _histograms(job: Job, counts: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    cuts: dict[str, float | None] = dict.fromkeys(tally.EDGES)
    for stage in job.settings.stages:
        if stage.kind == "image_size" and getattr(stage, "min_side", 1) > 1:
            cuts["width"] = cuts["height"] = float(stage.min_side)
        if stage.kind == "caption_rules" and getattr(stage, "min_words", 0) > 1:
            cuts["caption_words"] = float(stage.min_words)
    return {
        name: {
            "edges": edges,
            "before": counts[name]["before"].tolist(),
            "after": counts[name]["after"].tolist(),
            "cut": cuts[name],
        }
        for name, edges in tally.EDGES.items()
    }


def _with_survivors(job: Job, groups: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each group with the row of its survivor, wherever that ended."""
    found = []
    for uid, group in groups.items():
        bucket = int(uid[:8], 16) // (2**32 // job.settings.buckets)
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


def _add_thumbs(rows: list[dict[str, Any]], run_thumbs: RunThumbs) -> None:
    """Sets `thumb` of every row; the same image is decoded once."""
    firsts: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.get("image_sha256") and row.get("image_part"):
            firsts.setdefault(row["image_sha256"], row)
    wanted = sorted(firsts.values(), key=lambda row: (row["image_part"], row["image_offset"]))
    batches = [wanted[i : i + THUMB_BATCH] for i in range(0, len(wanted), THUMB_BATCH)]
    thumb_of: dict[str, str | None] = {}
    for number, thumbs in run_thumbs(batches):
        thumb_of.update(zip((row["image_sha256"] for row in batches[number]), thumbs, strict=True))
    for row in rows:
        row["thumb"] = thumb_of.get(row.get("image_sha256") or "")


def thumbs(job: Job, rows: list[dict[str, Any]]) -> list[str | None]:
    """One data URI per row (a small JPEG); None for what does not decode."""
    reader = ImageReader(job.pool)
    return [_thumb(reader, row) for row in rows]


def _thumb(reader: ImageReader, row: dict[str, Any]) -> str | None:
    place = (row["image_part"], row["image_offset"], row["image_size"], row["image_sha256"])
    try:
        image, _ = decode(reader.read(*place), FORMATS, PILLOW_MAX_PIXELS // 4, 1 << 14)
    except (Refused, ClipmillError):
        return None
    image.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=THUMB_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def stage_counts(counts: list[ledger.Counts]) -> list[dict[str, Any]]:
    """The manifest's form: captions that a stage adds (merged in from removed copies) count as negative drops."""
    found = []
    for each in counts:
        plain = each.plain()
        added = plain.pop("captions_added")
        plain["caption_drops"] = dict(sorted(plain["caption_drops"].items())) | ({"added": -added} if added else {})
        plain["drops"] = dict(sorted(plain["drops"].items()))
        found.append(plain)
    return found
