"""One request: only where it may go, never for longer or with more than it should."""

import gzip
import socket
import threading
import time

import pytest

from curation.fetch.engine import Engine, Most
from curation.fetch.network import Failed, Network, Origin
from curation.fetch.network import resolve as real_resolve
from curation.fetch.outcome import outcome_of, takes_body
from curation.fetch.settings import FetchSettings
from curation.table.urls import canonical_url
from tests.helpers.small_crawl import picture
from tests.helpers.web import LOOPBACK, Says, web

IMAGE = picture(1)


def settings(**more):
    return FetchSettings(**{"allow_networks": (LOOPBACK,), "timeout_s": 2.0, "total_s": 5.0, **more})


def got(url, resolve=real_resolve, **more):
    """What one request comes to."""
    mine = settings(**more)
    network = Network(mine, resolve)
    try:
        return outcome_of(url, Engine(network).get(url, takes_body(mine)), mine)
    finally:
        network.close()


def test_an_image_comes_with_what_its_server_says_of_it():
    headers = {"Content-Type": "image/png", "X-Robots-Tag": "noindex"}
    with web({"/a.png": Says(200, IMAGE, headers)}) as server:
        found = got(server.url("/a.png"), user_agent="tests-bot (somebody)")
        assert (found.status, found.body, found.reason) == (200, IMAGE, "")
        assert (found.content_type, found.x_robots_tag) == ("image/png", "noindex")
        assert server.headers[0]["user-agent"] == "tests-bot (somebody)"
        assert server.headers[0]["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]",
     "0.0.0.0", "\uff11\uff12\uff17.0.0.1"],
)  # fmt: skip
def test_no_spelling_of_an_address_inside_is_asked(host):
    with web({"/a.png": Says(200, IMAGE)}) as server:
        url = canonical_url("", f"http://{host}:{server.port}/a.png")
        assert url is not None
        found = got(url, allow_networks=())
        assert (found.problem, found.status, server.asked) == ("private_address", 0, [])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "data:image/png,x"])
def test_only_http_and_https_are_asked(url):
    assert got(url).problem == "not_http"


def test_ports_of_other_protocols_are_not_asked():
    assert got("http://127.0.0.1:22/a.png").problem == "port"


def test_a_name_with_one_address_inside_is_refused_whatever_its_others_are():
    def mixed(name, port):
        return [(socket.AF_INET, ("93.184.216.34", port)), (socket.AF_INET, ("127.0.0.1", port))]

    assert got("http://mixed.test/a.png", mixed, allow_networks=()).problem == "private_address"


def test_a_name_that_changes_its_address_is_asked_where_it_was_looked_at():
    """Rebinding: public at the first look, inside at the second. There is no second look."""
    looks = []

    def rebinding(name, port):
        looks.append(name)
        return [(socket.AF_INET, ("127.0.0.2" if len(looks) == 1 else "127.0.0.1", server.port))]

    with web({"/a.png": Says(200, IMAGE)}) as server:
        mine = settings(allow_networks=("127.0.0.2/32",))
        network = Network(mine, rebinding)
        answers = [
            Engine(network).get(f"http://rebinds.test:{server.port}/a.png", takes_body(mine)).problem for _ in "ab"
        ]
        network.close()
        assert looks == ["rebinds.test"] and server.asked == []  # it listens on 127.0.0.1 alone
        assert answers == ["connect", "connect"]


def test_names_that_do_not_resolve_are_a_reason():
    def none(name, port):
        raise socket.gaierror(-2, "Name or service not known")

    assert got("http://gone.test/a.png", none).problem == "dns"
    assert got("http://gone.test/a.png", lambda name, port: []).problem == "dns"


def test_a_name_server_that_never_answers_is_waited_for_no_longer_than_any():
    stuck = threading.Event()
    assert got("http://slow.test/a.png", lambda name, port: stuck.wait(30) or [], timeout_s=0.2).problem == "dns"
    stuck.set()


def test_a_closed_port_is_a_reason():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert got(f"http://127.0.0.1:{port}/a.png").problem == "connect"


def test_a_body_over_the_limit_is_not_read():
    sent = []

    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(4000):
            sent.append(connection.send(bytes(1 << 16)))

    with web({"/declared": Says(200, bytes(2_000_000)), "/endless": Says(raw=endless)}) as server:
        assert got(server.url("/declared"), max_bytes=1_000_000).problem == "too_big"
        assert got(server.url("/endless"), max_bytes=1_000_000).problem == "too_big"
    assert sum(sent) < 100 << 20  # what fits into the buffers of two sockets besides


@pytest.mark.parametrize("length", [1 << 15, 3_000_000_000])
def test_a_length_that_is_not_there_is_a_short_body(length):
    with web({"/a": Says(200, IMAGE, length=length)}) as server:
        assert got(server.url("/a"), max_bytes=1 << 32).problem == "short_body"


