"""Bodies: what undoing a coding may cost."""

import gzip
import zlib

import pytest

from curation.sources.warc import http_message
from curation.sources.warc.http_message import Response, Unusable, bodies


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
