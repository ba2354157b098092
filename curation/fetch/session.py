"""Urls to outcomes: threads ask, one at a time for each thread, in the order that curation/fetch/hosts.py gives."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from curation.fetch.engine import Engine
from curation.fetch.hosts import Hosts, Wanted
from curation.fetch.network import Network, Origin, Resolve, resolve
from curation.fetch.outcome import Outcome, failed, outcome_of, takes_body
from curation.fetch.robots_txt import Robots
from curation.fetch.settings import FetchSettings

_POLL_S = 0.5

Done = tuple[Wanted, Outcome | BaseException]


class Session(AbstractContextManager["Session"]):
    """Connections, names and rules of the hosts that one task asks. `known`: what a session before knew, as `plain`
    tells it."""

    def __init__(
        self,
        settings: FetchSettings,
        known: Mapping[str, Any] | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._settings, self._network = settings, Network(settings, resolve)
        self._engine = Engine(self._network)
        self._takes = takes_body(settings)
        self._threads = ThreadPoolExecutor(settings.threads)
        known = known or {}
        self._robots = Robots(self._engine, known.get("rules"))
        ahead_s = time.monotonic() - time.time()  # clocks of processes differ, but for the time of day
        self._known = {name: (float(at) + ahead_s, int(n)) for name, (at, n) in known.get("hosts", {}).items()}
        self._attempts: dict[str, int] = dict(known.get("attempts", {}))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=kind is None, cancel_futures=True)
        self._network.close()

    def plain(self) -> dict[str, Any]:
        """What the next session with the same hosts should know: rules, who rests until when, attempts."""
        ahead_s = time.time() - time.monotonic()
        hosts = {name: (at + ahead_s, n) for name, (at, n) in self._known.items()}
        return {"rules": self._robots.plain(), "hosts": hosts, "attempts": self._attempts}

    def outcomes(self, urls: Iterable[str], goes_on: Callable[[], bool] = lambda: True) -> Iterator[Outcome]:
        """One of each url, in the order in which they come; urls are canonical and distinct. When it
        `goes_on` no longer, what is under way is waited for: what has no outcome then is for another call."""
        hosts, answers = Hosts(self._settings, self._known), SimpleQueue[Done]()
        for url in urls:
            hosts.add(Wanted(url, Origin.of(url), self._attempts.pop(url, 0)))
        flying = 0
        try:
            while flying or (hosts.left and goes_on()):
                wait = _POLL_S
                while flying < self._settings.threads and goes_on():
                    wanted, outcome, wait = hosts.next(time.monotonic())
                    if wanted is None:
                        break
                    if outcome is not None:
                        yield outcome.again(wanted.url, wanted.attempts)
                        continue
                    hosts.alone(wanted.origin.host, self._asks_robots(wanted.origin))
                    self._threads.submit(self._ask, wanted, answers)
                    flying += 1
                try:
                    done, found = answers.get(timeout=max(min(wait, _POLL_S), 0.001))
                except Empty:
                    continue
                flying -= 1
                if isinstance(found, BaseException):
                    raise found
                self._keep_pace(hosts, done)
                if hosts.answered(done, found, time.monotonic()):
                    yield found.with_attempts(done.attempts)
            self._known |= hosts.plain()
            self._attempts |= hosts.attempts()
        finally:
            if flying:
                self._threads.shutdown(wait=False, cancel_futures=True)

    def _asks_robots(self, origin: Origin) -> bool:
        return self._settings.robots_txt and self._robots.known(origin) is None

    def _keep_pace(self, hosts: Hosts, wanted: Wanted) -> None:
        hosts.alone(wanted.origin.host, False)
        rules = self._robots.known(wanted.origin) if self._settings.crawl_delay and self._settings.robots_txt else None
        if rules is not None:
            hosts.delay(wanted.origin.host, rules.delay_s(self._settings.agent))

    def _ask(self, wanted: Wanted, answers: "SimpleQueue[Done]") -> None:
        try:
            answers.put((wanted, self._outcome(wanted)))
        except BaseException as error:  # of ours, or of img2dataset: the caller's to raise
            answers.put((wanted, error))

    def _outcome(self, wanted: Wanted) -> Outcome:
        url = wanted.url
        if self._settings.robots_txt:
            rules = self._robots.of(wanted.origin)
            if rules.failed:
                return failed(url, rules.failed, retry_after=rules.retry_after)
            if not rules.allows(url, self._settings.agent):
                return failed(url, "robots_txt", asked=False)
        return outcome_of(url, self._engine.get(url, self._takes), self._settings)
