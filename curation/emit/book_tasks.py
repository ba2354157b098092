"""The books of a dataset, made where its shards are made: a task each, whose note goes into the list of the output."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from curation.books.concept_index import COUNTS, publish_table
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


def emit_summary(job: Job, content: dict[str, Any], kept: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Note]:
    """Writes summary.json and, where it is asked for, the table of concepts; returns their notes. `kept`: (numbers,
    texts) of the entries that kept pairs mention."""
    names = [SUMMARY, *([COUNTS] if job.settings.emit.concepts else [])]
    with in_turn(job, *names):
        storage.publish_json(storage.join(target(job), SUMMARY), content)
        if job.settings.emit.concepts:
            none = np.zeros(0, np.int64)
            publish_table(job, storage.join(target(job), COUNTS), kept or (none, none))
    return {name: storage.note_of(storage.join(target(job), name)) for name in names}
