"""Digests as WARC headers state them, in the spellings that crawlers use."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

_BASE32 = re.compile("[A-Za-z2-7]{32}")
_TO_INT = {
    ord(letter): "0123456789abcdefghijklmnopqrstuv"[at] for at, letter in enumerate("abcdefghijklmnopqrstuvwxyz234567")
}
_DIGESTS = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}  # bytes


def digest_matches(written: str, forms: Iterable[bytes]) -> bool | None:
    """Whether a WARC digest (`sha1:BASE32`, hex, ...) is of one of `forms`; None when it cannot be told."""
    name, _, value = written.partition(":")
    name = name.strip().lower().replace("-", "")
    size = _DIGESTS.get(name)
    if size is None:
        return None
    expected = _digest_bytes(value.strip(), size)
    if expected is None:
        return None
    return any(hashlib.new(name, form, usedforsecurity=False).digest() == expected for form in forms)


def named(written: str, body: bytes) -> str:
    """16 hex naming the payload that a WARC digest is of, in whatever spelling; of `body` where there is none."""
    name, _, value = written.partition(":")
    name = name.strip().lower().replace("-", "")
    content = _digest_bytes(value.strip(), _DIGESTS[name]) if name in _DIGESTS else None
    if content is None and body:
        name, content = "sha1", hashlib.sha1(body, usedforsecurity=False).digest()
    return hashlib.blake2b(name.encode() + content, digest_size=8).hexdigest() if content else ""


def _digest_bytes(text: str, size: int) -> bytes | None:
    if len(text) > 2 * size:
        return None
    if size == 20 and _BASE32.fullmatch(text):  # as most crawlers write it; the library's reader is a loop in Python
        return int(text.lower().translate(_TO_INT), 32).to_bytes(20, "big")
    readers = (bytes.fromhex, lambda value: base64.b32decode(value.upper() + "=" * (-len(value) % 8)), base64.b64decode)
    for reader in readers:
        try:
            found = reader(text)
        except (ValueError, binascii.Error):
            continue
        if len(found) == size:
            return found
    return None
