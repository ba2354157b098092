"""Puts a finished dataset in its place: old manifest away, new files in, stale ones out, the new manifest last.

Locally everything is made under <output>/_work and moved at the end, so an older dataset at the same place stays whole
until the new one is complete. An object store cannot rename: there the old manifest goes first and shards are written
in place, which leaves no manifest until the end. It cannot be locked either: every write is made in turn (turns.py),
and before the manifest every file is looked at once more.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from curation.books import concept_index
from curation.books.concept_counts import is_counted
from curation.books.publish import verdicts_name
from curation.emit.ownership import Owned, owned, publish_owned, remove_listed, reserve
from curation.emit.turns import check, in_turn
from curation.job import Job
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.pairs import INDEX, index_name, shard_name
from pipeline.errors import StorageError
from pipeline.log import get_logger
from pipeline.outputs import CONCEPTS, DATA_CARD, ENTRY_COUNTS, REPORT, SUBSET, SUMMARY, VERDICTS
from pipeline.storage import Note

log = get_logger("curation")
_SWAP = "swap.json"
_READERS = 4  # files hashed at a time


def is_local(job: Job) -> bool:
    return storage.scheme_of(job.settings.output) == "file"


def target(job: Job) -> str:
    """Where files of the new dataset are made."""
    return job.emit_folder if is_local(job) else job.settings.output


def begin(job: Job, shards: int) -> None:
    """Before the first file of `shards` shards is made. In an object store that is where the old dataset ends."""
    if not is_local(job):
        with in_turn(job):
            reserve(job.settings.output, file_names(job, shards))
        with in_turn(job):
            storage.remove(storage.join(job.settings.output, MANIFEST))


def publish(job: Job, manifest: Manifest, notes: dict[str, Note]) -> None:
    """Puts the finished dataset in its place: old manifest away, new files in, stale files out, manifest last.

    `notes` of all its files, as they were written. Cut off anywhere, `finish_swap` of the next start goes on from the
    note left in the working folder.
    """
    with in_turn(job):
        reserve(job.settings.output, notes)
    storage.publish_state(storage.join(job.emit_folder, _SWAP), {"manifest": manifest.model_dump(mode="json")}, notes)
    _swap(job, notes, manifest)


def finish_swap(job: Job) -> Manifest | None:
    """Completes a swap that was cut off; None when there is none for this very job, or what it left is damaged."""
    url = storage.join(job.emit_folder, _SWAP)
    state = storage.read_state(url)
    if state is None:
        return None
    try:
        manifest = Manifest.model_validate(state.get("manifest"))
    except ValidationError:
        return None
    faults = _faults(job, state["files"])
    if faults:
        log.warning("%s; it is made again", faults[0])
        storage.remove(url)
        return None
    _swap(job, state["files"], manifest)
    return manifest


def file_names(job: Job, shards: int) -> list[str]:
    """What a dataset of this job consists of, besides its manifest."""
    names = [shard_name(number) for number in range(shards)]
    counts = [concept_index.COUNTS] if job.settings.emit.concepts else []
    return [*names, *(index_name(name) for name in names), *book_names(job), *counts, SUMMARY]


def book_names(job: Job) -> list[str]:
    counts = [ENTRY_COUNTS] if is_counted(job) else []
    buckets = range(job.buckets if job.settings.emit.concepts else 0)
    index = [concept_index.index_name(bucket) for bucket in buckets]
    return [*(verdicts_name(bucket) for bucket in range(job.buckets)), *index, *counts, SUBSET]


def _fault(job: Job, name: str, note: Note) -> str:
    """What is wrong with one file of the new dataset, wherever the file is by now."""
    made, place = storage.join(target(job), name), storage.join(job.settings.output, name)
    url = made if storage.exists(made) else place
    if "stamp" in note and storage.exists(url) and storage.stamp(url) == note["stamp"]:
        return ""  # not written to since it was made: so it need not be read again
    fault = storage.fault_of(url, note)
    return f"{storage.shown(url)}: {fault}" if fault else ""


def _faults(job: Job, notes: dict[str, Note]) -> list[str]:
    with ThreadPoolExecutor(_READERS) as pool:
        return [fault for fault in pool.map(lambda item: _fault(job, *item), notes.items()) if fault]


def _swap(job: Job, notes: dict[str, Note], manifest: Manifest) -> None:
    output = job.settings.output
    for name in (MANIFEST, REPORT, DATA_CARD):
        with in_turn(job):
            storage.remove(storage.join(output, name))
    if is_local(job):
        for name in notes:
            made, place = Path(job.emit_folder, name), Path(output, name)
            if made.exists():
                with in_turn(job, name):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(made, place)
    with in_turn(job, *owned(output).files):
        remove_listed(output, notes)
    for folder in (output, *(storage.join(output, each) for each in (INDEX, VERDICTS, CONCEPTS))):
        storage.sweep_temps(folder)
    digests = {"job_digest": job.digest, "manifest_digest": manifest.digest()}
    plain = {name: {what: note[what] for what in note if what != "stamp"} for name, note in notes.items()}
    with in_turn(job):
        publish_owned(output, replace(owned(output), files=plain, remaking=False, **digests))
    _look_again(job, notes)
    with in_turn(job, MANIFEST):
        manifest.save(output)


def _look_again(job: Job, notes: dict[str, Note]) -> None:
    """Nothing has been written over the new files by a run that was late to see that its turn was over."""
    if not job.turn:  # locked
        return
    faults = _faults(job, notes)
    check(job)
    if faults:
        storage.remove(storage.join(job.emit_folder, _SWAP))
        hint = "run the same command again when no other run is at work here: what is damaged is made again"
        raise StorageError(faults[0].partition(": ")[0], faults[0].partition(": ")[2], "what this run wrote", hint)


def faults(output: str, mine: Owned) -> list[str]:
    """What can be seen without reading shards: files that are missing or of another size, a summary of other bytes."""
    sizes = {
        f"{folder}/{name}" if folder else name: size
        for folder in ("", INDEX, VERDICTS, CONCEPTS)
        for name, size in storage.list_sizes(storage.join(output, folder) if folder else output).items()
    }
    found = [f"{name}: missing" for name in mine.files if name not in sizes]
    for name, note in mine.files.items():
        if name in sizes and sizes[name] != note.get("bytes", sizes[name]):
            found.append(f"{name}: {sizes[name]} bytes instead of {note['bytes']}")
    if not found and "bytes" in mine.files.get(SUMMARY, {}):
        fault = storage.fault_of(storage.join(output, SUMMARY), mine.files[SUMMARY])
        found = [f"{SUMMARY}: {fault}"] if fault else []
    return found
