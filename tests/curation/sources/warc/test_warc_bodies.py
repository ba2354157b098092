"""Bodies of answers: codings undone, what is of no use told by its problem, redirects noted, bombs bounded."""

import gzip
import hashlib
import zlib

import brotli
import pytest

from tests.helpers.ingested import Ingested, images
from tests.helpers.warcs import http, png, record, sha1, zipped


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


CODED = {
    "chunked": (chunked, ["Transfer-Encoding: chunked"]),
    "gzip": (gzip.compress, ["Content-Encoding: gzip"]),
    "gzip in two members": (lambda b: gzip.compress(b[:9]) + gzip.compress(b[9:]), ["Content-Encoding: gzip"]),
    "deflate": (zlib.compress, ["Content-Encoding: deflate"]),
    "raw deflate": (raw_deflate, ["Content-Encoding: deflate"]),
    "br": (brotli.compress, ["Content-Encoding: br"]),
    "both": (lambda b: chunked(gzip.compress(b)), ["Transfer-Encoding: chunked", "Content-Encoding: gzip"]),
    "twice": (lambda b: gzip.compress(zlib.compress(b)), ["Content-Encoding: deflate", "Content-Encoding: gzip"]),
    "undone by the crawler": (lambda b: b, ["Content-Encoding: gzip", "Transfer-Encoding: chunked"]),
}


@pytest.mark.parametrize("name", CODED)
def test_codings_of_a_body_are_undone(tmp_path, name):
    code, fields = CODED[name]
    sent = code(png(3))
    block = http(sent, "image/png", *fields)
    for number, digest in enumerate([sha1(png(3)), sha1(sent), "sha256:" + hashlib.sha256(sent).hexdigest()]):
        folder = tmp_path / str(number)
        folder.mkdir()
        got = Ingested(folder, zipped(record("http://e.org/3.png", block, WARC_Payload_Digest=digest)))
        assert got.body("http://e.org/3.png") == png(3)
        assert got.bad() == {}


MIB = 1 << 20
BOMB = gzip.compress(gzip.compress(bytes(64 * MIB), 1))
BAD_BODIES = {
    "bomb": (http(gzip.compress(bytes(64 * MIB)), "image/png", "Content-Encoding: gzip"), "too_big"),
    "nested bomb": (http(BOMB, "text/html", "Content-Encoding: gzip, gzip"), "too_big"),
    "over the cap": (http(png() + bytes(3 * MIB)), "too_big"),
    "page over the cap": (http(b"<html>" + b" " * 3 * MIB, "text/html"), "too_big"),
    "lying chunks": (http(b"ff\r\nshort\r\n0\r\n\r\n", "image/png", "Transfer-Encoding: chunked"), "bad_http"),
    "chunks without end": (http(chunked(png())[:-20], "image/png", "Transfer-Encoding: chunked"), "bad_http"),
    "cut gzip": (http(gzip.compress(png())[:-9], "image/png", "Content-Encoding: gzip"), "short_body"),
    "broken gzip": (http(b"\x1f\x8b\x08garbage", "image/png", "Content-Encoding: gzip"), "bad_encoding"),
    "short": (http(png(), "image/png", "Content-Length: 999"), "short_body"),
    "unknown coding": (http(png(), "image/png", "Content-Encoding: zpaq"), "unknown_encoding"),
    "part of it": (http(png(), status="206 Partial Content"), "partial"),
    "page for an image": (http(b"<html>removed</html>", "image/jpeg"), "not_image"),
    "empty": (http(b""), "empty"),
    "nothing to say": (http(b"", status="204 No Content"), "empty"),
    "error": (http(png(), status="404 Not Found"), "status_4xx"),
    "redirect": (http(b"", "text/html", "Location: /1.png", status="301 Moved"), "status_3xx"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_is_no_use_is_counted_and_its_answer_known(tmp_path, name):
    block, reason = BAD_BODIES[name]
    limits = {"max_image_bytes": 2 * MIB, "max_page_bytes": 2 * MIB}
    got = Ingested(tmp_path, zipped(record("http://e.org/0.png", block), *images(2)[1:]), **limits)
    row = got.images["http://e.org/0.png"]
    counted = "bad_records:too_big" if len(block) > 2.5 * MIB else f"bad_bodies:{reason}"
    assert got.bad() == {counted: 1}
    assert row["sha256"] is None and row["offset"] is None
    page = name.startswith("page")  # whatever else is wrong with it
    problem = "not_image" if page and reason != "too_big" else "" if reason.startswith("status") else reason
    assert row["problem"] == problem
    assert row["extra"] == "" and row["location"] == ("http://e.org/1.png" if name == "redirect" else "")
    assert got.body("http://e.org/1.png") == png(1), "what follows is read"


@pytest.mark.parametrize(
    ("status", "location", "led"),
    [(status, "/b%7E.png#top", "http://e.org/b~.png") for status in (301, 302, 303, 307, 308)]
    + [(status, "/b.png", "") for status in (200, 300, 304, 305, 404)]
    + [
        (302, "b.png", "http://e.org/a/b.png"),
        (302, "?size=big", "http://e.org/a/0.png?size=big"),
        (302, "../b.png", "http://e.org/b.png"),
        (302, "//CDN.e.org:80/b.png", "http://cdn.e.org/b.png"),
        (302, "https://user:word@e.org", "https://e.org/"),
        (302, "/b\u00fc.png", "http://e.org/b%C3%BC.png"),
        (302, "data:image/png;base64,AAAA", ""),
        (302, "file:///etc/passwd", ""),
        (302, "http://[/", ""),
        (302, "", ""),
    ],
)
def test_where_an_answer_leads_is_an_address_like_any_other(tmp_path, status, location, led):
    block = http(b"", "text/html", f"Location: {location}", status=f"{status} X")
    got = Ingested(tmp_path, zipped(record("http://e.org/a/0.png", block)))
    assert got.images["http://e.org/a/0.png"]["location"] == led


def test_a_bomb_costs_no_more_memory_than_the_cap(tmp_path):
    resource = pytest.importorskip("resource")
    Ingested(tmp_path, zipped(*images(1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tmp_path / "bomb").mkdir()
    bombs = zipped(
        record("http://e.org/a", http(gzip.compress(bytes(300 * MIB), 1), "image/png", "Content-Encoding: gzip")),
        record("http://e.org/b", http(bytes(100 * MIB))),
    )
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # making them took the memory, reading must not
    got = Ingested(tmp_path / "bomb", bombs, max_image_bytes=MIB)
    assert got.bad() == {"bad_records:too_big": 1, "bad_bodies:too_big": 1}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - max(held, before) < 100 * 1024  # KiB
