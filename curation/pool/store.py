"""The pool: what was read from the inputs, once, for every later job. One folder per part:

    <pool>/parts/<part id>/images.tar           bodies, each distinct one once, or what it was shrunk to; by sha256
    <pool>/parts/<part id>/images.parquet       schemas.IMAGES sorted by uid
    <pool>/parts/<part id>/occurrences.parquet  schemas.OCCURRENCES sorted by uid
    <pool>/parts/<part id>/part.json            counts, a sample of uids; written last: it is there, the part is done

Of a file that was read in ranges each has a folder as above, named by the file and the range; the part's own folder has
only part.json, with their names and counts.

A part is a pure function of the input and the source's settings, so two processes that write the same one write the
same bytes, and a part cut off half way is simply written again. <pool>/columns/ belongs to curation/pool/columns.py,
<pool>/joined/ to curation/runner/joined.py.
"""

import hashlib
import tarfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Lock
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from curation.images.shrink import ShrinkSettings, shrunk
from curation.pool.rows import Rows
from curation.table import schemas, uids
from curation.table.stored import Stored
from pipeline import storage
from pipeline.errors import DataError, StorageError
from pipeline.images.formats import image_format

VERSION = 2  # raise it when a part would hold other files or columns for the same input: no older one is used then
ROWS = ("occurrences", "images_stored", "images_bad")
"""The counts of a part that say how many rows its tables have."""
_STATE = "part.json"
_BLOCK = 512
FETCHED = "fetched-"
"""How the names of parts begin that were downloaded, and read from no input (curation/fetch/)."""
REDIRECTS = "redirects"
"""The count of a part's redirects in `part_counts`; absent when it has none."""


def part_folder(pool: str, part: str) -> str:
    return storage.join(pool, "parts", part)


def part_counts(pool: str, part: str) -> dict[str, int] | None:
    """The counts of a finished part; None when it is not finished."""
    state = storage.read_state(storage.join(part_folder(pool, part), _STATE))
    return None if state is None else state["counts"]


def part_sample(pool: str, part: str) -> list[tuple[list[str], int]]:
    """Of each table of a finished part some uids, ascending, and how many rows it has; of a part that was read before
    there were samples none."""
    state = storage.read_state(storage.join(part_folder(pool, part), _STATE)) or {}
    return [(some["uids"], some["rows"]) for _, some in sorted(state.get("sample", {}).items())]


def sound_part(pool: str, part: str) -> tuple[dict[str, Any] | None, str]:
    """The state of a finished part whose files, and those of its pieces, are as they were written; else None. What is
    damaged is undone, and told."""
    folder = part_folder(pool, part)
    url = storage.join(folder, _STATE)
    if not storage.exists(url):
        return None, ""
    state = storage.read_state(url, quiet=True)
    if state is None:
        faults = [f"{_STATE}: damaged"]
    else:
        faults = storage.faults_of(folder, state["files"])
        for piece in state.get("pieces", {}):
            sound, fault = sound_part(pool, piece)
            faults += [f"{piece}: {fault or 'missing'}"] if sound is None else []
    if faults:
        storage.remove(url)
        return None, "; ".join(faults)
    return state, ""


def first_bad(pool: str, part: str) -> dict[str, str]:
    """Reason -> where in the input the first bad record of that reason stands, as far as a finished part tells."""
    return (storage.read_state(storage.join(part_folder(pool, part), _STATE)) or {}).get("first_bad", {})


def publish_pieces(pool: str, part: str, counts: Mapping[str, int], pieces: Mapping[str, Mapping[str, int]]) -> None:
    """Publishes a part that was read in ranges, which are in the pool; `counts` of all, `pieces`: name -> counts, in
    the order of the file."""
    first: dict[str, str] = {}
    for name, each in pieces.items():
        if any(key.startswith(schemas.BAD) for key in each):
            first = first_bad(pool, name) | first
    state = {"part": part, "counts": dict(counts), "pieces": {name: dict(each) for name, each in pieces.items()}}
    state["first_bad"] = first
    storage.publish_state(storage.join(part_folder(pool, part), _STATE), state)


def remove_piece(pool: str, piece: str) -> None:
    """Removes what was read of a range in vain."""
    storage.remove(storage.join(part_folder(pool, piece), _STATE))
    storage.remove(part_folder(pool, piece), recursive=True)


