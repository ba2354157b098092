"""An HTTP response as a crawler stored it: status, fields, and the body with its codings undone under a size cap."""

import codecs
import re
import zlib
from dataclasses import dataclass

import brotli

from curation.sources.warc.framing import header_fields

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?: |\r|\n|$)")
_HEAD_BYTES = 64 << 10
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
_MAX_CODINGS = 3
_STEP, _FIRST_STEP = 1 << 16, 1 << 9  # bytes given to a decoder at once
_PLAIN = (b"<", b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # how pages and images begin that are in no coding
_MAX_MEMBERS = 1 << 14  # of a gzip body: an honest one that is flushed every few KiB stays below


class Unusable(Exception):
    """The body cannot be had; `reason` is counted: bad_http too_big short_body bad_encoding unknown_encoding."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    fields: list[tuple[str, str]]  # lower-case name, value
    raw: bytes  # the body as it was sent

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name and value]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")


def parse_response(block: bytes) -> Response | None:
    """None when the block is no HTTP response."""
    status = _STATUS.match(block)
    crlf, lf = block.find(b"\r\n\r\n", 0, _HEAD_BYTES), block.find(b"\n\n", 0, _HEAD_BYTES)
    if status is None or (crlf < 0 and lf < 0 and len(block) > _HEAD_BYTES):
        return None
    if crlf >= 0 and (lf < 0 or crlf < lf):
        head, body = block[:crlf], block[crlf + 4 :]
    else:
        head, body = (block[:lf], block[lf + 2 :]) if lf >= 0 else (block, b"")
    return Response(int(status[1]), header_fields(head), body)


def bodies(response: Response, cap: int) -> list[bytes]:
    """The body as sent, then without chunks, then without its codings; the last one is the content. Raises Unusable."""
    forms = [response.raw]
    if "chunked" in response.first("transfer-encoding").lower() and _CHUNK_LINE.match(response.raw):
        forms.append(_dechunk(response.raw, cap))  # else the crawler has already joined the chunks
    codings = [word.strip().lower() for value in response.all("content-encoding") for word in value.split(",")]
    codings = [word for word in codings if word not in ("", "identity")]
    if len(codings) > _MAX_CODINGS:
        raise Unusable("bad_encoding")
    if not codings and len(forms) == 1:
        length = response.first("content-length")
        if length.isascii() and length.isdigit() and len(length) < 16 and int(length) > len(response.raw):
            raise Unusable("short_body")
    for word in reversed(codings):
        forms.append(_decode(forms[-1], word, cap))
    if len(forms[-1]) > cap:
        raise Unusable("too_big")
    return forms


def _dechunk(raw: bytes, cap: int) -> bytes:
    whole, at = bytearray(), 0
    while True:
        line = _CHUNK_LINE.match(raw, at)
        if line is None:
            raise Unusable("bad_http")
        size = int(line[1], 16)
        if size == 0:
            return bytes(whole)
        if line.end() + size > len(raw):
            raise Unusable("bad_http")
        if len(whole) + size > cap:
            raise Unusable("too_big")
        whole += raw[line.end() : line.end() + size]
        at = line.end() + size
        if raw.startswith(b"\r\n", at):
            at += 2
        elif raw.startswith(b"\n", at):
            at += 1
        else:
            raise Unusable("bad_http")


def _decode(data: bytes, coding: str, cap: int) -> bytes:
    """One coding undone; data that is not in the coding it claims is taken as decoded by the crawler already."""
    if coding in ("gzip", "x-gzip"):
        return _inflate(data, 31, cap) if data.startswith(b"\x1f\x8b") else data
    if coding == "deflate":
        zlib_header = len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        if not zlib_header and _is_plain(data):
            return data
        return _inflate(data, 15 if zlib_header else -15, cap)
    if coding == "br":
        return _unbrotli(data, cap)
    raise Unusable("unknown_encoding")


def _is_plain(data: bytes) -> bool:
    return data.removeprefix(codecs.BOM_UTF8).lstrip().startswith(_PLAIN)


def _inflate(data: bytes, wbits: int, cap: int) -> bytes:
    """All members of a body, fed piece by piece: what zlib hands back unused is copied, at worst a piece a member."""
    out, at, members, step = bytearray(), 0, 0, _FIRST_STEP
    inflate = zlib.decompressobj(wbits=wbits)
    while True:
        fed = data[at : at + step]
        try:
            out += inflate.decompress(fed, cap + 1 - len(out))
        except zlib.error as error:
            raise Unusable("bad_encoding") from error
        if len(out) > cap:
            raise Unusable("too_big")
        at += len(fed) - len(inflate.unused_data if inflate.eof else inflate.unconsumed_tail)
        if not inflate.eof:
            if not fed:
                raise Unusable("short_body")
            step = min(2 * step, _STEP)
        elif wbits == 31 and data.startswith(b"\x1f\x8b", at):
            members, step = members + 1, _FIRST_STEP
            if members >= _MAX_MEMBERS:
                raise Unusable("bad_encoding")
            inflate = zlib.decompressobj(wbits=wbits)
        else:
            return bytes(out)


def _unbrotli(data: bytes, cap: int) -> bytes:
    decompressor, pieces, left = brotli.Decompressor(), [], cap
    try:
        pieces.append(decompressor.process(data, output_buffer_limit=_STEP))
        while not decompressor.is_finished():
            left -= len(pieces[-1])
            if left < 0:
                raise Unusable("too_big")
            if not pieces[-1] and decompressor.can_accept_more_data():
                raise Unusable("short_body")
            pieces.append(decompressor.process(b"", output_buffer_limit=_STEP))
    except (brotli.error, TypeError, Unusable) as error:
        is_cut = isinstance(error, Unusable) and error.reason == "short_body"
        if (is_cut or not isinstance(error, Unusable)) and _is_plain(data):
            return data  # brotli has no mark of its own to be missed
        if isinstance(error, Unusable):
            raise
        # TypeError: an older brotli, which cannot be held to a limit
        raise Unusable("bad_encoding" if isinstance(error, brotli.error) else "unknown_encoding") from error
    return b"".join(pieces)
