"""What a file that is called a text table begins with, where it is none: said before any row is made of it."""

from collections.abc import Iterator

from pipeline.errors import DataError

_LOOKED_AT = 64 << 10
_PACKED = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst")}
_OTHERS = {b"PAR1": "a parquet file", b"PK\x03\x04": "a zip archive (or a workbook)", b"\xd0\xcf\x11\xe0": "a workbook"}


def checked(blocks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """The blocks of a text table from its first byte on. DataError when they are no text, or in another encoding."""
    first = next(blocks, b"")
    _check(first[:_LOOKED_AT], where)
    yield first
    yield from blocks


def _check(front: bytes, where: str) -> None:
    for magic, (name, ending) in _PACKED.items():
        if front.startswith(magic):
            raise DataError(where, f"bytes packed by {name}", "text", f"name the file NAME{ending}, or unpack it")
    for magic, name in _OTHERS.items():
        if front.startswith(magic):
            raise DataError(where, name, "text", "set `format` of this source, or export it as csv or parquet")
    encoding = _wide(front)
    if encoding:
        raise DataError(where, f"text in {encoding}", "UTF-8", f"iconv -f {encoding} -t UTF-8 FILE > NEW")
    if b"\n" not in front and front.count(b"\r") > 1:
        found = "lines that end in a carriage return alone"
        raise DataError(where, found, "line feeds", "tr '\\r' '\\n' < FILE > NEW")


def _wide(front: bytes) -> str:
    """UTF-16 or UTF-32, by its mark, or by the zeros beside letters."""
    if front.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if front.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    even, odd, half = front[::2].count(0), front[1::2].count(0), len(front) // 2
    if half < 4 or max(even, odd) < 0.4 * half or min(even, odd) > 0.1 * half:
        return ""
    return "UTF-16LE" if odd > even else "UTF-16BE"
