"""Puts a finished dataset in its place: old manifest away, new files in, stale ones out, the new manifest last.

Locally everything is made under <output>/_work and moved at the end, so an older dataset at the same place stays whole
until the new one is complete. An object store cannot rename: there the old manifest goes first and shards are written
in place, which leaves no manifest until the end.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from curation.books.concept_counts import ENTRY_COUNTS, is_counted
from curation.job import Job
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest, ShardEntry
from pipeline.contract.pairs import index_name


def is_local(job: Job) -> bool:
    return storage.scheme_of(job.settings.output) == "file"


def target(job: Job) -> str:
    """Where files of the new dataset are made."""
    return job.emit_folder if is_local(job) else job.settings.output


def publish(job: Job, manifest: Manifest) -> None:
    """Puts the finished dataset in its place: old manifest away, new files in, stale files out, manifest last.

    Cut off anywhere, `finish_swap` of the next run goes on from the note left in the working folder.
    """
    files = _files(job, manifest.shards)
    note = {"files": files, "manifest": manifest.model_dump(mode="json")}
    storage.publish_json(storage.join(job.emit_folder, "swap.json"), note)
    _swap(job, files, manifest)


def finish_swap(job: Job) -> Manifest | None:
    """Completes a swap that was cut off; None when there is none for this very run."""
    url = storage.join(job.emit_folder, "swap.json")
    if not storage.exists(url):
        return None
    note = json.loads(storage.read_bytes(url))
    output = job.settings.output
    here = is_local(job)
    if not all(
        storage.exists(storage.join(output, n)) or (here and storage.exists(storage.join(job.emit_folder, n)))
        for n in note["files"]
    ):
        storage.remove(job.emit_folder, recursive=True)  # somebody took files away: make them again
        return None
    manifest = Manifest.model_validate(note["manifest"])
    _swap(job, note["files"], manifest)
    return manifest


def _files(job: Job, shards: Sequence[ShardEntry]) -> list[str]:
    books = [f"verdicts/bucket-{bucket:05d}.parquet" for bucket in range(job.settings.buckets)]
    shard_files = [name for entry in shards for name in (entry.name, index_name(entry.name))]
    counts = [ENTRY_COUNTS] if is_counted(job) else []
    return [*shard_files, *books, *counts, "subset.npy", "summary.json"]


def _swap(job: Job, files: list[str], manifest: Manifest) -> None:
    output = job.settings.output
    for name in (MANIFEST, "report.html", *({ENTRY_COUNTS} - set(files))):
        storage.remove(storage.join(output, name))
    if is_local(job):
        for name in files:
            made, place = Path(job.emit_folder, name), Path(output, name)
            if made.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(made, place)
    kept = set(files)
    for folder, prefix in (("", "shard-"), ("index", "shard-"), ("verdicts", "bucket-")):
        base = storage.join(output, folder) if folder else output
        for name in storage.list_names(base):
            if name.startswith(prefix) and (f"{folder}/{name}" if folder else name) not in kept:
                storage.remove(storage.join(base, name))
        storage.sweep_temps(base)
    manifest.save(output)


def is_whole(output: str, manifest: Manifest) -> bool:
    """All shards are there with the sizes the manifest says."""
    found = storage.list_sizes(output)
    return all(found.get(entry.name) == entry.bytes for entry in manifest.shards)