class PoolSink:
    """Takes the occurrences and images of one part. Used as a context manager around Source.ingest:

        with PoolSink(pool, part.id) as sink:
            counts = source.ingest(part, sink)
            sink.finish(counts)

    Leaving without `finish` (an exception, say) leaves no part behind.
    `shrink`: images are kept smaller (curation/images/shrink.py).
    """

    def __init__(self, pool: str, part: str, shrink: ShrinkSettings | None = None) -> None:
        self._folder, self._part, self._shrink = part_folder(pool, part), part, shrink
        self._occurrences = Rows(schemas.OCCURRENCES)
        self._images = Rows(schemas.IMAGES)
        self._places: dict[str, tuple[int, str]] = {}  # sha256 -> offset and `stored` of bodies already in the tar
        self._own: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._stack = ExitStack()
        self._tar: BinaryIO
        self._end = 0

    def __enter__(self) -> "PoolSink":
        path = self._stack.enter_context(storage.publish(storage.join(self._folder, "images.tar")))
        self._tar = self._stack.enter_context(open(path, "wb"))
        return self

    def occurrence(
        self,
        *,
        url: str,
        text: str,
        source: str,
        uid: str = "",
        page_url: str = "",
        page_robots: str = "",
        language: str = "",
        extra: str = "",
    ) -> None:
        """One mention of an image: `url` canonical, `uid` (32 hex) only when the input names one, `extra` JSON."""
        uid = uid or uids.uid_of_url(url)
        row = (url, uid, text, source, page_url, page_robots, language, extra)
        self._occurrences.add(row if all(map(str.isascii, row)) else tuple(map(_clean, row)))
        self._own["occurrences"] += 1

    def image(
        self,
        *,
        url: str,
        body: bytes | None,
        status: int = 200,
        uid: str = "",
        content_type: str = "",
        x_robots_tag: str = "",
        fetched_at: str = "",
        extra: str = "",
        location: str = "",
        payload: str = "",
        problem: str = "",
    ) -> str:
        """One answer to an image url, good or bad; returns its uid.

        The bytes are kept when status is 2xx, they start like an image (pipeline/images/formats.py) and there is no
        `problem`: one of schemas.PROBLEMS that the source has found, such as bytes that are missing at the end.

        `body` is None (or b"") for an error without one. `uid` only when the input names one; else it comes from the
        url, or for a stored image without url from the bytes. `status` is 0 when it is not known. `location` is the
        canonical url that a redirect names, or (problem REVISIT, status 0) a revisit: the join gives its image to the
        mentions of `url`, a revisit's only where its `payload` is the same.
        """
        if problem and problem not in schemas.PROBLEMS:
            raise ValueError(f"problem {problem!r}; expected one of {', '.join(schemas.PROBLEMS)}")
        ext = image_format(body) if body else ""
        keep = bool(ext) and 200 <= status < 300 and not problem
        problem = _problem_of(status, body, problem) if not keep else ""
        sha256 = hashlib.sha256(body).hexdigest() if body and (keep or not url) else None
        if not uid:
            uid = uids.uid_of_url(url) if url or sha256 is None else uids.uid_of_image(sha256)
        offset, size, stored = None, None, ""
        if keep and body and sha256:
            (offset, stored), size = self._store(sha256, ext, body), len(body)
        row = (
            _clean(url),
            uid,
            status,
            _clean(content_type),
            ext,
            sha256 if keep else None,
            self._part,
            offset,
            size,
            _clean(x_robots_tag),
            _clean(fetched_at),
            _clean(extra),
            "" if keep else _clean(location),
            payload if keep or problem == schemas.REVISIT else "",
            problem,
            stored,
        )
        self._images.add(row)
        self._own["images_stored" if keep else "images_bad"] += 1
        if location and not keep:
            self._own[REDIRECTS] += 1
        return uid

    def begin_anew(self) -> None:
        """Forgets all that it was given, by a source that reads its part again in another way."""
        self._occurrences, self._images = Rows(schemas.OCCURRENCES), Rows(schemas.IMAGES)
        for each in (self._places, self._own, self._first):
            each.clear()
        self._tar.seek(0)
        self._tar.truncate()
        self._end = 0

    def bad(self, reason: str, place: str) -> None:
        """Says where in the input a bad record stands. Of each reason the first place is remembered (`first_bad`)."""
        self._first.setdefault(reason, place)

    def _store(self, sha256: str, ext: str, body: bytes) -> tuple[int, str]:
        """The offset of what is kept of a body, and what that is where it is not the body itself."""
        if sha256 in self._places:
            return self._places[sha256]
        small = shrunk(body, self._shrink) if self._shrink is not None else None
        if small is None:
            self._places[sha256] = place = (self._append(f"{sha256}.{ext}", body), "")
            return place
        stored = Stored(hashlib.sha256(small.body).hexdigest(), len(small.body), small.ext, ext, *small.size)
        self._own["images_shrunk"] += 1
        self._own["bytes_saved"] += len(body) - stored.size
        self._places[sha256] = place = (self._append(f"{stored.sha256}.{stored.ext}", small.body), str(stored))
        return place

    def _append(self, name: str, body: bytes) -> int:
        """Adds a member to the tar; returns the offset of its bytes."""
        info = tarfile.TarInfo(name)  # mtime, uid and gid are 0 and the names "": same bodies, same tar
        info.size, info.mode = len(body), 0o644
        header = info.tobuf(tarfile.USTAR_FORMAT)
        padding = bytes(-len(body) % _BLOCK)
        for piece in (header, body, padding):
            self._tar.write(piece)
        offset = self._end + len(header)
        self._end = offset + len(body) + len(padding)
        return offset

    def finish(
        self, counts: dict[str, int], beside: Mapping[str, storage.Note] | None = None, **more: Any
    ) -> dict[str, int]:
        """Publishes the part; `counts` are the source's own (records, pages, bad_records:<reason>, ...), `beside` notes
        of further files in its folder, `more` is kept in its state. Returns these and those of its rows."""
        self._tar.write(bytes(2 * _BLOCK))
        self._stack.close()  # publishes images.tar
        tables = {"images.parquet": self._images, "occurrences.parquet": self._occurrences}
        files: dict[str, storage.Note] = dict(beside or {})
        sample = {}
        for name, rows in tables.items():
            files[name], uids_there = rows.publish(storage.join(self._folder, name))
            sample[name.removesuffix(".parquet")] = {"rows": rows.count, "uids": uids_there}
        tar = storage.join(self._folder, "images.tar")
        files["images.tar"] = {"bytes": storage.size(tar)}  # each image has its own hash
        whole = {**counts, "occurrences": 0, "images_stored": 0, **self._own}
        state = {"part": self._part, "counts": whole, "sample": sample, "first_bad": self._first, **more}
        storage.publish_state(storage.join(self._folder, _STATE), state, files)
        return whole

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
        else:
            unfinished = RuntimeError("a PoolSink was left without finish()")
            self._stack.__exit__(type(unfinished), unfinished, None)  # a no-op after finish()


