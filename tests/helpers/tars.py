"""Tars of every make for tests, written by Python's tarfile and broken by hand."""

import io
import tarfile
from collections.abc import Iterable


def tar_bytes(members: Iterable[tuple[str | tarfile.TarInfo, bytes]], style: int = tarfile.USTAR_FORMAT) -> bytes:
    """Members: (name or TarInfo, payload)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=style) as archive:
        for member, data in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def special(name: str, kind: bytes, target: str = "", **pax: str) -> tarfile.TarInfo:
    """A member of another type than a file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, target, pax
    return info


def header(name: bytes, size: int, kind: bytes = b"0", mark: bytes = b"ustar\x0000") -> bytearray:
    """A header block of any bytes, with a right checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    block[156:157], block[257:265] = kind, mark
    return summed(block)


def summed(block: bytearray) -> bytearray:
    """The block with its checksum made right."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return block


def packed(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    """One member with its padding."""
    return bytes(header(name, len(data), kind)) + data + bytes(-len(data) % 512)
