"""From kept pairs to the dataset of pipeline/contract: shards in uid order (a hash, so they are shuffled)."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from curation.emit.convert import convert, needs_conversion, opened
from curation.emit.swap import target
from curation.emit.turns import check, in_turn
from curation.job import Job
from curation.pool.store import ImagePlace, ImageReader
from curation.settings import EmitSettings
from curation.table import parquet, schemas
from curation.table.captions import NEGATIVES
from curation.table.stored import Stored
from pipeline import storage
from pipeline.contract.pairs import META_COLUMNS, Pair, index_name, negatives_problem, shard_name
from pipeline.contract.shards import write_shard
from pipeline.errors import DataError
from pipeline.images.decoder import Refused

Slice = tuple[int, int, int]  # bucket, first row, row after the last
_CAPTION_FIELDS = ("score", "model", "prompt_version", "of", "language")
_OWN = {column.name for column in META_COLUMNS} | {"source_sha256", "stored_sha256"}


def most_pairs(pairs: int, image_bytes: int, settings: EmitSettings) -> int:
    """How many pairs go into a shard at most, for a dataset of so many pairs with so many bytes of images."""
    if settings.bytes_per_shard is None:
        return settings.pairs_per_shard
    return max(1, min(settings.pairs_per_shard, pairs * settings.bytes_per_shard // max(1, image_bytes)))


def slices(rows: Sequence[int], pairs_per_shard: int) -> list[list[Slice]]:
    """For each shard the rows of each bucket in it: all shards as even as can be, none above `pairs_per_shard`."""
    total = sum(rows)
    shards = math.ceil(total / pairs_per_shard)
    starts = np.concatenate([[0], np.cumsum(rows)]).tolist()
    found = []
    for shard in range(shards):
        first, end = total * shard // shards, total * (shard + 1) // shards
        found.append(
            [
                (bucket, max(first, starts[bucket]) - starts[bucket], min(end, starts[bucket + 1]) - starts[bucket])
                for bucket in range(len(rows))
                if max(first, starts[bucket]) < min(end, starts[bucket + 1])
            ]
        )
    return found


def emit_shard(job: Job, shard: int, parts: list[Slice]) -> dict[str, Any]:
    """Writes one shard, unless it is written; returns its manifest entry, the metadata fields used and the notes of
    its files."""
    done = storage.join(job.emit_folder, "entries", f"{shard:06d}.json")
    state = storage.read_state(done)
    if state is not None and not storage.faults_of(target(job), state["files"]):
        return state
    columns: set[str] = set()
    tar = shard_name(shard)
    with in_turn(job, tar, index_name(tar)):
        entry = write_shard(target(job), shard, _pairs(job, parts, columns))
    told = {"entry": entry.model_dump(mode="json"), "columns": sorted(columns)}
    index = index_name(entry.name)
    index_note = {"bytes": storage.size(storage.join(target(job), index)), "sha256": entry.index_sha256}
    notes = {entry.name: {"bytes": entry.bytes, "sha256": entry.sha256}, index: index_note}
    if job.turn:  # a file of this stamp has these bytes: nobody else has had the turn up to now
        notes = {
            name: {**note, "stamp": storage.stamp(storage.join(target(job), name))} for name, note in notes.items()
        }
        check(job)
    storage.publish_state(done, told, notes)
    return {**told, "files": notes}


def _pairs(job: Job, parts: list[Slice], columns: set[str]) -> Iterator[Pair]:
    reader = ImageReader(job.pool)
    last = job.segments[-1]
    exports = tuple(name for stage in job.settings.stages for name in stage.exports)
    for bucket, start, stop in parts:
        table = parquet.read_slice(job.file(last, bucket, ".parquet"), start, stop)
        wanted = {*schemas.PAIRS.names, "width", "height", "language", NEGATIVES, *exports}
        table = table.select([name for name in table.schema.names if name in wanted])
        for batch in table.to_batches(max_chunksize=1024):
            rows = batch.to_pylist()
            bodies = reader.read_all(ImagePlace.of(row) for row in rows)
            for row, body in zip(rows, bodies, strict=True):
                pair = _pair(job, row, body, exports)
                columns.update(pair.meta)
                yield pair


def _pair(job: Job, row: dict[str, Any], body: bytes, exports: Sequence[str]) -> Pair:
    ext, width, height, found = row["image_ext"], row["width"], row["height"], row["image_sha256"]
    meta = _passed_through(row["extra"])
    sha256 = found
    if stored := Stored.of(row["image_stored"]):
        ext, sha256 = stored.ext, stored.sha256
        width, height = opened(body).size
        meta["stored_sha256"] = sha256
    if needs_conversion(ext, (width, height), job.settings.emit):
        try:
            body, ext, width, height = convert(body, job.settings.emit)
        except Refused as refused:
            where, hint = f"image {found[:12]} of pair {row['uid']}", "put the stage `image_decode` into the recipe"
            raise DataError(where, f"cannot be converted: {refused.reason}", "an image that decodes", hint) from None
        sha256 = hashlib.sha256(body).hexdigest()
        meta["source_sha256"] = found
    if stored:
        meta["source_sha256"] = found
    first = row["captions"][0]
    meta |= {"uid": row["uid"], "sha256": sha256, "width": width, "height": height, "url": row["url"]}
    meta |= {"page_url": first["page_url"], "language": row.get("language") or first["language"]}
    meta |= {name: row[name] for name in exports if _says_something(row[name])}
    meta["captions"] = [_caption(caption) for caption in row["captions"]]
    known = {each["text"]: each for each in _negatives_of_the_input(row["extra"])}
    made = {each["text"]: _caption(each) for each in row.get(NEGATIVES) or () if each["text"] not in known}
    if known or made:
        meta[NEGATIVES] = [*known.values(), *made.values()]
    return Pair(row["uid"], body, ext, meta)


def _says_something(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))  # JSON has no NaN


def _caption(caption: dict[str, Any]) -> dict[str, Any]:
    told = {"text": caption["text"], "source": caption["source"]}
    return told | {name: caption[name] for name in _CAPTION_FIELDS if caption.get(name) not in (None, "")}


def _passed_through(extra: str) -> dict[str, Any]:
    """Fields of the input that clipmill does not know; a name it knows is never overridden."""
    return {name: value for name, value in _object(extra).items() if name not in _OWN}


def _negatives_of_the_input(extra: str) -> list[dict[str, Any]]:
    """Of a dataset of ours that is curated again; a field of that name that means something else is nothing."""
    found = _object(extra)
    return found.get(NEGATIVES, []) if not negatives_problem(found) else []


def _object(extra: str) -> dict[str, Any]:
    try:
        found = json.loads(extra) if extra else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
