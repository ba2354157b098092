"""WARC records and files for tests, byte by byte, so that every field can be right or wrong on purpose."""

import base64
import gzip
import hashlib
import io
from functools import lru_cache

import zstandard
from PIL import Image


def png(number: int = 0) -> bytes:
    """A 2 x 2 PNG, another one for every number."""
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (number % 256, number // 256 % 256, 7)).save(file, "png")
    return file.getvalue()


def sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def http(body: bytes, content_type: str = "image/png", *fields: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *fields])
    return head.encode() + b"\r\n\r\n" + body


def record(url: str, block: bytes, kind: str = "response", **fields: str) -> bytes:
    """One record; `fields` replace or add header fields, with _ for - (None of them is checked)."""
    headers = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": "2026-01-02T03:04:05Z",
        "WARC-Record-ID": f"<urn:uuid:{hashlib.md5(url.encode() + block).hexdigest()}>",
        "WARC-Block-Digest": sha1(block),
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(block)),
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + block + b"\r\n\r\n"


def zipped(*records: bytes) -> bytes:
    """Every record its own gzip member, as crawlers write."""
    return b"".join(gzip.compress(one, mtime=0) for one in records)


def framed(content: bytes, level: int = 3, words: bytes | None = None, has_checksum: bool = True) -> bytes:
    """A zstd frame; `words`: with that dictionary."""
    known = None if words is None else zstandard.ZstdCompressionDict(words)
    return zstandard.ZstdCompressor(level, dict_data=known, write_checksum=has_checksum).compress(content)


@lru_cache
def dictionary(number: int) -> bytes:
    """A trained dictionary, another one for every number."""
    some = [
        record(f"http://{number}.org/{at}", http(bytes([at % 256, number]) * 40, f"image/{number}"))
        for at in range(400)
    ]
    return zstandard.train_dictionary(2000, some, dict_id=number).as_bytes()


def dictionary_frame(words: bytes, packed: bool = False) -> bytes:
    """A dictionary as .warc.zst files begin with it."""
    content = framed(words) if packed else words
    return (0x184D2A5D).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
