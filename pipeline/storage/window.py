"""One file read front to back in large blocks, with few steps back, at any place."""

from pipeline.errors import DataError
from pipeline.storage.address import shown
from pipeline.storage.files import RangeReader, size

READ_AHEAD = 4 << 20  # bytes


class Window:
    """where: the file as messages show it; size: its bytes."""

    def __init__(self, url: str) -> None:
        self.where, self.size = shown(url), size(url)
        self._reader, self._start, self._block = RangeReader(url), 0, b""

    def read(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start`; fewer only at the end of the file."""
        end = min(start + count, self.size)
        if start >= end:
            return b""
        if start < self._start or end > self._start + len(self._block):
            self._start, self._block = start, self._reader.read(start, min(self.size, max(end, start + READ_AHEAD)))
        return self._block[start - self._start : end - self._start]

    def glance(self, start: int, count: int) -> bytes:
        """As `read`, for a few bytes far away: the window stays where it is."""
        end = min(start + count, self.size)
        if start >= end:
            return b""
        if self._start <= start and end <= self._start + len(self._block):
            return self._block[start - self._start : end - self._start]
        return self._reader.read(start, end)

    def exactly(self, start: int, count: int) -> bytes:
        """`count` bytes from `start`. Raises DataError when the file ends before."""
        if start + count > self.size:
            found, expected = f"the file ends at byte {self.size}", f"at least {start + count} bytes: it is cut"
            raise DataError(f"{self.where} at byte {start}", found, expected, "copy or make this file again")
        return self.read(start, count)
