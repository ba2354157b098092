"""Answers as they stand in a record, their bodies with the codings undone, and what undoing one may cost."""

import gzip
import zlib
from types import SimpleNamespace

import brotli
import pytest

from curation.sources.warc import http_message
from curation.sources.warc.http_message import Response, Unusable, bodies, parse_response

BODY = bytes(range(100))
CODED, LENGTH, CHUNKED = "content-encoding", "content-length", ("transfer-encoding", "Chunked")


def zipped(body: bytes, times: int = 1) -> bytes:
    return zipped(gzip.compress(body, mtime=0), times - 1) if times else body


def chunk(body: bytes, end: bytes = b"\r\n") -> bytes:
    return b"%x%b%b%b" % (len(body), end, body, end)


# name -> (fields, the body as it was sent, the content or why there is none), of at most 100 bytes
ANSWERS = {
    "a coding in any case, and those that are none": ([(CODED, "identity, GZip ,, Identity")], zipped(BODY), BODY),
    "an old name of gzip": ([(CODED, "x-gzip")], zipped(BODY), BODY),
    "three codings": ([(CODED, "gzip"), (CODED, "gzip, gzip")], zipped(b"abc", 3), b"abc"),
    "four codings": ([(CODED, "gzip, gzip, gzip, gzip")], zipped(b"", 4), "bad_encoding"),
    "no coding is unknown behind one that is": ([(CODED, "zpaq, gzip")], zipped(BODY), "unknown_encoding"),
    "a page that is not deflated": ([(CODED, "deflate")], b" <p>", b" <p>"),
    "a page that is no brotli": ([(CODED, "br")], b"\n<!doctype html><html>", b"\n<!doctype html><html>"),
    "a short page that is no brotli": ([(CODED, "br")], b"\n<p>", b"\n<p>"),
    "a page behind a mark that is no brotli": ([(CODED, "br")], b"\xef\xbb\xbf<p>a", b"\xef\xbb\xbf<p>a"),
    "a picture that is no brotli": (
        [(CODED, "br")],
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        b"\x89PNG\r\n\x1a\n" + bytes(40),
    ),
    "a picture that is not deflated": ([(CODED, "deflate")], b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0"),
    "garbage for brotli": ([(CODED, "br")], b"\xff" * 20, "bad_encoding"),
    "cut brotli": ([(CODED, "br")], brotli.compress(BODY)[:-9], "short_body"),
    "a bomb of brotli": ([(CODED, "br")], brotli.compress(bytes(1 << 20)), "too_big"),
    "as long as it says": ([(LENGTH, "100")], BODY, BODY),
    "longer than it says": ([(LENGTH, "99")], BODY, BODY),
    "shorter than it says": ([(LENGTH, "101")], BODY, "short_body"),
    "shorter than the first that says any": ([(LENGTH, ""), (LENGTH, "101"), (LENGTH, "1")], BODY, "short_body"),
    "a length that is no number": ([(LENGTH, "10\u00b2")], BODY, BODY),
    "a length beyond any": ([(LENGTH, "9" * 5000)], BODY, BODY),
    "a length of another form of it": ([(LENGTH, "999"), (CODED, "gzip")], zipped(BODY), BODY),
    "a length with chunks": ([(LENGTH, "999"), CHUNKED], chunk(BODY) + b"0\r\n", BODY),
    "chunks with plain line ends": ([CHUNKED], chunk(b"ab", b"\n") + chunk(b"c", b"\n") + b"0\n", b"abc"),
    "over the cap": ([], BODY + b"x", "too_big"),
    "unzipped over the cap": ([(CODED, "gzip")], zipped(BODY + b"x"), "too_big"),
    "chunks over the cap": ([CHUNKED, (CODED, "gzip")], chunk(zipped(b"x") + bytes(80)) + b"0\r\n", "too_big"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_content_of_an_answer_or_why_there_is_none(name):
    fields, sent, expected = ANSWERS[name]
    try:
        found: bytes | str = bodies(Response(200, fields, sent), 100)[-1]
    except Unusable as error:
        found = error.reason
    assert found == expected


def test_brotli_is_undone_in_steps():
    body = bytes(range(256)) * 4000
    assert bodies(Response(200, [(CODED, "br")], brotli.compress(body)), len(body))[-1] == body


def test_a_bomb_of_brotli_is_undone_up_to_the_cap_and_no_further(monkeypatch):
    made = []

    class Counting:
        def __init__(self) -> None:
            self._inner = brotli.Decompressor()
            self.is_finished, self.can_accept_more_data = self._inner.is_finished, self._inner.can_accept_more_data

        def process(self, data: bytes, output_buffer_limit: int) -> bytes:
            made.append(self._inner.process(data, output_buffer_limit=output_buffer_limit))
            return made[-1]

    monkeypatch.setattr(http_message, "brotli", SimpleNamespace(Decompressor=Counting, error=brotli.error))
    with pytest.raises(Unusable, match="too_big"):
        bodies(Response(200, [(CODED, "br")], brotli.compress(bytes(8 << 20))), 1 << 20)
    assert sum(map(len, made)) < 2 << 20


HEAD = b"HTTP/1.1 200 OK%bA: b"


@pytest.mark.parametrize(
    ("block", "body"),
    [
        (HEAD % b"\r\n" + b"\r\n\r\nx\n\ny", b"x\n\ny"),
        (HEAD % b"\n" + b"\n\nx\r\n\r\ny", b"x\r\n\r\ny"),
        (HEAD % b"\n", b""),
        (HEAD % b"\n" + b"b" * (64 << 10), None),
        (b"HTTP/1.1 OK\r\n\r\n", None),
    ],
)
def test_a_head_ends_at_its_first_empty_line(block, body):
    found = parse_response(block)
    assert found == (None if body is None else Response(200, [("a", "b")], body))


class Handed:
    """zlib's decompressor, counting the bytes that it is given and hands back."""

    total = 0

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits=wbits)

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        Handed.total += len(found) if isinstance(found, bytes) else 0
        return found


def test_a_body_of_a_million_empty_members_is_refused_at_the_cost_of_its_length(monkeypatch):
    class Zlib:
        error, decompressobj = zlib.error, Handed

    monkeypatch.setattr(http_message, "zlib", Zlib)
    Handed.total = 0
    body = gzip.compress(b"", mtime=0) * 300_000
    with pytest.raises(Unusable, match="bad_encoding"):
        bodies(Response(200, [("content-encoding", "gzip")], body), 20 << 20)
    assert Handed.total < 8 * len(body)


@pytest.mark.parametrize("members", [1, 2, 500])
def test_a_body_of_some_members_is_what_they_hold(members):
    pieces = [bytes([i % 251]) * (i % 7 * 40_000) for i in range(members)]
    body = b"".join(gzip.compress(piece) for piece in pieces)
    for tail in (b"", b"\0" * 9, b"junk"):
        fields = [("content-encoding", "gzip")]
        assert bodies(Response(200, fields, body + tail), 1 << 28)[-1] == b"".join(pieces)