def _problem_of(status: int, body: bytes | None, found: str) -> str:
    """Why the body of an answer is not kept; "" where the status says it."""
    if not 200 <= status < 300 and status != 0:
        return ""
    return found or ("not_image" if body else "empty")


def _clean(text: str) -> str:
    """Text that every file format can hold: lone surrogates from a broken page become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


class ImagePlace(NamedTuple):
    """Where one image lies in the pool: `size` bytes from `offset` on in the part's images.tar, of that sha256 (hex);
    or what is stored in its place, as `stored` says (curation/table/stored.py)."""

    part: str
    offset: int
    size: int
    sha256: str
    stored: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ImagePlace":
        """That of a row of PAIRS (or of the ledger)."""
        return cls(*(row[name] for name in PLACE))


PLACE = ("image_part", "image_offset", "image_size", "image_sha256", "image_stored")
"""The columns of PAIRS that say it, in that order."""


AHEAD = 32
"""Images of an object store that are asked for before the first has come."""


class ImageReader:
    """Reads stored images of any part; keeps a few files open."""

    def __init__(self, pool: str, most_open: int = 16) -> None:
        self._pool, self._most = pool, most_open
        self._open: dict[str, storage.RangeReader] = {}
        self._lock = Lock()
        self._is_remote = storage.local_path(pool) is None

    def read_all(self, places: Iterable[ImagePlace]) -> Iterator[bytes]:
        """The bytes of each, as `read`; of an object store AHEAD at a time, since each is a wait of its own there."""
        if not self._is_remote:
            yield from map(self.read, places)
            return
        with ThreadPoolExecutor(AHEAD) as threads:
            coming: deque[Future[bytes]] = deque()
            for place in places:
                coming.append(threads.submit(self.read, place))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def read(self, place: ImagePlace) -> bytes:
        """The bytes of one image, checked against its sha256 (hex). DataError naming the file when damaged or cut."""
        part, offset, size, sha256, _ = place
        if stored := Stored.of(place.stored):
            sha256, size = stored.sha256, stored.size
        reader = self._reader(part)
        body = reader.read(offset, offset + size)
        if hashlib.sha256(body).hexdigest() != sha256:
            with suppress(StorageError):  # of a pool that is not for us to write, say
                storage.remove(storage.join(part_folder(self._pool, part), _STATE))  # the part is undone
            hint = "run the same command again: it reads this part again"
            expected = f"the {size} bytes of image {sha256[:12]}"
            raise DataError(f"{storage.shown(reader.url)} at byte {offset}", "is damaged", expected, hint)
        return body

    def _reader(self, part: str) -> storage.RangeReader:
        with self._lock:
            reader = self._open.pop(part, None)
            if reader is None:
                if len(self._open) >= self._most:
                    self._open.pop(next(iter(self._open)))  # the one longest unused; closed with its last user
                reader = storage.RangeReader(storage.join(part_folder(self._pool, part), "images.tar"))
            self._open[part] = reader
            return reader
