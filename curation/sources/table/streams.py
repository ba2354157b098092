"""The bytes of a text table, in blocks: of a plain file from any place, of a packed one from its front."""

import io
from collections.abc import Iterator

import pyarrow as pa

from pipeline import storage
from pipeline.errors import DataError, one_line
from pipeline.storage import RangeReader

BLOCK = 4 << 20
_FEW = 4 << 10
PACKED = {".gz": "gzip", ".zst": "zstd"}


class CutShort(DataError):
    """A packed file ends before its content does. All of that up to there is as it was written, as far as can be told;
    of one that is damaged otherwise nothing before the damage is."""


class RawFile(io.RawIOBase):
    """A file anywhere as Python and pyarrow read one."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._reader, self._size, self._at = RangeReader(url), storage.size(url), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._size, self._at + len(buffer))
        if stop <= self._at:
            return 0
        data = self._reader.read(self._at, stop)
        buffer[: len(data)] = data
        self._at = stop
        return len(data)


def blocks(url: str, packed: str = "", start: int = 0) -> Iterator[bytes]:
    """The unpacked bytes from `start` on. DataError naming file and place where a packed file is damaged, CutShort
    behind the last byte of one that is cut."""
    if not packed:
        raw = RawFile(url)
        raw.seek(start)
        while block := raw.read(BLOCK):
            yield block
        return
    at, fault = 0, Exception()
    for size in (BLOCK, _FEW):  # what a block has before a cut is had by small steps alone
        passed = 0
        try:
            with pa.CompressedInputStream(pa.PythonFile(RawFile(url), "r"), packed) as stream:
                while block := stream.read(size):
                    passed += len(block)
                    if passed > at:
                        new, at = block[len(block) - (passed - at) :], passed
                        yield new
            return
        except (pa.ArrowException, OSError, EOFError) as error:
            fault = error
            if not _is_cut(fault):
                break
    where, found = f"{storage.shown(url)} at unpacked byte {at}", f"no sound {packed} stream: {one_line(fault)}"
    kind = CutShort if _is_cut(fault) else DataError
    raise kind(where, found, "an undamaged file", "copy or make this file again") from fault


def _is_cut(fault: Exception) -> bool:
    return "truncated" in str(fault).lower()
