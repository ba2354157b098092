"""Which url is asked next: those of one host one behind the other, as its limits allow, and all hosts side by side.

A host that is slow, or asks to wait, holds no thread: its turn comes when it is ready. Only times are decided here.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType

from curation.fetch.network import Origin
from curation.fetch.outcome import OF_HOST, Outcome
from curation.fetch.settings import FetchSettings

_STRIKES = 3  # failures in a row, of whatever urls, before a host is left alone for a moment


@dataclass(slots=True)
class Wanted:
    url: str
    origin: Origin
    attempts: int = 0


@dataclass(slots=True)
class _Host:
    waiting: deque[Wanted] = field(default_factory=deque)
    later: list[tuple[float, int, Wanted]] = field(default_factory=list)  # asked again from a time on
    active: int = 0
    is_queued: bool = False
    not_before: float = 0.0  # by its rate
    rests_until: float = 0.0  # after failures, or because it asked to
    interval_s: float = 0.0
    # Of each server (scheme and port): failures in a row; and for those left alone, by what they failed.
    strikes: dict[Origin, int] = field(default_factory=dict)
    down: dict[Origin, Outcome] = field(default_factory=dict)
    asks_robots: bool = False  # one request at a time, until its rules are known

    def left(self) -> int:
        return len(self.waiting) + len(self.later)


class Hosts:
    """Urls that wait. Times are those of time.monotonic()."""

    def __init__(self, settings: FetchSettings, known: Mapping[str, tuple[float, int]] = MappingProxyType({})) -> None:
        """`known`: of servers, until when they rest and failures in a row, as `plain` tells them."""
        self._settings, self._known = settings, known
        self._hosts: dict[str, _Host] = {}
        self._ready: list[tuple[float, int, str]] = []
        self._number = count()
        self.left = 0

    def add(self, wanted: Wanted) -> None:
        host = self._hosts.get(wanted.origin.host)
        if host is None:
            rate = self._settings.host_rate
            host = self._hosts[wanted.origin.host] = _Host(interval_s=1 / rate if rate else 0.0)
        known = self._known.get(wanted.origin.robots_url) if self._known else None
        if known is not None and wanted.origin not in host.strikes:
            host.rests_until, host.strikes[wanted.origin] = max(host.rests_until, known[0]), known[1]
        host.waiting.append(wanted)
        self.left += 1
        self._queue(wanted.origin.host, host, 0.0)

    def plain(self) -> dict[str, tuple[float, int]]:
        """What is to be remembered of servers, by the address of their robots.txt."""
        each = ((host, *pair) for host in self._hosts.values() for pair in host.strikes.items())
        return {origin.robots_url: (host.rests_until, strikes) for host, origin, strikes in each if strikes}

    def attempts(self) -> dict[str, int]:
        """Urls that are to be asked again -> how often they were."""
        return {wanted.url: wanted.attempts for host in self._hosts.values() for _, _, wanted in host.later}

    def delay(self, name: str, delay_s: float) -> None:
        """A host is to be asked no more often than every `delay_s`."""
        host = self._hosts[name]
        host.interval_s = max(host.interval_s, min(delay_s, self._settings.max_backoff_s))

    def alone(self, name: str, is_alone: bool) -> None:
        """Whether a host is asked one thing at a time: while its robots.txt is being read."""
        self._hosts[name].asks_robots = is_alone

    def next(self, now: float) -> tuple[Wanted | None, Outcome | None, float]:
        """A url to be asked now; or one of a host that is left alone with what it failed by; or how long to wait for
        the next one that may be asked (for ever: only answers under way can change that)."""
        while self._ready:
            when, _, name = self._ready[0]
            host = self._hosts[name]
            when = max(when, self._when(host, now))
            if when > now:
                if when > self._ready[0][0]:
                    heapq.heapreplace(self._ready, (when, next(self._number), name))
                    continue
                return None, None, when - now
            heapq.heappop(self._ready)
            host.is_queued = False
            if host.waiting and host.waiting[0].origin in host.down:
                self.left -= 1
                wanted = host.waiting.popleft()
                self._queue(name, host, 0.0)
                return wanted, host.down[wanted.origin], 0.0
            if host.active and (host.asks_robots or host.active >= self._settings.host_connections):
                continue  # queued again when it has answered
            wanted = self._popped(host, now)
            host.active += 1
            host.not_before = max(host.not_before, now + host.interval_s)
            self._queue(name, host, host.not_before)
            return wanted, None, 0.0
        return None, None, float("inf")

    def _when(self, host: _Host, now: float) -> float:
        if host.waiting and host.waiting[0].origin in host.down:
            return 0.0
        first = 0.0 if host.waiting else host.later[0][0]
        return max(host.not_before, host.rests_until, first)

    def _popped(self, host: _Host, now: float) -> Wanted:
        self.left -= 1
        if host.later and (host.later[0][0] <= now or not host.waiting):
            return heapq.heappop(host.later)[2]
        return host.waiting.popleft()

    def _queue(self, name: str, host: _Host, when: float) -> None:
        if not host.is_queued and host.left():
            heapq.heappush(self._ready, (when, next(self._number), name))
            host.is_queued = True

    def answered(self, wanted: Wanted, outcome: Outcome, now: float) -> bool:
        """Notes what came of a url; returns whether that is final, else it is asked again."""
        name = wanted.origin.host
        host = self._hosts[name]
        host.active -= 1
        wanted.attempts += 1
        final = not outcome.is_passing or wanted.attempts > self._settings.retries
        if outcome.is_passing:
            self._strike(host, wanted.origin, outcome, now)
        elif outcome.asked:
            host.strikes[wanted.origin] = 0
        final = final or wanted.origin in host.down
        if not final:
            wait = self._backoff(wanted.attempts)
            heapq.heappush(host.later, (now + wait, next(self._number), wanted))
            self.left += 1
        self._queue(name, host, 0.0)
        return final

    def _strike(self, host: _Host, origin: Origin, outcome: Outcome, now: float) -> None:
        settings = self._settings
        if now < host.rests_until:
            return  # was under way when the host was left alone
        strikes = host.strikes[origin] = host.strikes.get(origin, 0) + 1
        of_host = outcome.problem in OF_HOST
        most = settings.retries + 1 if of_host else settings.host_failures
        if outcome.retry_after > settings.max_backoff_s or strikes >= most:
            self._give_up(host, origin, outcome)
            return
        if outcome.retry_after >= 0:
            host.rests_until = max(host.rests_until, now + min(outcome.retry_after, settings.max_backoff_s))
        elif of_host or outcome.status == 429:
            host.rests_until = max(host.rests_until, now + self._backoff(strikes))
        elif strikes >= _STRIKES:
            host.rests_until = max(host.rests_until, now + self._backoff(strikes - _STRIKES + 1))

    def _give_up(self, host: _Host, origin: Origin, outcome: Outcome) -> None:
        """No url of a server is asked for any more: those of it that wait for another attempt need not."""
        host.down[origin] = outcome
        over = [each for each in host.later if each[2].origin == origin]
        host.later = [each for each in host.later if each[2].origin != origin]
        heapq.heapify(host.later)
        host.waiting.extendleft(each[2] for each in over)

    def _backoff(self, times: int) -> float:
        settings = self._settings
        return min(settings.backoff_s * 2.0 ** min(times - 1, 30), settings.max_backoff_s)
