"""From kept pairs to the dataset of pipeline/contract: shards in uid order (a hash, so they are shuffled), the books
beside them, the manifest last.

Locally everything is made under <output>/_work and moved at the end, so an older dataset at the same place stays whole
until the new one is complete. An object store cannot rename: there the old manifest goes first and shards are written
in place, which leaves no manifest until the end.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation import ledger, records, tables
from curation.concept_counts import ENTRY_COUNTS, is_counted, publish_counts
from curation.convert import convert, needs_conversion
from curation.pixels import Refused
from curation.pool import ImageReader
from curation.runner.plan import Job
from pipeline.contract import storage
from pipeline.contract.manifest import MANIFEST, Manifest, ShardEntry
from pipeline.contract.pairs import META_COLUMNS, Pair, index_name
from pipeline.contract.shards import write_shard
from pipeline.errors import DataError

Slice = tuple[int, int, int]  # bucket, first row, row after the last
_CAPTION_FIELDS = ("score", "model", "prompt_version", "language")
_OWN = {column.name for column in META_COLUMNS} | {"source_sha256"}


def is_local(job: Job) -> bool:
    return storage.scheme_of(job.settings.output) == "file"


def target(job: Job) -> str:
    """Where files of the new dataset are made."""
    return job.emit_folder if is_local(job) else job.settings.output


def slices(rows: Sequence[int], pairs_per_shard: int) -> list[list[Slice]]:
    """For each shard the rows of each bucket in it: all shards as even as can be, none above `pairs_per_shard`."""
    total = sum(rows)
    shards = math.ceil(total / pairs_per_shard)
    starts = np.concatenate([[0], np.cumsum(rows)]).tolist()
    found = []
    for shard in range(shards):
        first, end = total * shard // shards, total * (shard + 1) // shards
        found.append([
            (bucket, max(first, starts[bucket]) - starts[bucket], min(end, starts[bucket + 1]) - starts[bucket])
            for bucket in range(len(rows))
            if max(first, starts[bucket]) < min(end, starts[bucket + 1])
        ])
    return found


def emit_shard(job: Job, shard: int, parts: list[Slice]) -> dict[str, Any]:
    """Writes one shard, unless it is written; returns its manifest entry and the metadata fields used."""
    done = storage.join(job.emit_folder, "entries", f"{shard:06d}.json")
    if storage.exists(done):
        return json.loads(storage.read_bytes(done))
    columns: set[str] = set()
    entry = write_shard(target(job), shard, _pairs(job, parts, columns))
    told = {"entry": entry.model_dump(mode="json"), "columns": sorted(columns)}
    storage.publish_json(done, told)
    return told


def _pairs(job: Job, parts: list[Slice], columns: set[str]) -> Iterator[Pair]:
    reader = ImageReader(job.pool)
    last = job.segments[-1]
    for bucket, start, stop in parts:
        table = tables.read_slice(job.file(last, bucket, ".parquet"), start, stop)
        scores = [f.name for f in table.schema if f.name.endswith("score") and pa.types.is_primitive(f.type)]
        wanted = {*records.PAIRS.names, "width", "height", "language", *scores}
        table = table.select([name for name in table.schema.names if name in wanted])
        for batch in table.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                pair = _pair(job, row, reader, scores)
                columns.update(pair.meta)
                yield pair


def _pair(job: Job, row: dict[str, Any], reader: ImageReader, scores: list[str]) -> Pair:
    body = reader.read(row["image_part"], row["image_offset"], row["image_size"], row["image_sha256"])
    ext, width, height, sha256 = row["image_ext"], row["width"], row["height"], row["image_sha256"]
    meta = _passed_through(row["extra"])
    if needs_conversion(ext, job.settings.emit):
        try:
            body, ext, width, height = convert(body, job.settings.emit)
        except Refused as refused:
            where, hint = f"image {sha256[:12]} of pair {row['uid']}", "put the stage `image_decode` into the recipe"
            raise DataError(where, f"cannot be converted: {refused.reason}", "an image that decodes", hint) from None
        meta["source_sha256"] = sha256
        sha256 = hashlib.sha256(body).hexdigest()
    first = row["captions"][0]
    meta |= {"uid": row["uid"], "sha256": sha256, "width": width, "height": height, "url": row["url"]}
    meta |= {"page_url": first["page_url"], "language": row.get("language") or first["language"]}
    meta |= {name: row[name] for name in scores if row[name] is not None and math.isfinite(row[name])}
    meta["captions"] = [_caption(caption) for caption in row["captions"]]
    return Pair(row["uid"], body, ext, meta)


def _caption(caption: dict[str, Any]) -> dict[str, Any]:
    told = {"text": caption["text"], "source": caption["source"]}
    return told | {name: caption[name] for name in _CAPTION_FIELDS if caption.get(name) not in (None, "")}


def _passed_through(extra: str) -> dict[str, Any]:
    """Fields of the input that clipmill does not know; a name it knows is never overridden."""
    try:
        found = json.loads(extra) if extra else {}
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if name not in _OWN} if isinstance(found, dict) else {}


def publish_books(job: Job, rows: Sequence[int]) -> None:
    """subset.npy (DataComp: sorted uint64 pairs), verdicts/ (dropped pairs, by bucket), entry_counts.json."""
    publish_counts(job, target(job))
    last = job.segments[-1]
    with storage.publish(storage.join(target(job), "subset.npy")) as path:
        kind = np.dtype([("f0", "u8"), ("f1", "u8")])
        with open(path, "wb") as file:
            header = {"descr": kind.descr, "fortran_order": False, "shape": (sum(rows),)}
            np.lib.format.write_array_header_1_0(file, header)
            for bucket in range(job.settings.buckets):
                uids = storage.read_parquet(job.file(last, bucket, ".parquet"), ["uid"]).column("uid").to_pylist()
                file.write(np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("<u8").tobytes())
    for bucket in range(job.settings.buckets):
        found = [storage.read_parquet(job.file(each, bucket, ".ledger.parquet")) for each in job.segments]
        table = pa.concat_tables([ledger.LEDGER.empty_table(), *found]).select(list(ledger.PUBLIC))
        name = f"bucket-{bucket:05d}.parquet"
        storage.publish_parquet(storage.join(target(job), "verdicts", name), table.sort_by("uid"))


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
    if not all(storage.exists(storage.join(output, n)) or (here and storage.exists(storage.join(job.emit_folder, n)))
               for n in note["files"]):
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
