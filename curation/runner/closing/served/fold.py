"""What processes that have ended left behind: answers go into the columns, attempts into the accounts."""

from typing import Any

import pyarrow as pa

from curation.generation.limits import Amount, cost_of_tally
from curation.pool import accounts, journal
from curation.pool.columns import Columns
from curation.pool.journal import Journal
from curation.runner.closing.served.kept import Answers, rows_of
from curation.stage import Generate


def fold(stage: Generate, columns: Columns) -> int:
    """Brings what the dead have in their journals into the columns; returns how many attempts were under way when they
    died. Answers of inputs that still lack some lie in a journal afterwards."""
    found, lost = Answers(), 0
    dead = journal.dead(columns.folder)
    for token in dead:
        mine = [name for name in journal.names(columns.folder) if journal.token_of(name) == token]
        lines = accounts.Lines()
        for name in sorted(mine):
            for line in journal.lines_of(columns.folder, name):
                lines.read([line])
                if "answer" in line:
                    found.setdefault(line["key"], {}).setdefault(line["sample"], line["answer"])
        lost += len(lines.under_way())
    done = {key: own for key, own in found.items() if all(n in own for n in range(stage.samples))}
    if done:
        rows = [(key, [own[n] for n in sorted(own)]) for key, own in done.items()]
        fails = [any(each["passing"] for each in answers) for _, answers in rows]
        good = [row for row, fail in zip(rows, fails, strict=True) if not fail]
        rest = [row for row, fail in zip(rows, fails, strict=True) if fail]
        made = [rows_of(stage, good, stage.ask_again), rows_of(stage, rest, 0)]  # those go before what had failed
        columns.publish(pa.concat_tables(made))
    kept: list[dict[str, Any]] = [
        {"key": key, "sample": n, "answer": answer}
        for key, own in found.items()
        if key not in done
        for n, answer in own.items()
    ]
    if kept:
        carried = Journal(columns.folder)
        carried.add(kept)
        carried.close(remove=False)
    accounts.settle(columns.folder, dead)
    return lost


def spent_before(stage: Generate, columns: Columns, by: str | None = None) -> Amount:
    """What all attempts of this prompt and model have cost in this pool, or those on one behalf."""
    return cost_of_tally(accounts.total(columns.folder, by), stage.terms())
