"""One request to one web server, bounded in time and bytes, and only to addresses that may be asked.

It follows no redirect: where one leads is a url like any other, asked in its own turn under the limits of its own host.
"""

import http.client
import io
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from select import select
from threading import Lock
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from curation.fetch import addresses
from curation.fetch.settings import FetchSettings

_STEP = 1 << 16
# A server that sends head and body apart waits for our receipt of the first, which is 40 ms late on a kept connection.
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_FRESH_S = 300.0  # what a name resolves to is believed for so long
_KEPT = 2  # idle connections to one server
_IDLE_S = 20.0
_RESOLVERS = 16
_NAMES = 1 << 16

Resolve = Callable[[str, int], Sequence[tuple[int, Any]]]
"""(name, port) -> (family, address of a socket) of each address. The one place where names are asked for."""


def resolve(name: str, port: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(int(each[0]), each[4]) for each in found]


class Failed(OSError):
    """There is no answer; `problem` is one of schemas.PROBLEMS."""

    def __init__(self, problem: str, text: str = "") -> None:
        super().__init__(f"{problem}: {text}" if text else problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Origin:
    """A web server: what robots.txt and connections are of."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Of a canonical url (curation/table/urls.py): numbers are addresses there, and names ASCII."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failed("not_http", url[:100])
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def robots_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/robots.txt"


class _Deadline:
    """Until when a request may go on, and how long it may wait for the next byte."""

    def __init__(self, settings: FetchSettings) -> None:
        self._end, self._step_s = time.monotonic() + settings.total_s, settings.timeout_s

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        return min(left, self._step_s)


class _Received(io.RawIOBase):
    """What comes from a socket, each byte in time. A socket's own timeout is of each wait alone: a server that sends a
    byte a second would hold a thread for ever."""

    def __init__(self, wire: "_Wire") -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._wire.let_go()

    def readinto(self, buffer: Any) -> int:
        sock = self._wire.sock
        sock.settimeout(self._wire.deadline.left())
        if _QUICKACK is not None:  # it does not last
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return sock.recv_into(buffer)


class _Wire:
    """A socket as http.client uses one, under the deadline of the request at hand. It closes one as soon as it knows
    that the connection ends with the answer, and reads on: it is closed with the last file made of it."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self.sock, self.deadline = sock, deadline
        self._files, self._is_closed = 0, False

    def sendall(self, data: bytes) -> None:
        self.sock.settimeout(self.deadline.left())
        self.sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        self._files += 1
        return io.BufferedReader(_Received(self), _STEP)

    def close(self) -> None:
        self._is_closed = True
        self._close_unused()

    def let_go(self) -> None:
        """A file made of it is closed."""
        self._files -= 1
        self._close_unused()

    def _close_unused(self) -> None:
        if self._is_closed and self._files <= 0:
            self.sock.close()


class _Connection(http.client.HTTPConnection):
    """One connection to a server, to be used again."""

    wire: _Wire
    idle_since = 0.0

    def answers(self) -> bool:
        """Whether it can be used again: open, and nothing has come that was not asked for."""
        if time.monotonic() - self.idle_since > _IDLE_S:
            return False
        return not select([self.wire.sock], [], [], 0)[0]


class Reply:
    """An answer whose body is still to be read, as urllib's caller expects one: a context, with `headers`, `read`."""

    def __init__(self, network: "Network", origin: Origin, connection: _Connection, raw: http.client.HTTPResponse):
        self._network, self._origin, self._connection, self._raw = network, origin, connection, raw
        self.status, self.headers = raw.status, raw.headers
        self._is_whole = False

    def __enter__(self) -> "Reply":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_whole and not self._raw.will_close:
            self._network.keep(self._origin, self._connection)
        else:
            self._raw.close()
            self._connection.close()

    def read(self, most: int | None = None, may_cut: bool = False) -> bytes:
        """The body as it was sent, chunks joined. Raises Failed: `too_big` over `most` bytes (by default what the
        settings say), of which no more are read, unless `may_cut`; `short_body` when it ends too soon; `timeout`."""
        most = self._network.settings.max_bytes if most is None else most
        if (self._raw.length or 0) > most and not may_cut:
            raise Failed("too_big", f"{self._raw.length} bytes")
        whole = bytearray()
        with _failing():
            while len(whole) <= most:
                piece = self._raw.read1(_STEP)
                if not piece:
                    break
                whole += piece
        if len(whole) > most and may_cut:
            return bytes(whole[:most])
        if len(whole) > most:
            raise Failed("too_big", f"over {most} bytes")
        if self._raw.length:
            raise Failed("short_body", f"{self._raw.length} bytes are missing")
        self._raw.close()
        self._is_whole = True
        return bytes(whole)


@dataclass
class Network:
    """Names resolved, connections kept. Threads share it."""

    settings: FetchSettings
    resolve: Resolve = resolve
    _names: dict[tuple[str, int], tuple[float, Sequence[tuple[int, Any]]]] = field(default_factory=dict)
    _idle: dict[Origin, deque[_Connection]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._allowed = addresses.networks(self.settings.allow_networks)
        self._resolvers = ThreadPoolExecutor(_RESOLVERS)
        self._tls = ssl.create_default_context()

    def close(self) -> None:
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection in (each for some in idle.values() for each in some):
            connection.close()

    def keep(self, origin: Origin, connection: _Connection) -> None:
        """For the next request to the same server."""
        connection.idle_since = time.monotonic()
        with self._lock:
            some = self._idle.setdefault(origin, deque())
            some.append(connection)
            old = some.popleft() if len(some) > max(_KEPT, self.settings.host_connections) else None
        if old is not None:
            old.close()

    def ask(self, url: str) -> Reply:
        """What the server says to GET `url`. Raises Failed: not_http, port, dns, private_address, connect, tls,
        timeout, bad_http."""
        origin = Origin.of(url)
        deadline = _Deadline(self.settings)
        with _failing():
            kept = self._kept(origin)
            if kept is not None:
                kept.wire.deadline = deadline
                try:
                    return self._said(url, origin, kept)
                except (BrokenPipeError, ConnectionResetError):  # closed by the server meanwhile
                    kept.close()
                except BaseException:
                    kept.close()
                    raise
            connection = self._connected(origin, deadline)
            try:
                return self._said(url, origin, connection)
            except BaseException:
                connection.close()
                raise

    def _kept(self, origin: Origin) -> _Connection | None:
        while True:
            with self._lock:
                some = self._idle.get(origin)
                connection = some.pop() if some else None
                if some is not None and not some:
                    del self._idle[origin]
            if connection is None or connection.answers():
                return connection
            connection.close()

    def _said(self, url: str, origin: Origin, connection: _Connection) -> Reply:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
        for name, value in (
            ("Host", parts.netloc),
            ("User-Agent", self.settings.user_agent),
            ("Accept", "image/*, */*;q=0.5"),
            ("Accept-Encoding", "identity"),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        return Reply(self, origin, connection, connection.getresponse())

    def _connected(self, origin: Origin, deadline: _Deadline) -> _Connection:
        if origin.port in addresses.BAD_PORTS:
            raise Failed("port", str(origin.port))
        found = self._resolved(origin, deadline)
        last: OSError = Failed("dns", origin.host)
        for family, address in found:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(deadline.left())
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if origin.scheme == "https":
                    sock.settimeout(deadline.left())
                    sock = self._tls.wrap_socket(sock, server_hostname=origin.host)
                connection = _Connection(origin.host, origin.port)
                connection.wire = _Wire(sock, deadline)
                connection.sock = connection.wire
                return connection
            except OSError as error:
                sock.close()
                last = error
        if isinstance(last, ssl.SSLError):
            raise Failed("tls", str(last)[:100])
        raise last if isinstance(last, (TimeoutError, Failed)) else Failed("connect", str(last)[:100])

    def _resolved(self, origin: Origin, deadline: _Deadline) -> Sequence[tuple[int, Any]]:
        """The addresses of a name, all of which may be asked."""
        key, now = (origin.host, origin.port), time.monotonic()
        with self._lock:
            known = self._names.get(key)
        if known is None or now - known[0] > _FRESH_S:
            try:  # a resolver has no timeout of its own: its thread is left to it
                found = self._resolvers.submit(self.resolve, *key).result(deadline.left())
            except (OSError, UnicodeError, TimeoutError) as error:
                raise Failed("dns", str(error)[:100]) from None
            known = now, found
            with self._lock:
                if len(self._names) >= _NAMES:
                    self._names.clear()
                self._names[key] = known
        if not known[1]:
            raise Failed("dns", origin.host)
        if any(addresses.is_refused(address[0], self._allowed) for _, address in known[1]):
            raise Failed("private_address", origin.host)
        return known[1]


@contextmanager
def _failing() -> Iterator[None]:
    """What goes wrong in here is a Failed."""
    try:
        yield
    except Failed:
        raise
    except TimeoutError:
        raise Failed("timeout") from None
    except http.client.IncompleteRead:
        raise Failed("short_body") from None
    except http.client.RemoteDisconnected:
        raise Failed("connect", "closed without an answer") from None
    except (http.client.HTTPException, ValueError) as error:
        raise Failed("bad_http", str(error)[:100]) from None
    except OSError as error:
        raise Failed("connect", str(error)[:100]) from None
