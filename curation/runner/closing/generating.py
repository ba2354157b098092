"""Asking models: what a Generate wants to know, each share by one task, every answer durable before it counts.

Answers go line by line into a journal beside the columns (curation/pool/journal.py) and from there, some thousand at a
time, into the columns. What a killed task had in its journal is brought into the columns before anything is asked again
(`fold`); what it had sent and not yet heard of is counted, and sent again.

A budget is handed out to shares by their number of inputs; what they leave is handed out again, until nothing more is
bought with it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.generation.asking import Asking, Keeper, plain_of
from curation.generation.backends.backend import BatchBackend, ServerBackend
from curation.generation.limits import Amount, BudgetSettings, Purse, allowed, cost_of
from curation.generation.request import Answer, Request
from curation.methods.units import GRADE, KEY, REASON, kept_schema
from curation.pool import journal
from curation.pool.columns import Columns
from curation.pool.journal import Journal
from curation.pool.store import ImageReader
from curation.runner.calls import Asks, Call, Do
from curation.runner.closing.feeding import inputs_of, opened_as
from curation.stage import ANSWERS, Context, Generate
from curation.table.arrow import whole
from pipeline.errors import Stopped
from pipeline.log import get_logger
from pipeline.signals import stop_asked

log = get_logger("curation")
_CHUNK = 64  # inputs whose images are in memory before they are asked about
_KEPT_ROWS, _KEPT_S = 2_000, 30.0  # answers that go into the columns at a time, at the latest
_LOOK_S = 0.25
_ATTEMPT = 10_000  # grade of a row: times asked again x this, and its number of answers
Told = dict[str, Any]


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


def is_served(stage: Generate) -> bool:
    return bool(stage.backend.is_server)


def processes(asks: Asks) -> int:
    """That ask a server at a time: one keeps it busy, and limits are shared out among them."""
    return asks.actors.max or asks.actors.min if asks.actors else 1


def ask_all(calls: list[Call], sizes: list[int], stage: Generate, name: str, columns: Columns, do: Do) -> None:
    """Runs the calls of `shares.share`, each of so many inputs, with what each may spend. Stopped when all is spent."""
    budget: BudgetSettings = stage.budget  # type: ignore[attr-defined]
    left = allowed(budget)
    if budget.is_limited:
        left = left.plus(spent_before(stage, columns), -1)
    todo, spent, alone = list(zip(calls, sizes, strict=True)), Amount(), False
    while todo:
        among = sum(size for _, size in todo)
        parts = [left.times(size / among) for _, size in todo] if not alone else [left, *[Amount()] * (len(todo) - 1)]
        asked = {_with(call, part): call for (call, _), part in zip(todo, parts, strict=True)}
        rest, before = [], spent
        for call, told in do(list(asked), f"{name}: ask", "shares"):
            bought = Amount(*told["spent"])
            spent, left = spent.plus(bought), left.plus(bought, -1)
            rest += [(asked[call], told["left"])] if told["left"] else []
        todo = sorted(rest, key=lambda each: each[0].args)
        if todo and not budget.is_limited:
            raise Stopped("curate", f"{name}: stopped", "what is answered is kept", "run the same command to go on")
        if todo and spent == before and alone:
            raise _spent(name, budget, left, sum(size for _, size in todo))
        alone = spent == before  # no part bought anything: all of it may buy some more
    if spent.requests:
        money = f", {spent.money:.2f} in money" if spent.money else ""
        log.info("%s: %d requests, %d tokens%s", name, spent.requests, spent.tokens, money)


def _with(call: Call, part: Amount) -> Call:
    return Call(call.function, (*call.args, part), call.where, call.cpus, call.gpus, call.memory, call.pool)


def _spent(name: str, budget: BudgetSettings, left: Amount, inputs: int) -> Stopped:
    limits = {key: getattr(budget, key) for key in Amount._fields if getattr(budget, key) is not None}
    said = ", ".join(f"{max(0.0, getattr(left, key)):g} left of {most:g} {key}" for key, most in limits.items())
    found = f"{name}: the budget is spent, {inputs} inputs are not asked about ({said}: not enough for another request)"
    hint = "raise `budget` and run the same command: what is answered is never paid again"
    return Stopped("curate", found, "what is answered is kept", hint)


def spent_before(stage: Generate, columns: Columns) -> Amount:
    """What all answers of this prompt and model have cost in this pool."""
    total, terms = Amount(), stage.terms()
    for slot in range(columns.slots):
        answers = whole(columns.read(slot, slot + 1).column(ANSWERS.name)).flatten()
        if len(answers):
            tokens = [pc.sum(answers.field(f)).as_py() or 0 for f in ("tokens_in", "tokens_out")]
            total = total.plus(cost_of(tokens[0], tokens[1], terms, len(answers)))
    for name in journal.names(columns.folder):  # of inputs that lack some of their answers
        for line in journal.lines_of(columns.folder, name):
            if "answer" in line:
                told = line["answer"]
                total = total.plus(cost_of(told["tokens_in"], told["tokens_out"], terms))
    return total


def fold(stage: Generate, columns: Columns) -> int:
    """Brings what dead writers have in their journals into the columns; returns how many requests they had sent and not
    heard of. Answers of inputs that still lack some lie in a journal afterwards."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    sent: set[tuple[str, int]] = set()
    names = sorted(journal.names(columns.folder))
    for name in names:
        for line in journal.lines_of(columns.folder, name):
            if "answer" in line:
                found.setdefault(line["key"], {}).setdefault(line["sample"], line["answer"])
            elif "sent" in line:
                sent.add((line["sent"], line["sample"]))
    if not names:
        return 0
    lost = sum(sample not in found.get(key, ()) for key, sample in sent)
    done = {key: own for key, own in found.items() if all(n in own for n in range(stage.samples))}
    if done:
        rows = [(key, [own[n] for n in sorted(own)]) for key, own in done.items()]
        fails = [any(each["passing"] for each in answers) for _, answers in rows]
        good = [row for row, fail in zip(rows, fails, strict=True) if not fail]
        rest = [row for row, fail in zip(rows, fails, strict=True) if fail]
        made = [_rows(stage, good, stage.ask_again), _rows(stage, rest, 0)]  # those go before what had failed
        columns.publish(pa.concat_tables(made))
    partial = {key: own for key, own in found.items() if key not in done}
    if partial:
        kept = Journal(columns.folder)
        kept.add(
            {"key": key, "sample": n, "answer": answer} for key, own in partial.items() for n, answer in own.items()
        )
        kept.close(remove=False)
    for name in names:
        journal.remove(columns.folder, name)
    return lost


