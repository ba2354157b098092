"""What an answer comes to: a row of IMAGES, and whether asking again could come to more."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from curation.fetch.engine import Answer, Most
from curation.fetch.settings import FetchSettings
from curation.sources.warc.http_message import Response, Unusable, bodies
from curation.stages.opt_out import OptOut
from curation.table import robots
from curation.table.urls import canonical_url
from pipeline.images.formats import image_format

REDIRECTS = (301, 302, 303, 307, 308)
PASSING = ("timeout", "dns", "connect", "tls", "short_body", "robots_unreachable")
"""Problems that may have passed when the url is asked again."""
OF_HOST = ("dns", "connect", "tls", "robots_unreachable")
"""Problems that all urls of the host have."""
NOT_ASKED = ("robots_txt", "private_address", "port", "not_http")
"""Problems of urls that nobody was asked for."""
_SMALL = 64 << 10  # of a body that is not wanted, read so that the connection can be used again


@dataclass(frozen=True, slots=True)
class Outcome:
    """status, problem, ...: as in a row of IMAGES; reason: "" for an image or a redirect, else in a word; retry_after:
    seconds that the server asks for, -1: none; asked: whether a request was made."""

    url: str
    status: int = 0
    body: bytes | None = None
    content_type: str = ""
    x_robots_tag: str = ""
    location: str = ""
    problem: str = ""
    fetched_at: str = ""
    is_passing: bool = False
    retry_after: float = -1.0
    asked: bool = True
    attempts: int = 1

    @property
    def reason(self) -> str:
        if self.problem:
            return self.problem
        return "" if self.location or 200 <= self.status < 300 else f"http_error {self.status}"

    @property
    def counts(self) -> bool:
        """Whether it says something of how the download goes: not what was refused on purpose, nor the thousandth url
        of a host that is gone."""
        return self.asked and self.problem not in NOT_ASKED

    def with_attempts(self, attempts: int) -> "Outcome":
        return replace(self, attempts=attempts)

    def again(self, url: str, attempts: int) -> "Outcome":
        """The same for another url of the host, which was not asked for it."""
        return replace(self, url=url, asked=False, attempts=attempts)


def now() -> str:
    return datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def failed(url: str, problem: str, asked: bool = True, retry_after: str = "") -> Outcome:
    """No answer."""
    passing, wait = problem in PASSING, seconds(retry_after)
    return Outcome(url, problem=problem, fetched_at=now(), is_passing=passing, asked=asked, retry_after=wait)


def takes_body(settings: FetchSettings) -> Callable[[Answer], Most]:
    """How much of a body is wanted, by status and fields: none of what its owner asked to keep out."""

    def most(answer: Answer) -> Most:
        if opted_out(settings, answer):
            return Most(0)
        return Most() if 200 <= answer.status < 300 and answer.status != 206 else Most(_SMALL)

    return most


def opted_out(settings: FetchSettings, answer: Answer) -> str:
    tags = answer.all("x-robots-tag")
    return hit(settings.opt_out, robots.joined(tags)[0]) if tags else ""


@lru_cache(maxsize=4096)
def hit(tokens: tuple[str, ...], text: str) -> str:
    """The token by which a robots text opts out, or ""."""
    return OptOut(tokens=tokens).hit(text) or ""


def outcome_of(url: str, answer: Answer, settings: FetchSettings) -> Outcome:
    """What `answer` to `url` comes to."""
    if not answer.status:
        return failed(url, answer.problem or "bad_http")
    row = Outcome(
        url,
        answer.status,
        content_type=answer.first("content-type")[:200],
        x_robots_tag=robots.joined(answer.all("x-robots-tag"))[0],
        fetched_at=now(),
    )
    token = opted_out(settings, answer)
    if token:
        return replace(row, status=answer.status if 200 <= answer.status < 300 else 0, problem=token)
    if answer.status in REDIRECTS and answer.first("location"):
        target = canonical_url(url, answer.first("location"))
        return replace(row, location=target) if target else replace(row, status=0, problem="not_http")
    if not 200 <= answer.status < 300:
        passing, wait = answer.status in settings.retry_statuses, seconds(answer.first("retry-after"))
        return replace(row, is_passing=passing, retry_after=wait if passing else -1.0)
    problem, body = answer.problem or ("partial" if answer.status == 206 else ""), b""
    if not problem:
        fields = [each for each in answer.fields if each[0] != "transfer-encoding"]
        try:
            body = bodies(Response(answer.status, fields, answer.body), settings.max_bytes)[-1]
        except Unusable as error:
            problem = error.reason
        else:
            problem = "" if image_format(body) else "not_image" if body else "empty"
    return replace(row, body=body or None, problem=problem, is_passing=problem in PASSING)


def seconds(retry_after: str) -> float:
    """A Retry-After field in seconds from now; -1 when it says none."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:12]), 10**9))
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0) if text else -1.0
    except (ValueError, TypeError, OverflowError):
        return -1.0
