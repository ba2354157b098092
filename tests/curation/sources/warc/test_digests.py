"""Digests that a WARC states about a body, in the spellings that crawlers use."""

import base64
import hashlib

from curation.sources.warc.digests import digest_matches


def test_base32_and_hex_digests_are_both_understood():
    body = b"x"
    raw = hashlib.sha256(body).digest()
    for written in (raw.hex(), base64.b32encode(raw).decode(), base64.b32encode(raw).decode().rstrip("=").lower()):
        assert digest_matches(f"sha256:{written}", [body]) is True
        assert digest_matches(f"SHA-256:{written}", [b"y"]) is False
    assert digest_matches("", [body]) is None and digest_matches("crc7:00", [body]) is None
    assert digest_matches("sha1:!!", [body]) is None


def test_a_digest_of_any_form_of_the_body_is_right():
    digest = f"md5:{hashlib.md5(b'plain').hexdigest()}"
    assert digest_matches(digest, [b"sent", b"plain"]) is True
    assert digest_matches(digest, iter([b"plain", b"sent"])) is True
    assert digest_matches(digest, [b"sent", b"unpacked"]) is False
