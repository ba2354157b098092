"""Asking models: what a Generate wants to know, each share by one task, every answer durable before it counts.

What a killed task had heard is brought into the columns before anything is asked again, what it had sent and not heard
of is counted (served/).

A budget is handed out to shares by their number of inputs; what they leave is handed out again, until nothing more is
bought with it.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from curation.generation.asking import plain_of
from curation.generation.backends.backend import BatchBackend, ServerBackend
from curation.generation.limits import Amount, BudgetSettings, allowed, cost_of_tally
from curation.methods.units import KEY
from curation.pool import accounts, journal
from curation.pool.columns import Columns
from curation.pool.store import ImageReader
from curation.runner.calls import Asks, Call, Do
from curation.runner.closing.feeding import inputs_of, opened_as
from curation.runner.closing.served.alone import Lease
from curation.runner.closing.served.fold import spent_before
from curation.runner.closing.served.kept import rows_of
from curation.runner.closing.served.share import Part, Serving
from curation.stage import Context, Generate
from pipeline.errors import Stopped
from pipeline.log import get_logger
from pipeline.signals import stop_asked

log = get_logger("curation")
_SETTLED = 256  # shares whose accounts become one
Told = dict[str, Any]


def processes(asks: Asks) -> int:
    """That ask a server at a time: one keeps it busy, and limits are shared out among them."""
    return asks.actors.max or asks.actors.min if asks.actors else 1


def ask_all(
    calls: list[Call], sizes: list[int], stage: Generate, name: str, columns: Columns, lease: Lease | None, do: Do
) -> None:
    """Runs the calls of `shares.share`, each of so many inputs, with what each may spend. Stopped when all is spent."""
    budget: BudgetSettings = stage.budget  # type: ignore[attr-defined]
    left = allowed(budget)
    if budget.is_limited:
        left = left.plus(spent_before(stage, columns), -1)
    todo, spent, alone = list(zip(calls, sizes, strict=True)), Amount(), False
    while todo:
        among, turn = sum(size for _, size in todo), secrets.token_hex(8)
        lefts = [left.times(size / among) for _, size in todo] if not alone else [left, *[Amount()] * (len(todo) - 1)]
        parts = [Part(each, f"{turn}-{at}", lease) for at, each in enumerate(lefts)]
        asked = {_with(call, part): call for (call, _), part in zip(todo, parts, strict=True)}
        rest, before, ended = [], spent, list[str]()
        for call, told in do(list(asked), f"{name}: ask", "shares"):
            bought = Amount(*told["spent"])
            spent, left = spent.plus(bought), left.plus(bought, -1)
            rest += [(asked[call], told["left"])] if told["left"] else []
            ended += [told["token"]] if "token" in told else []
            if len(ended) >= _SETTLED:
                _settle(columns, ended)
                ended = []
        todo = sorted(rest, key=lambda each: each[0].args)
        if lease is not None and todo:
            lease.look()
            if lease.is_over():
                raise Stopped(
                    "curate", f"{name}: another run has taken over", "what is answered is kept", "wait for it"
                )
        if todo and not budget.is_limited:
            raise Stopped("curate", f"{name}: stopped", "what is answered is kept", "run the same command to go on")
        if todo and spent == before and alone:
            raise _spent(name, budget, left, sum(size for _, size in todo))
        alone = spent == before  # no part bought anything: all of it may buy some more


def _settle(columns: Columns, ended: list[str]) -> None:
    """Of shares that have ended, but for those with answers that still wait for others."""
    waiting = {journal.token_of(name) for name in journal.names(columns.folder)}
    accounts.settle(columns.folder, [token for token in ended if token not in waiting])


def _with(call: Call, part: Part) -> Call:
    return Call(call.function, (*call.args, part), call.where, call.cpus, call.gpus, call.memory, call.pool)


def said(stage: Generate, tally: accounts.Tally) -> str:
    """What attempts have come to, in a line."""
    cost, unknown = cost_of_tally(tally, stage.terms()), sum(tally.unknown.values())
    words = [f"{tally.answers} requests answered", f"{tally.tokens_in + tally.tokens_out} tokens"]
    if tally.estimated:
        words.append(f"{tally.estimated_in + tally.estimated_out} more, estimated, of {tally.estimated} answers")
    again = tally.attempts - tally.finished
    words += [f"{again} sent again"] if again > 0 else []
    if unknown:
        most = tally.unknown_in + tally.unknown_out
        words.append(f"sent, answer unknown: {unknown}, at most {most} tokens")
    words += [f"{cost.money:.4g} in money"] if cost.money else []
    return ", ".join(words)


def _spent(name: str, budget: BudgetSettings, left: Amount, inputs: int) -> Stopped:
    limits = {key: getattr(budget, key) for key in Amount._fields if getattr(budget, key) is not None}
    said = ", ".join(f"{max(0.0, getattr(left, key)):g} left of {most:g} {key}" for key, most in limits.items())
    found = f"{name}: the budget is spent, {inputs} inputs are not asked about ({said}: not enough for another request)"
    hint = "raise `budget` and run the same command: what is answered is never paid again"
    return Stopped("curate", found, "what is answered is kept", hint)


def ask(
    stage: Generate,
    ctx: Context,
    todo: pa.Table,
    columns: Columns,
    reader: ImageReader,
    part: Part,
    again: bool = False,
) -> Told:
    """What one task of a share does: {"spent", "left": inputs that are not answered}. again: another process has died
    of it."""
    if isinstance(stage.backend, ServerBackend):
        return asyncio.run(Serving(stage, todo, columns, reader, part, again).run())
    return _in_batches(stage, ctx, todo, columns, reader)


def _in_batches(stage: Generate, ctx: Context, todo: pa.Table, columns: Columns, reader: ImageReader) -> Told:
    """A model in this process, or a function: a batch is kept before the next one is asked."""
    assert isinstance(stage.backend, BatchBackend)
    function = opened_as(f"{stage.kind}-{stage.kept_digest()}", lambda: stage.backend.open(ctx))
    batch = ctx.batch or stage.batch
    for start in range(0, todo.num_rows, batch):
        some = todo.slice(start, batch).combine_chunks()
        columns.publish(asked_rows(stage, function, inputs_of(stage, some, reader), some.column(KEY).to_pylist()))
        if stop_asked():
            return {"spent": tuple(Amount()), "left": todo.num_rows - start - some.num_rows}
    return {"spent": tuple(Amount()), "left": 0}


def asked_rows(stage: Generate, function: Callable[..., Any], inputs: pa.Table, keys: list[str]) -> pa.Table:
    """The columns' rows of some inputs that a BatchBackend is asked about, in one go."""
    asked = stage.requests(inputs, keys)
    answers = iter(function([request for each in asked for request in each]))
    told = [[plain_of(answer) for _ in each for answer in next(answers)] for each in asked]
    return rows_of(stage, list(zip(keys, told, strict=True)), stage.ask_again)