def test_a_length_smaller_than_the_body_ends_the_answer_and_the_connection():
    more = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
    with web({"/a": Says(200, IMAGE + more, length=len(IMAGE))}) as server:
        mine = settings()
        network = Network(mine)
        bodies = [Engine(network).get(server.url("/a"), takes_body(mine)).body for _ in range(3)]
        network.close()
        assert bodies == [IMAGE] * 3


def test_what_comes_unasked_is_no_answer_to_the_next_request():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: "

    def raw(connection):
        connection.sendall(head + b"%d\r\n\r\n" % len(IMAGE) + IMAGE)
        time.sleep(0.1)
        connection.sendall(head + b"3\r\n\r\nbad")
        time.sleep(1.0)

    with web({"/a": Says(raw=raw)}) as server:
        mine = settings()
        network = Network(mine)
        first = Engine(network).get(server.url("/a"), takes_body(mine)).body
        time.sleep(0.3)
        second = Engine(network).get(server.url("/a"), takes_body(mine)).body
        network.close()
        assert (first, second) == (IMAGE, IMAGE)


@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
     b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"],
)  # fmt: skip
def test_what_is_no_http_is_a_reason(raw):
    with web({"/a": Says(raw=lambda connection: connection.sendall(raw))}) as server:
        assert got(server.url("/a")).problem in ("bad_http", "connect", "short_body")


def trickle(*pieces, every_s=0.1):
    def raw(connection):
        for piece in pieces:
            connection.sendall(piece)
        while True:
            connection.sendall(b"x")
            time.sleep(every_s)

    return Says(raw=raw)


def test_a_server_that_sends_a_byte_now_and_then_holds_nobody():
    """Each byte comes in time: it is the whole that does not."""
    routes = {
        "/status": trickle(),
        "/head": trickle(b"HTTP/1.1 200 OK\r\nA: "),
        "/body": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        "/more": trickle(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nB: "),
    }
    with web(routes) as server:
        for path in routes:
            began = time.monotonic()
            assert got(server.url(path), total_s=1.0, timeout_s=0.5).problem == "timeout"
            assert time.monotonic() - began < 20  # for ever, without the limit


def test_a_server_that_says_nothing_is_a_timeout():
    with web({"/a": Says(200, IMAGE, wait_s=2.0)}) as server:
        assert got(server.url("/a"), timeout_s=0.2).problem == "timeout"


def test_a_compressed_body_is_unpacked_under_the_same_limit():
    packed, bomb = gzip.compress(IMAGE), gzip.compress(gzip.compress(bytes(50_000_000)))
    routes = {
        "/a": Says(200, packed, {"Content-Encoding": "gzip"}),
        "/bomb": Says(200, gzip.compress(bytes(50_000_000)), {"Content-Encoding": "gzip"}),
        "/nested": Says(200, bomb, {"Content-Encoding": "gzip, gzip"}),
        "/odd": Says(200, b"x", {"Content-Encoding": "zpaq"}),
    }
    with web(routes) as server:
        found = {path: got(server.url(path), max_bytes=1_000_000) for path in routes}
        assert found["/a"].body == IMAGE
        assert {path: each.problem for path, each in found.items()} == {
            "/a": "", "/bomb": "too_big", "/nested": "too_big", "/odd": "unknown_encoding",
        }  # fmt: skip


def test_a_redirect_is_told_and_not_followed():
    routes = {
        "/a": Says(302, headers={"Location": "/b.png?x"}),
        "/file": Says(301, headers={"Location": "file:///etc/passwd"}),
        "/none": Says(302),
        "/b.png": Says(200, IMAGE),
    }
    with web(routes) as server:
        assert got(server.url("/a")).location == server.url("/b.png?x")
        assert got(server.url("/file")).problem == "not_http"
        assert got(server.url("/none")).reason == "http_error 302"
        assert set(server.paths()) == {"/a", "/file", "/none"}


def test_opting_out_is_heard_before_the_body_is_read():
    headers = {"X-Robots-Tag": "otherbot: noimageai"}
    with web({"/a": Says(200, IMAGE, headers), "/b": Says(302, b"", {**headers, "Location": "/c"})}) as server:
        assert (got(server.url("/a")).problem, got(server.url("/a")).body) == ("noimageai", None)
        assert (got(server.url("/b")).problem, got(server.url("/b")).location) == ("noimageai", "")
        assert got(server.url("/a"), opt_out=()).body == IMAGE


def test_connections_are_used_again_and_no_longer_than_they_live():
    with web({"/a": Says(200, IMAGE), "/bye": Says(200, IMAGE, {"Connection": "close"})}) as server:
        mine = settings()
        network = Network(mine)
        for path in ("/a", "/a", "/bye", "/a", "/a"):
            assert Engine(network).get(server.url(path), lambda answer: Most()).body == IMAGE
        network.close()
        assert len(server.asked) == 5


def test_origins_are_told_apart():
    one, other = Origin.of("http://a.test/x"), Origin.of("https://a.test/x")
    assert one != other and one.robots_url == "http://a.test:80/robots.txt"
    assert Origin.of("http://[2001:db8::1]:8080/").robots_url == "http://[2001:db8::1]:8080/robots.txt"
    with pytest.raises(Failed):
        Origin.of("file:///a")
