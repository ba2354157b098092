"""Rows of what a Generate has been answered: which are whole, and what is known of the others."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.units import GRADE, KEY, REASON, kept_schema
from curation.pool import journal
from curation.pool.columns import Columns
from curation.stage import ANSWERS, Generate
from curation.table.arrow import whole

_ATTEMPT = 10_000  # grade of a row: times asked again x this, and its number of answers
Answers = dict[str, dict[int, dict[str, Any]]]
"""Key of an input -> sample -> answer."""


def is_served(stage: Generate) -> bool:
    return bool(stage.backend.is_server)


def is_whole(stage: Generate, rows: pa.Table) -> pa.Array:
    """bool of rows of its columns: nothing more is to be asked."""
    wanted = rows.column(GRADE).to_numpy() % _ATTEMPT >= stage.samples
    if not stage.ask_again or not rows.num_rows:
        return pa.array(wanted)
    tried = rows.column(GRADE).to_numpy() // _ATTEMPT
    failed = [any(each["passing"] for each in row) for row in rows.column(ANSWERS.name).to_pylist()]
    return pa.array(
        [bool(w) and not (f and t < stage.ask_again) for w, f, t in zip(wanted, failed, tried, strict=True)]
    )


def rows_of(stage: Generate, answers: Sequence[tuple[str, list[dict[str, Any]]]], attempt: int) -> pa.Table:
    """Rows of the columns. A function may give several answers to one request, or none: it is asked once."""
    grades = [attempt * _ATTEMPT + (len(each) if is_served(stage) else stage.samples) for _, each in answers]
    keys, told = [key for key, _ in answers], [each for _, each in answers]
    made = {KEY: keys, ANSWERS.name: told, GRADE: grades, REASON: [None] * len(answers)}
    return pa.table(made, schema=kept_schema(stage))


def known_of(stage: Generate, columns: Columns, keys: pa.Array, slots: tuple[int, int] | None = None) -> Answers:
    """Answers of inputs that lack others: in journals, and where `samples` or `ask_again` was raised in columns.
    `slots`: where the keys lie, or anywhere."""
    wanted, found = set(keys.to_pylist()), Answers()
    if not wanted or not is_served(stage):
        return found
    for name in sorted(journal.names(columns.folder)):
        for line in journal.lines_of(columns.folder, name):
            if "answer" in line and line["key"] in wanted:
                found.setdefault(line["key"], {}).setdefault(line["sample"], line["answer"])
    if stage.samples > 1 or stage.ask_again:
        runs = [slots] if slots else [(slot, slot + 1) for slot in range(columns.slots)]
        for run in runs:
            rows = columns.read(*run)
            for row in rows.filter(pc.is_in(whole(rows.column(KEY)), keys)).to_pylist():
                own = {n: each for n, each in enumerate(row[ANSWERS.name]) if not each["passing"]}
                found[row[KEY]] = found.get(row[KEY], {}) | own
    return found