def ask(
    stage: Generate, ctx: Context, todo: pa.Table, columns: Columns, reader: ImageReader, part: Amount, share: float
) -> Told:
    """What one task of a share does: {"spent", "left": inputs that are not answered}."""
    if isinstance(stage.backend, ServerBackend):
        return asyncio.run(_Serving(stage, todo, columns, reader, part, share).run())
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
    return _rows(stage, list(zip(keys, told, strict=True)), stage.ask_again)


def _rows(stage: Generate, answers: Sequence[tuple[str, list[dict[str, Any]]]], attempt: int) -> pa.Table:
    """Rows of the columns. A function may give several answers to one request, or none: it is asked once."""
    grades = [attempt * _ATTEMPT + (len(each) if is_served(stage) else stage.samples) for _, each in answers]
    keys, told = [key for key, _ in answers], [each for _, each in answers]
    made = {KEY: keys, ANSWERS.name: told, GRADE: grades, REASON: [None] * len(answers)}
    return pa.table(made, schema=kept_schema(stage))


class _Serving:
    """A share that asks a server."""

    def __init__(
        self, stage: Generate, todo: pa.Table, columns: Columns, reader: ImageReader, part: Amount, share: float
    ) -> None:
        self._stage, self._todo, self._columns, self._reader, self._share = stage, todo, columns, reader, share
        self._purse = Purse(part, stage.terms())
        self._known = self._answered_before()
        self._open: dict[str, list[dict[str, Any] | None]] = {}
        self._done: dict[str, list[dict[str, Any]]] = {}
        self._left, self._since = todo.num_rows, time.monotonic()
        self._journal = Journal(columns.folder)
        self._keeper = Keeper(lambda lines: self._journal.add(lines))

    def _answered_before(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Answers of inputs that lack others: in journals, and where `samples` or `ask_again` was raised in columns."""
        wanted = set(self._todo.column(KEY).to_pylist())
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for name in sorted(journal.names(self._columns.folder)):
            for line in journal.lines_of(self._columns.folder, name):
                if "answer" in line and line["key"] in wanted:
                    found.setdefault(line["key"], {}).setdefault(line["sample"], line["answer"])
        if self._stage.samples > 1 or self._stage.ask_again:
            keys = whole(self._todo.column(KEY))
            for slot in range(self._columns.slots):
                rows = self._columns.read(slot, slot + 1)
                for row in rows.filter(pc.is_in(whole(rows.column(KEY)), keys)).to_pylist():
                    own = {n: each for n, each in enumerate(row[ANSWERS.name]) if not each["passing"]}
                    found[row[KEY]] = found.get(row[KEY], {}) | own
        return found

    async def run(self) -> Told:
        stage: Any = self._stage
        try:
            async with stage.backend.session(
                max(1, int(stage.limits.in_flight * self._share)), stage.limits.timeout_s
            ) as session:
                asking = Asking(session, stage.limits, self._share, self._purse, self._keeper, self._took, stop_asked)
                keeping = asyncio.create_task(self._keep_on())
                try:
                    await asking.run(self._requests())
                finally:
                    keeping.cancel()
                    with suppress(asyncio.CancelledError):
                        await keeping
        except BaseException:
            self._journal.close(remove=False)  # it has all that is not in the columns, for whoever comes next
            raise
        self._publish(*self._taken())
        self._journal.close(remove=not self._open)
        return {"spent": tuple(self._purse.spent), "left": self._left}

    async def _requests(self) -> AsyncIterator[Request]:
        for start in range(0, self._todo.num_rows, _CHUNK):
            some = self._todo.slice(start, _CHUNK).combine_chunks()
            inputs = await asyncio.to_thread(inputs_of, self._stage, some, self._reader)
            keys = some.column(KEY).to_pylist()
            for key, asked in zip(keys, self._stage.requests(inputs, keys), strict=True):
                known = self._known.pop(key, {})
                self._open[key] = [known.get(request.sample) for request in asked]
                self._close_if_whole(key)
                for request in asked:
                    if request.sample not in known:
                        yield request

    def _took(self, request: Request, answer: Answer) -> None:
        self._open[request.key][request.sample] = plain_of(answer)
        self._close_if_whole(request.key)

    def _close_if_whole(self, key: str) -> None:
        answers = self._open[key]
        if all(each is not None for each in answers):
            self._done[key] = [each for each in self._open.pop(key) if each is not None]
            self._left -= 1

    async def _keep_on(self) -> None:
        """Moves answers from the journal into the columns, now and then."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if len(self._done) >= _KEPT_ROWS or (self._done and time.monotonic() - self._since > _KEPT_S):
                async with self._keeper.turn:  # nothing is written meanwhile
                    await asyncio.sleep(0)  # and who was told that its answer is durable has taken it
                    await asyncio.to_thread(self._publish, *self._taken())

    def _publish(self, done: list[tuple[str, list[dict[str, Any]]]], carried: list[dict[str, Any]]) -> None:
        """Columns first; then a journal of what is still open takes the place of the old one."""
        if not done:
            return
        self._columns.publish(_rows(self._stage, done, self._stage.ask_again))
        old, self._journal = self._journal, Journal(self._columns.folder)
        self._journal.add(carried)
        old.close(remove=True)

    def _taken(self) -> tuple[list[tuple[str, list[dict[str, Any]]]], list[dict[str, Any]]]:
        """What is to be published, and the lines of what is still open."""
        done, self._done, self._since = list(self._done.items()), {}, time.monotonic()
        found: list[dict[str, Any]] = []
        for key, answers in list(self._open.items()):
            for n, each in enumerate(answers):
                found.append({"key": key, "sample": n, "answer": each} if each else {"sent": key, "sample": n})
        return done, found
