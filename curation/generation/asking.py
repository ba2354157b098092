"""Many requests under way at a time: as fast as the server, limits and budget allow, each answer durable first.

A request holds its place among those under way from before it is sent until its answer is durable, so that no more of
them can be lost, and sent again, than may be under way. Every attempt is written down before it is sent, and closed by
what came of it (curation/pool/accounts.py has the lines). What is written down at a time is made durable together
(group commit): while one write is on its way, the next ones gather.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from curation.generation.backends.backend import Later, Session
from curation.generation.estimate import counted, tokens_of
from curation.generation.limits import LimitSettings, Purse
from curation.generation.request import Answer, Request
from pipeline.draws import keyed_uniform
from pipeline.errors import ClipmillError, Stopped

_FIRST_WAIT_S, _LONGEST_WAIT_S, _LOOK_S = 0.5, 60.0, 0.5
_MANY = 8  # requests that fail while nothing is answered: then it is the server
_DOWN = frozenset(
    {"no_connection", "connection_lost", *(f"http_{status}" for status in (429, 502, 503, 504, 520, 522, 524, 529))}
)
"""What a server says that is down or full, whatever it is asked."""
_FULL, _OF_FULL = frozenset({"http_429", "http_529"}), 0.1


class Keeper:
    """Makes lines durable in the order in which they come, many at a time. `write` blocks; it runs in a thread."""

    def __init__(self, write: Callable[[list[dict[str, Any]]], None]) -> None:
        self._write, self._waiting = write, list[tuple[dict[str, Any], asyncio.Future[None] | None]]()
        self._come, self.turn = asyncio.Event(), asyncio.Lock()

    async def keep(self, line: dict[str, Any]) -> None:
        """Returns when it is durable."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((line, done))
        self._come.set()
        await done

    def put(self, line: dict[str, Any]) -> None:
        """It is written before all that is kept after it."""
        self._waiting.append((line, None))
        self._come.set()

    async def work(self) -> None:
        """For ever, until it is cancelled. What cannot be written ends all that wait."""
        while True:
            await self._come.wait()
            async with self.turn:
                await self._write_down()

    async def end(self) -> None:
        """All that was given is written."""
        async with self.turn:
            await self._write_down()

    async def _write_down(self) -> None:
        some, self._waiting = self._waiting, []
        self._come.clear()
        error: Exception | None = None
        try:
            await asyncio.to_thread(self._write, [line for line, _ in some])
        except Exception as found:
            error = found
        for done in (done for _, done in some if done is not None and not done.done()):
            done.set_result(None) if error is None else done.set_exception(error)


