"""robots.txt as RFC 9309 says: asked once for each server, kept for a day, and what cannot be had forbids all.

An answer of 4xx allows all, but for 429; of 5xx, or none at all, it forbids all for as long as it lasts. Redirects are
followed, up to five, to wherever they lead that may be asked. The first 500 KiB are read.
"""

import time
from dataclasses import dataclass

import protego

from curation.fetch.engine import Answer, Engine, Most
from curation.fetch.network import Origin
from curation.sources.warc.http_message import Response, Unusable, bodies
from curation.table.urls import canonical_url

MOST_BYTES = 500 << 10
HOPS = 5
_DAY_S = 86_400.0
_MOST = 20_000  # servers whose rules are held
_REDIRECTS = (301, 302, 303, 307, 308)
UNREACHABLE = "robots_unreachable"


@dataclass(frozen=True)
class Rules:
    """What one server asks for. failed: why that could not be had, when all is forbidden for now; said: what it
    answered then; text: of a robots.txt; read_at: seconds since 1970."""

    failed: str = ""
    text: str = ""
    read_at: float = 0.0
    retry_after: str = ""
    parsed: protego.Protego | None = None

    @classmethod
    def of(cls, text: str, read_at: float) -> "Rules":
        return cls(text=text, read_at=read_at, parsed=protego.Protego.parse(text) if text.strip() else None)

    def allows(self, url: str, agent: str) -> bool:
        return self.parsed is None or self.parsed.can_fetch(url, agent)

    def delay_s(self, agent: str) -> float:
        delay = self.parsed.crawl_delay(agent) if self.parsed is not None else None
        return max(float(delay or 0), 0.0)


class Robots:
    """The rules of the servers that a task asks. Threads share it; one alone asks for those of a host at a time."""

    def __init__(self, engine: Engine, known: dict[str, tuple[float, str]] | None = None) -> None:
        self._engine, now = engine, time.time()
        fresh = {name: each for name, each in (known or {}).items() if 0 <= now - each[0] < _DAY_S}
        self._rules = {name: Rules.of(text, read_at) for name, (read_at, text) in fresh.items()}

    def plain(self) -> dict[str, tuple[float, str]]:
        """What is known, to be kept for the next process."""
        return {name: (rules.read_at, rules.text) for name, rules in list(self._rules.items())}

    def known(self, origin: Origin) -> Rules | None:
        rules = self._rules.get(origin.robots_url)
        return rules if rules is not None and time.time() - rules.read_at < _DAY_S else None

    def of(self, origin: Origin) -> Rules:
        """Asked for where they are not known. Those that could not be had are not kept."""
        rules = self.known(origin)
        if rules is None:
            rules = self._asked(origin)
            if not rules.failed:
                if len(self._rules) >= _MOST:
                    self._rules.pop(next(iter(self._rules)))
                self._rules[origin.robots_url] = rules
        return rules

    def _asked(self, origin: Origin) -> Rules:
        url = origin.robots_url
        for hop in range(HOPS + 1):
            answer = self._engine.get(url, _takes)
            if answer.status in _REDIRECTS and answer.first("location"):
                target = canonical_url(url, answer.first("location"))
                if target is None:
                    break  # leads nowhere: as if there were none
                url = target
                continue
            if answer.problem and (not answer.status or 200 <= answer.status < 300):
                # A server that cannot be reached is that for its images, too.
                return Rules(failed=UNREACHABLE if answer.status or hop else answer.problem)
            if answer.status >= 500 or answer.status == 429:
                return Rules(failed=UNREACHABLE, retry_after=answer.first("retry-after"))
            if 200 <= answer.status < 300:
                return Rules.of(_text(answer), time.time())
            break
        return Rules.of("", time.time())


def _takes(answer: Answer) -> Most:
    return Most(MOST_BYTES if 200 <= answer.status < 300 else 0, may_cut=True)


def _text(answer: Answer) -> str:
    coded = [each for each in answer.fields if each[0] == "content-encoding"]
    try:
        body = bodies(Response(answer.status, coded, answer.body), 20 * MOST_BYTES)[-1]
    except Unusable:
        body = answer.body
    return body[:MOST_BYTES].decode("utf-8-sig", "replace")
