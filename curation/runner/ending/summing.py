"""The summary of a job: tallies of buckets in a tree, words by slot, survivors and small pictures, each by tasks."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.books import frequencies, ledger, summary, tally, thumbnails
from curation.job import Job
from curation.runner.calls import Call, Do
from curation.runner.closing.served import told as spending
from curation.runner.fetching.phase import Fetched
from curation.runner.inputs.naming import Parts
from curation.sources.source import Part
from pipeline import storage
from pipeline.contract.manifest import InputPart, Manifest


def origin_of(job: Job, parts: Parts, counts: Mapping[str, dict[str, int]], fetched: Fetched | None) -> dict[str, Any]:
    """Each source of the recipe with what its parts counted, and what came of the download."""
    sources = [{"kind": each.kind, "parts": 0, "bytes": 0, "counts": Counter()} for each in job.settings.sources]
    for at, part in parts:
        sources[at]["parts"] += 1
        sources[at]["bytes"] += part.bytes
        sources[at]["counts"].update(counts[part.id])
    for each in sources:
        each["counts"] = dict(sorted(each["counts"].items()))
    return {"sources": sources, "download": fetched.as_download() if fetched else None}


def summary_of(
    job: Job, manifest: Manifest, stages: list[ledger.Counts], origin: Mapping[str, Any], do: Do
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray] | None]:
    """The content of summary.json; (numbers, texts) of the entries of the list that kept pairs mention."""
    whole = dict[str, Any]()
    groups, slots = tally.groups_of(job.buckets), frequencies.slots_for(manifest.stages[0].pairs_out)
    calls = [Call(tally.tally, (group, slots), f"summary of bucket {group[0]} and on") for group in groups]
    for _, part in do(calls, "summary", "buckets"):
        whole = tally.merge(whole, part)
    firsts = [group[0] for group in groups]
    calls = [
        Call(frequencies.tops, (slot, firsts), f"summary, most frequent words, slot {slot}") for slot in range(slots)
    ]
    tops = frequencies.merged([part for _, part in do(calls, "frequent words", "slots")])
    whole["groups"] = summary.with_survivors(whole["groups"], _survivors(job, whole["groups"], do))
    batches = thumbnails.batches(summary.shown_rows(job, whole))
    calls = [Call(thumbnails.thumbnails, (batch,), "thumbnails") for batch in batches]
    thumbs: dict[str, str | None] = {}
    for _, made in do(calls, "thumbnails", "batches"):
        thumbs.update(made)
    _put_beside(job, whole["shown"], do)
    origin = {**origin, "asked": spending.of_job(job)}
    others = {each.name: each.others for each in stages if each.others}
    return summary.build(job, manifest, whole, tops, thumbs, others, origin), whole["entries"]


def _put_beside(job: Job, shown: Mapping[str, dict[str, Any]], do: Do) -> None:
    """Beside the rows that were held against something that is no pair: a look at that."""
    rows = {job.names.index(name): found for name, told in shown.items() if (found := thumbnails.rows_against(told))}
    calls = []
    for number, some in rows.items():
        names = sorted({row["against"] for row in some})
        calls.append(Call(thumbnails.against, (number, names), f"stage {job.names[number]}, pictures held against"))
    for call, found in do(calls, "pictures held against", "stages"):
        for row in rows[call.args[0]]:
            row["beside"] = found.get(row["against"])


def _survivors(job: Job, groups: Mapping[str, dict[str, Any]], do: Do) -> dict[str, dict[str, Any]]:
    wanted: dict[int, list[str]] = defaultdict(list)
    for uid in sorted({group["uid"] for group in groups.values()}):
        wanted[int(job.cut.bucket_of(pa.array([uid]))[0])].append(uid)
    calls = [Call(summary.survivors, (bucket, uids), f"survivors, bucket {bucket}") for bucket, uids in wanted.items()]
    found: dict[str, dict[str, Any]] = {}
    for _, rows in do(calls, "", "buckets"):
        found |= rows
    return found


def input_of(part: Part, counts: dict[str, int]) -> InputPart:
    """What the manifest says of a part."""
    path = storage.shown(part.path) if "://" in part.path else storage.basename(part.path)
    copies = {"copies": part.copies} if part.copies else {}
    return InputPart(part=part.id, path=path, bytes=part.bytes, digest=part.id, counts={**counts, **copies})
