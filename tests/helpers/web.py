"""Web servers on the loopback interface that do as they are told, and tell what they were asked."""

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOOPBACK = "127.0.0.0/8"


@dataclass
class Says:
    """An answer. `raw`: sent in place of all of it; `wait_s`: before it; `ranges`: a range of it is given where one is
    asked for."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: Callable[[socket.socket], None] | None = None
    wait_s: float = 0.0
    length: int | None = None
    ranges: bool = False


NOT_FOUND = Says(404, b"no")
Route = Says | Callable[[str], Says]


@dataclass
class Web:
    """routes: path -> answer; other paths are 404. asked: paths in order, with the time; headers: of each request;
    most: requests at a time there were."""

    port: int
    routes: dict[str, Route]
    asked: list[tuple[float, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_work: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def paths(self) -> Counter[str]:
        return Counter(path for _, path in self.asked)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away in the middle: that is what is tested."""


@contextmanager
def web(routes: dict[str, Route] | None = None, default: Route = NOT_FOUND) -> Iterator[Web]:
    """A server for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with here.lock:
                here.asked.append((time.monotonic(), self.path))
                here.headers.append({name.lower(): value for name, value in self.headers.items()})
                here.at_work += 1
                here.most = max(here.most, here.at_work)
            try:
                self.answer()
            finally:
                with here.lock:
                    here.at_work -= 1

        def answer(self) -> None:
            route = here.routes.get(self.path, default)
            says = route(self.path) if callable(route) else route
            time.sleep(says.wait_s)
            if says.raw is not None:
                says.raw(self.connection)
                self.close_connection = True
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if says.ranges and asked:
                says = replace(says, status=206, body=says.body[int(asked[1]) : int(asked[2]) + 1])
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            if "Transfer-Encoding" not in says.headers:
                length = len(says.body) if says.length is None else says.length
                self.send_header("Content-Length", str(length))
                self.close_connection = says.length is not None
            self.end_headers()
            self.wfile.write(says.body)

        def do_HEAD(self) -> None:
            says = here.routes.get(self.path, default)
            assert isinstance(says, Says)
            self.send_response(says.status)
            self.send_header("Content-Length", str(len(says.body)))
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    here = Web(server.server_address[1], dict(routes or {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
