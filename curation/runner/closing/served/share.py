"""A share of the inputs of a Generate, asked of a server.

Answers go line by line into a journal beside the columns (curation/pool/journal.py) and from there, some thousand at a
time, into the columns; what attempts cost goes into the accounts (curation/pool/accounts.py).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow as pa

from curation.generation.asking import Asking, Keeper, plain_of
from curation.generation.limits import Amount, Purse
from curation.generation.request import Answer, Request
from curation.methods.units import KEY
from curation.pool import accounts
from curation.pool.columns import Columns
from curation.pool.journal import Journal
from curation.pool.store import ImageReader
from curation.runner.closing.feeding import inputs_of
from curation.runner.closing.served.alone import BEAT_S, Lease
from curation.runner.closing.served.fold import spent_before
from curation.runner.closing.served.kept import known_of, rows_of
from curation.stage import Generate
from curation.table.arrow import whole
from pipeline.signals import stop_asked

_CHUNK = 64  # inputs whose images are in memory before they are asked about
_KEPT_ROWS, _KEPT_S = 2_000, 30.0  # answers that go into the columns at a time, at the latest
_LOOK_S = 0.25


class Part(NamedTuple):
    """What a share may do. left: to spend; by: names this share of this round, for whoever takes it over when its
    process dies; lease: of the run; of_limits: its part of what the whole stage may have under way."""

    left: Amount
    by: str = ""
    lease: Lease | None = None
    of_limits: float = 1.0


class Serving:
    def __init__(
        self, stage: Generate, todo: pa.Table, columns: Columns, reader: ImageReader, part: Part, again: bool = False
    ) -> None:
        """again: another process has died of it."""
        self._stage, self._todo, self._columns, self._reader, self._part = stage, todo, columns, reader, part
        self._before = spent_before(stage, columns, part.by) if again else Amount()
        self._purse = Purse(part.left.plus(self._before, -1), stage.terms())
        self._known = known_of(stage, columns, whole(todo.column(KEY)))
        self._open: dict[str, list[dict[str, Any] | None]] = {}
        self._done: dict[str, list[dict[str, Any]]] = {}
        self._left, self._since = todo.num_rows, time.monotonic()
        self._journal, self._lines = Journal(columns.folder, part.by), accounts.Lines()
        self._keeper = Keeper(self._write)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        self._journal.add(lines)
        self._lines.read(lines)

    def _stopping(self) -> bool:
        return stop_asked() or (self._part.lease is not None and self._part.lease.is_over())

    async def run(self) -> dict[str, Any]:
        stage: Any = self._stage
        try:
            async with stage.backend.session(
                max(1, int(stage.limits.in_flight * self._part.of_limits)), stage.limits.timeout_s
            ) as session:
                asking = Asking(
                    session,
                    stage.limits,
                    self._part.of_limits,
                    self._purse,
                    self._keeper,
                    self._took,
                    self._stopping,
                )
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
        if not self._open:
            self._account(self._journal.turn + 1, self._lines.whole())
        self._journal.close(remove=not self._open)
        spent = self._before.plus(self._purse.spent)
        return {"spent": tuple(spent), "left": self._left, "token": self._journal.token}

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
        looked = 0.0
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._part.lease is not None and time.monotonic() - looked > BEAT_S:
                looked = time.monotonic()
                await asyncio.to_thread(self._part.lease.look)
            if len(self._done) >= _KEPT_ROWS or (self._done and time.monotonic() - self._since > _KEPT_S):
                async with self._keeper.turn:  # nothing is written meanwhile
                    await asyncio.sleep(0)  # and who was told that its answer is durable has taken it
                    await asyncio.to_thread(self._publish, *self._taken())

    def _publish(self, done: list[tuple[str, list[dict[str, Any]]]], carried: list[dict[str, Any]]) -> None:
        """Columns first; then a journal of what is still open takes the place of the old one."""
        if not done:
            return
        self._columns.publish(rows_of(self._stage, done, self._stage.ask_again))
        old, self._journal = self._journal, self._journal.next()
        self._journal.add(carried)
        self._account(self._journal.turn, self._lines.closed())
        old.close(remove=True)

    def _account(self, turn: int, tally: accounts.Tally) -> None:
        if tally != accounts.Tally():
            accounts.publish(self._columns.folder, self._journal.token, turn, self._part.by, tally)

    def _taken(self) -> tuple[list[tuple[str, list[dict[str, Any]]]], list[dict[str, Any]]]:
        """What is to be published, and the lines of what is still open: answers, which are accounted for, and attempts
        under way, which are not."""
        done, self._done, self._since = list(self._done.items()), {}, time.monotonic()
        found: list[dict[str, Any]] = []
        for key, answers in list(self._open.items()):
            found += [{"key": key, "sample": n, "answer": each} for n, each in enumerate(answers) if each]
        return done, [*found, *self._lines.under_way()]