class Asking:
    """Asks until `requests` end, the purse is empty or `stopping` says so; then waits for what is under way, when it is
    to stop no longer than `limits.stop_after_s`: what has not come by then was sent, and its answer is unknown.

    took      called with each request and its durable answer
    is_broke  whether money, tokens or requests ran out
    """

    def __init__(
        self,
        session: Session,
        limits: LimitSettings,
        share: float,
        purse: Purse,
        keeper: Keeper,
        took: Callable[[Request, Answer], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._session, self._limits, self._purse, self._keeper = session, limits, purse, keeper
        self._took, self._stopping, self._share = took, stopping, share
        self._next = asyncio.Lock()
        self._free_at = {"requests": 0.0, "tokens": 0.0}
        self._answered_at, self._answers, self._failing = time.monotonic(), 0, set[tuple[str, int]]()
        self._is_under_way, self._is_known = False, asyncio.Event()
        self._tries, self._waited_for, self._is_late = count(), set[asyncio.Task[Any]](), False
        self.is_broke = False

    async def run(self, requests: AsyncIterator[Request]) -> None:
        writing = asyncio.create_task(self._keeper.work())
        most = max(1, int(self._limits.in_flight * self._share))
        try:
            async with asyncio.TaskGroup() as group:
                asking = [group.create_task(self._ask_on(requests)) for _ in range(most)]
                group.create_task(self._end_in_time(asking))
        except ExceptionGroup as several:
            raise _first(several) from None
        finally:
            await self._keeper.end()
            async with self._keeper.turn:  # what is being written is written
                writing.cancel()

    async def _end_in_time(self, asking: Sequence[asyncio.Task[None]]) -> None:
        end = None
        while (await asyncio.wait(asking, timeout=_LOOK_S))[1]:
            if end is None and self._stopping():
                end = time.monotonic() + self._limits.stop_after_s
            if end is not None and time.monotonic() >= end:
                self._is_late = True
                for each in list(self._waited_for):
                    each.cancel()

    async def _ask_on(self, requests: AsyncIterator[Request]) -> None:
        try:
            await self._ask_while_there_are(requests)
        finally:
            self._is_known.set()

    async def _ask_while_there_are(self, requests: AsyncIterator[Request]) -> None:
        while not self.is_broke and not self._stopping():
            async with self._next:  # one at a time takes the next one
                if self._purse.is_limited and self._is_under_way:  # the first tells how well costs are estimated
                    await self._is_known.wait()
                request = await anext(requests, None)
                self._is_under_way = True
            if request is None:
                return
            if not self._purse.reserve(request):
                self.is_broke = True
                return
            await self._pace("requests", self._limits.requests_per_s, 1)
            await self._pace("tokens", self._limits.tokens_per_s, tokens_of(request))
            if self._stopping():
                return
            found = await self._answer(request)
            if found is None:
                return
            answer, line = found
            self._is_known.set()
            await self._keeper.keep(line)
            self._took(request, answer)

    async def _answer(self, request: Request) -> tuple[Answer, dict[str, Any]] | None:
        """The answer and the line that keeps it. Asks again, later and later, while the reason may pass; None when the
        run is to stop by then, or has nothing left to pay another attempt with.

        A server that is down is no fault of a request: while nothing at all is answered, that uses up no attempt. One
        that is full uses up a tenth.
        """
        tried, failed, seen = 0.0, 0, self._answers
        own = {"key": request.key, "sample": request.sample}
        while True:
            number = next(self._tries)
            most = self._purse.most_tokens(request)
            await self._keeper.keep({"sent": request.key, "sample": request.sample, "try": number, "most": most})
            try:
                with self._waiting_for(request, number):
                    answer = await self._session.ask(request)
            except _Late:
                return None
            except Later as later:
                failed += 1
                self._keeper.put({"failed": number, "why": later.reason, "may_cost": later.may_cost})
                if later.may_cost:
                    self._purse.lose(request)
                if later.reason not in _DOWN or self._answers > seen:
                    tried += _OF_FULL if later.reason in _FULL else 1
                seen = self._answers
                if tried >= self._limits.attempts:
                    if not later.may_cost:
                        self._purse.release(request)
                    answer = Answer(failed=later.reason, passing=True)
                    return answer, own | {"answer": plain_of(answer), "try": number}
                self._failing.add((request.key, request.sample))
                await self._sleep(_wait_s(request, failed - 1, later.after_s), later.reason)
                if self._stopping():
                    return None
                if later.may_cost and not self._purse.reserve(request):
                    self.is_broke = True
                    return None
            else:
                self._answered_at, self._answers = time.monotonic(), self._answers + 1
                self._failing.clear()
                tokens_in, tokens_out, is_estimate = counted(request, answer)
                self._purse.settle(request, tokens_in, tokens_out)
                estimate = {"estimate": [tokens_in, tokens_out]} if is_estimate else {}
                return answer, own | {"answer": plain_of(answer), "try": number} | estimate

    @contextmanager
    def _waiting_for(self, request: Request, number: int) -> Iterator[None]:
        """While the server is at work on it; _Late when the run can wait no longer."""
        me = asyncio.current_task()
        assert me is not None
        self._waited_for.add(me)
        try:
            yield
        except asyncio.CancelledError:  # sent, and nobody will know
            self._purse.lose(request)
            if not self._is_late:
                raise
            me.uncancel()
            raise _Late from None
        except ClipmillError:  # it said no
            self._keeper.put({"failed": number, "why": "refused", "may_cost": False})
            raise
        finally:
            self._waited_for.discard(me)

    async def _sleep(self, seconds: float, reason: str = "") -> None:
        """Not beyond a wish to stop, nor the patience with a server that is silent."""
        end = time.monotonic() + seconds
        while not self._stopping():
            if reason:
                self._raise_if_silent(reason)
            left = end - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _LOOK_S))

    def _raise_if_silent(self, reason: str) -> None:
        """Few that fail in other ways may be at fault themselves: they use up their attempts, and the run goes on."""
        silent = time.monotonic() - self._answered_at
        if silent > self._limits.patience_s and (reason in _DOWN or len(self._failing) >= _MANY):
            found = f"the server has answered nothing for {silent:.0f} s; last: {reason}"
            raise Stopped("generate", found, "what is answered is kept", "run the same command to go on")

    async def _pace(self, what: str, per_s: float | None, number: float) -> None:
        """Waits for a place in the stream of so many a second."""
        if per_s is None:
            return
        now = time.monotonic()
        at = max(self._free_at[what], now)
        self._free_at[what] = at + number / (per_s * self._share)
        await self._sleep(at - now)


class _Late(Exception):
    """An answer was waited for as long as there was time."""


def plain_of(answer: Answer) -> dict[str, Any]:
    """As JSON, and as a row of the columns."""
    return dict(vars(answer))


def _wait_s(request: Request, attempt: int, after_s: float | None) -> float:
    """What the server said, or half to all of a wait that doubles; drawn, so that not all come back at once."""
    wait = min(_FIRST_WAIT_S * 2 ** min(attempt, 16), _LONGEST_WAIT_S)
    drawn = wait * (0.5 + 0.5 * keyed_uniform(0, "retry", request.key, request.sample, attempt))
    return max(after_s, 0.1 * drawn) + 0.1 * drawn if after_s is not None else drawn


def _first(several: BaseExceptionGroup) -> BaseException:
    found = several.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
