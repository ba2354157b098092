"""Zstandard read as frames, as crawlers write `.warc.zst`: a frame a record, perhaps with a dictionary of the file.

The dictionary lies in a skippable frame of its own at the front of the file, as it is or packed itself (Zstandard
Compression for WARC Files, IIPC). Files that were joined may have several: one counts until the next.
"""

import re
from typing import ClassVar, Self

import zstandard

from curation.sources.warc.members import VERSION, Members
from pipeline.storage.window import Window

MAGIC = b"\x28\xb5\x2f\xfd"
DICTIONARY = b"\x5d\x2a\x4d\x18"
_TRAINED = b"\x37\xa4\x30\xec"  # what a dictionary starts with
_CANDIDATE = re.compile(re.escape(MAGIC) + b"|" + re.escape(DICTIONARY))
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_HEADER = 18  # bytes of a frame's header at most
_BLOCK = 128 << 10  # bytes of a block at most, packed and unpacked
_RUN, _RESERVED = 1, 3  # kinds of blocks
WINDOW = 128 << 20  # bytes that a frame may look back: what the library itself allows by default
DICTIONARY_BYTES = 32 << 20
_BOMB_BYTES, _BOMB_RATIO = 64 << 20, 1000  # a frame that unpacks to more than both is not read on: gzip cannot either
_SCAN = 1 << 20
_FIRST_BLOCKS = 8  # of a frame that may be empty before its content begins
_VAIN = 16  # bytes that are tried in vain for each that is scanned


class Dictionaries:
    """Those of one file, each read when it is first asked for. A dictionary is known by the offset of its frame; 0 is
    none where the file does not begin with one."""

    def __init__(self, file: Window) -> None:
        self._file, self._known = file, dict[int, zstandard.ZstdCompressionDict | None]()

    def at(self, offset: int) -> zstandard.ZstdCompressionDict | None:
        if offset not in self._known:
            if len(self._known) > 1:
                del self._known[next(iter(self._known))]
            content = self._content(offset)
            self._known[offset] = zstandard.ZstdCompressionDict(content) if content else None
        return self._known[offset]

    def _content(self, offset: int) -> bytes:
        """b"" where no sound dictionary is."""
        head = self._file.read(offset, 8)
        size = int.from_bytes(head[4:], "little")
        if not head.startswith(DICTIONARY) or size > DICTIONARY_BYTES:
            return b""
        content = self._file.read(offset + 8, size)
        if content.startswith(MAGIC):
            try:
                reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(content)
                content = reader.read(DICTIONARY_BYTES + 1)
            except zstandard.ZstdError:
                return b""
        return content if content.startswith(_TRAINED) and len(content) <= DICTIONARY_BYTES else b""

    def after(self, known: int, met: int) -> int:
        """The dictionary that counts behind the frame `met`: an equal one keeps its name, so that it does not matter
        where in a file reading began; what is none changes nothing."""
        new, old = self.at(met), self.at(known)
        if new is None or old is not None and new.as_bytes() == old.as_bytes():
            return known
        return met


