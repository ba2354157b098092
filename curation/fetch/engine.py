"""img2dataset's download function over a network of ours.

img2dataset asks for one url with `urllib.request.urlopen` and gives the bytes, or what went wrong in words. The opener
behind that call is the place it leaves to others, so that is where curation/fetch/network.py stands: which addresses,
how long, how many bytes, under which name. It is installed once a process, and for threads of ours alone: all others
have the opener that was there.
"""

import os
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from curation.fetch.network import Failed, Network, Reply
from pipeline.errors import ClipmillError, one_line

_call = threading.local()


@dataclass(slots=True)
class Answer:
    """What one request came to. status: 0 without an answer; fields: lower-case names; body: as it was sent; problem:
    why there is no body."""

    status: int = 0
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    problem: str = ""

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name and value]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")


class Most(NamedTuple):
    """How much of a body is read: 0 bytes: none; None: as the settings say. Of a longer one the rest is left off where
    it `may_cut`, else it is `too_big`."""

    bytes: int | None = None
    may_cut: bool = False


class _Opener:
    """Stands where urllib's opener stands."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def open(self, request: Any, data: Any = None, timeout: Any = None) -> Any:
        asking = getattr(_call, "asking", None)
        if asking is None:
            return self._before.open(request, data, timeout)
        return asking(request.full_url)


@cache
def _download() -> Callable[..., tuple[Any, Any, str | None]]:
    """img2dataset's download_image. What it imports besides is slow, and asks for newer versions unless told."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        from img2dataset.downloader import download_image
    except ImportError as error:
        found, hint = f"img2dataset cannot be imported: {one_line(error)}", "pip install 'clipmill[curate]'"
        raise ClipmillError("curate.fetch", found, "img2dataset, which downloads", hint) from None
    urllib.request.install_opener(_Opener(getattr(urllib.request, "_opener", None) or urllib.request.build_opener()))  # type: ignore[arg-type]
    return download_image


@dataclass(frozen=True)
class Engine:
    network: Network

    def __post_init__(self) -> None:
        _download()  # imported before there are threads

    def get(self, url: str, takes_body: Callable[[Answer], Most]) -> Answer:
        """What `url` answers. Never raises for what a server does. `takes_body` is given status and fields, and says
        how much of the body is read."""
        answer = Answer()

        def asking(address: str) -> "_Read":
            try:
                reply = self.network.ask(address)
            except Failed as failed:
                answer.problem = failed.problem
                raise
            answer.status = reply.status
            answer.fields = tuple((name.lower(), value) for name, value in reply.headers.items())
            return _Read(reply, answer, takes_body(answer))

        download = _download()
        _call.asking = asking
        try:
            _, stream, said = download((0, url), self.network.settings.timeout_s, None, None)
        finally:
            _call.asking = None
        if stream is not None:
            answer.body = stream.getvalue()
        elif said and not answer.problem and not answer.status:
            answer.problem = "bad_http"  # urllib's own refusal of a url
        return answer


class _Read:
    """A reply as img2dataset reads it."""

    def __init__(self, reply: Reply, answer: Answer, most: Most) -> None:
        self._reply, self._answer, self._most = reply, answer, most
        self.headers = reply.headers

    def __enter__(self) -> "_Read":
        return self

    def __exit__(self, *error: Any) -> None:
        self._reply.__exit__(*error)

    def read(self) -> bytes:
        if self._most.bytes == 0:
            return b""
        try:
            return self._reply.read(*self._most)
        except Failed as failed:
            self._answer.problem = failed.problem
            raise
