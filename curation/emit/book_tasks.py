"""The books of a dataset, made where its shards are made: a task each, whose note goes into the list of the output."""

from collections.abc import Sequence
from typing import Any

from curation.books.publish import publish_book
from curation.emit.swap import target
from curation.emit.turns import in_turn
from curation.job import Job, check_files
from pipeline import storage
from pipeline.outputs import ENTRY_COUNTS, SUMMARY
from pipeline.storage import Note


def emit_book(job: Job, name: str, rows: Sequence[int]) -> Note:
    """Writes the book `name`; returns its note."""
    if name == ENTRY_COUNTS:
        check_files(job, range(len(job.settings.stages)))
    with in_turn(job, name):
        publish_book(job, target(job), name, rows)
    return storage.note_of(storage.join(target(job), name))


def emit_summary(job: Job, content: dict[str, Any]) -> Note:
    with in_turn(job, SUMMARY):
        storage.publish_json(storage.join(target(job), SUMMARY), content)
    return storage.note_of(storage.join(target(job), SUMMARY))
