"""The `curate.fetch` section of a recipe: how images are downloaded that inputs mention and the pool does not hold."""

import ipaddress
import re

from pydantic import Field, field_validator

from curation.stages.opt_out import Token
from pipeline.settings import Settings, digest_of

VERSION = 2  # raise it when other rows would come of the same answers
_AGENT = re.compile(r"[A-Za-z_-][\x20-\x7e]*")


class FetchSettings(Settings):
    """Asks politely: robots.txt and X-Robots-Tag are honoured, addresses inside networks of one's own are refused."""

    enabled: bool = Field(default=True, description="false: nothing is downloaded, whatever the sources are")
    retry: bool = Field(
        default=False,
        description="a download that is finished asks once more for what failed in passing (timeouts, 429, 5xx, DNS)",
    )
    user_agent: str = Field(
        default="clipmill (image-text research; honours robots.txt)",
        max_length=256,
        description="said with every request; its first word is who robots.txt is asked about. Name a way to reach you",
    )
    robots_txt: bool = True
    crawl_delay: bool = Field(default=True, description="a Crawl-delay of robots.txt is kept, up to max_backoff_s")
    opt_out: tuple[Token, ...] = Field(
        default=("noai", "noimageai"), description="X-Robots-Tag tokens whose images are not taken"
    )
    allow_networks: tuple[str, ...] = Field(
        default=(), description="networks of one's own that may be asked, such as 127.0.0.0/8 or fd00::/8"
    )
    max_bytes: int = Field(default=20 << 20, ge=1, description="larger bodies are not read to their end")
    timeout_s: float = Field(default=10.0, gt=0, le=600, description="to connect, and between one byte and the next")
    total_s: float = Field(default=60.0, gt=0, le=3600, description="for one request from first to last")
    retries: int = Field(default=2, ge=0, le=20, description="further attempts at what failed in passing")
    retry_statuses: tuple[int, ...] = (408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)
    backoff_s: float = Field(default=1.0, ge=0, description="before the second attempt; doubled for each further one")
    max_backoff_s: float = Field(default=60.0, ge=0, description="the longest wait; who asks for more is left alone")
    threads: int = Field(default=64, ge=1, le=1024, description="requests at a time, of each task")
    host_connections: int = Field(default=8, ge=1, description="requests at a time to one host, by the whole cluster")
    host_rate: float | None = Field(
        default=None, gt=0, description="requests a second to one host, by all; default: any"
    )
    host_failures: int = Field(default=10, ge=1, description="failures in a row after which a host is left alone")
    min_success: float = Field(
        default=0.05, ge=0, le=1, description="the download stops when fewer of the last `window` requests succeed"
    )
    window: int = Field(default=1000, ge=1)
    commit_urls: int = Field(default=10_000, ge=1, description="at most so many are asked again after a kill, a task")
    commit_bytes: int = Field(default=1 << 30, ge=1)

    @field_validator("user_agent")
    @classmethod
    def _has_a_name(cls, value: str) -> str:
        if not _AGENT.fullmatch(value):
            raise ValueError("expected plain text that begins with a name, such as mylab-bot (+mail address)")
        return value

    @field_validator("allow_networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                ipaddress.ip_network(each)
            except ValueError as error:
                raise ValueError(f"{each!r}: {error}; expected a network such as 127.0.0.0/8") from None
        return value

    @property
    def agent(self) -> str:
        """The name by which robots.txt speaks of us."""
        match = re.match(r"[A-Za-z_-]+", self.user_agent)
        return match[0] if match else self.user_agent

    def policy(self) -> str:
        """16 hex naming what decides which answers count. How fast and how often is asked does not."""
        names = ("user_agent", "robots_txt", "opt_out", "allow_networks", "max_bytes")
        return digest_of([VERSION, {name: getattr(self, name) for name in names}])
