"""A WARC file as it was written: plain, of gzip members or of zstd frames; and streams of its bytes from any place."""

from curation.sources.warc import gunzip, unzstd
from curation.sources.warc.gunzip import Gunzip
from curation.sources.warc.members import VERSION, Plain, Stream
from curation.sources.warc.unzstd import Dictionaries, Unzstd
from pipeline import storage
from pipeline.errors import DataError
from pipeline.storage.window import Window

_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}


class Opened:
    """packed: "", "gzip" or "zstd". Raises DataError when it is none of these."""

    def __init__(self, path: str) -> None:
        self.file = Window(path)
        head = self.file.glance(0, len(VERSION))
        if head.startswith(gunzip.MAGIC):
            self.packed = "gzip"
        elif head.startswith(unzstd.MAGIC) or int.from_bytes(head[:4], "little") in unzstd.SKIPPABLE:
            self.packed = "zstd"
        elif head == VERSION:
            self.packed = ""
        else:
            other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), "")
            found = f"is compressed with {other}" if other else f"starts with {head!r}" if head else "is empty"
            raise no_warc(path, found)
        self._dictionaries = Dictionaries(self.file)

    def stream(self, offset: int, dictionary: int) -> Stream:
        """`dictionary`: the one that counts at `offset`, by the offset of its frame."""
        if self.packed == "zstd":
            return Unzstd(self.file, offset, self._dictionaries, dictionary)
        return Gunzip(self.file, offset) if self.packed else Plain(self.file, offset)

    def next_member(self, offset: int, end: int, dictionary: int, is_lost: bool = False) -> int:
        """The offset of the first member in [offset, end) whose content begins like a record; else `end`, or the
        file's. `is_lost`: or that of what must be known to read on, a dictionary."""
        end = min(end, self.file.size)
        if self.packed == "zstd":
            return unzstd.next_frame(self.file, offset, end, self._dictionaries, dictionary, is_lost)
        return gunzip.next_member(self.file, offset, end)


def no_warc(path: str, found: str) -> DataError:
    hint = "copy it again or take it out of `paths`"
    return DataError(storage.shown(path), found, "a WARC file, plain, gzip or zstd", hint)