class Unzstd(Members):
    """The content of zstd frames; `dictionary` counts at `offset`."""

    magic: ClassVar[bytes] = MAGIC

    def __init__(self, file: Window, offset: int, dictionaries: Dictionaries, dictionary: int) -> None:
        super().__init__(file, offset)
        self._dictionaries = dictionaries
        self._counting = [(offset, dictionary)]  # from where which dictionary counts
        self._is_within = self._has_checksum = False
        self._unpack: zstandard.ZstdDecompressionObj | None = None

    def dictionary_at(self, offset: int) -> int:
        """The dictionary of a frame at `offset`, up to which was read."""
        return next((name for at, name in reversed(self._counting) if at <= offset), self._counting[0][1])

    def _is_open(self) -> bool:
        return self._is_within

    def _open(self, head: bytes) -> bool:
        while int.from_bytes(head, "little") in SKIPPABLE and len(head) == len(MAGIC):
            size = self._file.read(self.reached + len(head), 4)
            end = self.reached + 8 + int.from_bytes(size, "little")
            if len(size) < 4 or end > self._file.size:
                self._stop("truncated_file", self.reached)
                return False
            if head == DICTIONARY:
                counts = self._dictionaries.after(self._counting[-1][1], self.reached)
                if counts != self._counting[-1][1]:
                    self._counting.append((self.reached, counts))
            self.reached = end
            head = self._file.read(self.reached, len(MAGIC))
        self._member_at = self.reached
        if head != MAGIC:
            if head and MAGIC.startswith(head):
                self._stop("truncated_file", self.reached)
            return False
        try:
            self._begin()
        except zstandard.ZstdError:
            cut = self.reached + _HEADER > self._file.size
            self._stop("truncated_file" if cut else "damaged_record", self._member_at)
            return False
        self._is_within = True
        return True

    def _begin(self) -> None:
        """Reads the header of the frame at `_member_at`. Raises ZstdError."""
        head = self._file.read(self._member_at, _HEADER)
        self._has_checksum = zstandard.get_frame_parameters(head).has_checksum
        size = zstandard.frame_header_size(head)
        words = self._dictionaries.at(self.dictionary_at(self._member_at))
        unpacker = zstandard.ZstdDecompressor(dict_data=words, max_window_size=WINDOW)
        self._unpack = unpacker.decompressobj(write_size=_BLOCK)
        self._unpack.decompress(head[:size])
        self.reached = self._member_at + size

    def _step(self, count: int) -> bytes:
        if self._unpack is None:
            self._resume()
        try:
            data, is_last = self._block()
        except zstandard.ZstdError:
            self._stop("damaged_record", self._member_at)
            return b""
        except EOFError:
            self._stop("truncated_file", self._member_at)
            return b""
        self._given += len(data)
        if is_last:
            self._is_within, self._unpack, self.verified = False, None, self._given
        elif self.wasted > max(_BOMB_BYTES, _BOMB_RATIO * (self.reached - self._member_at)):
            self.give_up()
        return data

    def begins(self) -> bytes:
        """What the first frame begins with, as far as a few blocks of it say; b"" where none can be read."""
        data, left = b"", _FIRST_BLOCKS if self._open_member() else 0
        while left and self._is_within and not self.damage and len(data) < len(VERSION):
            data, left = data + self._step(0), left - 1
        return data

    def _block(self) -> tuple[bytes, bool]:
        """One block unpacked, and whether it is the last. Blocks are fed one by one, since the library bounds neither
        what it unpacks at once nor what it takes behind the end of a frame. Raises ZstdError, or EOFError."""
        assert self._unpack is not None
        head = int.from_bytes(self._file.read(self.reached, 3), "little")
        is_last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        if self.reached + 3 > self._file.size:
            raise EOFError
        if kind == _RESERVED or size > _BLOCK:
            raise zstandard.ZstdError("no block")
        taken = 3 + (1 if kind == _RUN else size) + (4 if is_last and self._has_checksum else 0)
        fed = self._file.read(self.reached, taken)
        if len(fed) < taken:
            raise EOFError
        data = self._unpack.decompress(fed)
        if is_last and not self._unpack.eof:
            raise zstandard.ZstdError("no end")
        self.reached += taken
        return data, is_last

    def _resume(self) -> None:
        """Goes where the stream was whose twin this is: a frame is unpacked from its start only."""
        where, self.repeats = self.reached, 0
        self._begin()
        while self.reached < where:
            self._block()

    def twin(self) -> Self:
        other = super().twin()
        other._counting = list(self._counting)
        if self._is_within:
            other._unpack, other.repeats = None, self.wasted
        return other


def lacks_dictionary(file: Window) -> bool:
    """Whether the file begins with a frame that was written with a dictionary, and not with that."""
    try:
        return zstandard.get_frame_parameters(file.glance(0, _HEADER)).dict_id > 0
    except zstandard.ZstdError:
        return False


def next_frame(
    file: Window, offset: int, end: int, dictionaries: Dictionaries, dictionary: int, or_dictionary: bool
) -> int:
    """The offset of the first frame in [offset, end) whose content begins like a record, or (`or_dictionary`) of the
    first dictionary; else `end`. Frames that begin inside one that was tried in vain are tried while that is cheap."""
    vain = tried = 0
    for block_at in range(offset, end, _SCAN):
        block = file.read(block_at, _SCAN + len(MAGIC) - 1)
        for match in _CANDIDATE.finditer(block):
            at = block_at + match.start()
            if at >= min(end, block_at + _SCAN):
                break
            if match[0] == DICTIONARY:
                if or_dictionary and dictionaries.at(at) is not None:
                    return at
                continue
            if at < tried and vain > _VAIN * (at - offset):
                continue
            frame = Unzstd(file, at, dictionaries, dictionary)
            if frame.begins().startswith(VERSION):
                return at
            tried = max(tried, frame.reached)
            vain += _BLOCK
    return end
