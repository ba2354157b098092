"""What the report says of the asking of a stage: of this dataset since its first start, and of the whole pool.

<closing folder>/began.json   written at the first start, before anything is asked: inputs, those known by then, and
                              what the pool's accounts said
"""

from typing import Any

from curation.generation.limits import BudgetSettings, cost_of_tally
from curation.job import Job, Segment
from curation.pool import accounts
from curation.pool.accounts import Tally
from curation.pool.columns import Columns
from curation.runner.closing import answers
from curation.runner.closing.served.kept import is_served
from curation.stage import Generate
from pipeline import storage

BEGAN = "began.json"


def begin(job: Job, here: Segment, columns: Columns, inputs: int, known: int) -> None:
    """Once for a job, however often it is started."""
    url = job.closing_file(here, BEGAN)
    if storage.read_state(url) is None:
        before = accounts.total(columns.folder).plain()
        storage.publish_state(url, {"inputs": inputs, "known": known, "before": before})


def told(job: Job, here: Segment, stage: Generate, columns: Columns) -> dict[str, Any]:
    """{"inputs", "known", "run", "pool"}; `run` is what `pool` has more than at the first start."""
    began = storage.read_state(job.closing_file(here, BEGAN)) or {"inputs": 0, "known": 0, "before": {}}
    pool = accounts.total(columns.folder)
    run = pool.plus(accounts.tally_of(began["before"]), -1)
    return {"inputs": began["inputs"], "known": began["known"], "run": run.plain(), "pool": pool.plain()}


def of_job(job: Job) -> list[dict[str, Any]]:
    """For the summary: each stage that generates."""
    found = []
    for here in job.segments:
        stage = job.stage(here.closer) if here.closer is not None else None
        state = storage.read_state(job.closing_file(here, answers.CLOSED)) if isinstance(stage, Generate) else None
        if isinstance(stage, Generate) and state and "asked" in state:
            asked = state["asked"]
            run, pool = (priced(stage, accounts.tally_of(asked[name])) for name in ("run", "pool"))
            found.append(
                {"stage": job.names[here.closer or 0], "model": stage.terms().model, "is_server": is_served(stage)}
                | {name: asked[name] for name in ("inputs", "known", "used")}
                | {"run": run, "pool": pool}
            )
    return found


def priced(stage: Generate, tally: Tally) -> dict[str, Any]:
    """A tally with what it cost by the recipe's prices (None without any) and how much of the budget that is."""
    budget: BudgetSettings = stage.budget  # type: ignore[attr-defined]
    cost = cost_of_tally(tally, stage.terms())
    share = {
        name: getattr(cost, name) / most if most else 0.0
        for name in ("requests", "tokens", "money")
        if (most := getattr(budget, name)) is not None
    }
    money = cost.money if budget.price_in or budget.price_out else None
    again = max(0, tally.attempts - tally.finished)
    return tally.plain() | {"attempts": tally.attempts, "sent_again": again, "money": money, "of_budget": share}
