"""A list of 1e8 entries and more, indexed once: sorted hashes in a file that every process of a node maps, so that it
is opened in no time and takes no memory of its own.

    NAME.keys   magic, a JSON line ({"of", "entries", "version"}), zeros up to 4096 bytes, then uint64 [entries] that
                rise, little-endian: the first halves of 16 bytes of BLAKE2b of each form (sets.py); then the others

Made in bounded memory: hashes are dealt into 256 files by their first byte, and each is sorted by itself. An entry that
stands there twice is one.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curation.methods.lists.entries import entry_batches
from curation.methods.lists.forms import Of, forms_of
from curation.methods.lists.sets import KeySet, keys
from pipeline import storage
from pipeline.errors import RecipeError

SUFFIX = ".keys"
_MAGIC, _HEADER, _VERSION = b"clipmill keys\n", 4096, 1
_FILES = 256
_HINT = "clipmill index-list LIST INDEX.keys --of url"


class Indexed(NamedTuple):
    """entries: different ones in the index; read: lines with an entry; skipped: those that are no such entry, the first
    of them in line `first`."""

    entries: int
    read: int
    skipped: int
    first: int


def index_list(path: str, to: str, of: Of, column: str | None, skip: bool) -> Indexed:
    """Writes the index `to` of the list `path`. RecipeError naming the line of what is no entry, unless `skip`."""
    if not to.endswith(SUFFIX):
        raise RecipeError(to, "is no name of an index", f"expected a name that ends in {SUFFIX}", _HINT)
    if of == "phash":
        raise RecipeError("--of", "perceptual hashes are found by radius", "expected url, domain or sha256", "")
    read, bad, first = 0, 0, 0
    with storage.publish(to) as target, tempfile.TemporaryDirectory(dir=Path(target).parent) as folder:
        names = [Path(folder, f"{number:03d}") for number in range(_FILES)]
        spills = [open(name, "wb") for name in names]
        try:
            for begun, some in entry_batches(path, column, "LIST"):
                forms = forms_of(of, some)
                for at, form in enumerate(forms):
                    if form is None:
                        bad, first = bad + 1, first or begun + at
                        if not skip:
                            said = f"{storage.shown(path)}, line {begun + at}: {some[at]!r:.80}"
                            raise RecipeError("LIST", said, f"expected an entry of the kind {of}", "--skip-malformed")
                there = [form for form in forms if form]
                read += len(there)
                _deal(keys(there), spills)
        finally:
            for spill in spills:
                spill.close()
        num = _write(Path(target), of, names)
    return Indexed(num, read, bad, first)


def _deal(hashes: np.ndarray, spills: list[Any]) -> None:
    number = (hashes[:, 0] >> np.uint64(56)).astype(np.int64)
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(_FILES + 1))
    for at, spill in enumerate(spills):
        if edges[at] < edges[at + 1]:
            spill.write(hashes[order[edges[at] : edges[at + 1]]].tobytes())


def _write(target: Path, of: Of, names: list[Path]) -> int:
    """The index of what was dealt; returns how many entries it has."""
    num, seconds = 0, target.with_name(target.name + ".halves")
    with open(target, "wb") as file, open(seconds, "wb+") as others:
        file.write(bytes(_HEADER))
        for name in names:
            both = np.frombuffer(name.read_bytes(), "<u8").reshape(-1, 2)
            order = np.lexsort((both[:, 1], both[:, 0]))
            both = both[order]
            new = np.ones(len(both), bool)
            new[1:] = (both[1:] != both[:-1]).any(axis=1)
            file.write(np.ascontiguousarray(both[new, 0]).tobytes())
            others.write(np.ascontiguousarray(both[new, 1]).tobytes())
            num += int(new.sum())
            name.unlink()
        others.seek(0)
        for data in _chunks(others):
            file.write(data)
        said = json.dumps({"of": of, "entries": num, "version": _VERSION}).encode()
        file.seek(0)
        file.write(_MAGIC + said + b"\n")
    seconds.unlink()
    return num


def _chunks(file: Any) -> Iterator[bytes]:
    while data := file.read(1 << 24):
        yield data


def opened(path: str, of: Of, where: str) -> KeySet:
    """The index as a set, mapped. RecipeError when it is of another kind, damaged, or not on a disk that is here."""
    local = storage.local_path(path)
    if local is None:
        found = f"{storage.shown(path)} is in a store, and an index is mapped"
        raise RecipeError(where, found, "expected it on a disk that every node reaches", "copy it there")
    with open(local, "rb") as file:
        head = file.read(_HEADER)
    plain = head.removeprefix(_MAGIC).split(b"\n")[0]
    said = storage.json_object(plain) if head.startswith(_MAGIC) else None
    size = Path(local).stat().st_size
    if not said or said.get("version") != _VERSION or size != _HEADER + 16 * int(said.get("entries", -1)):
        raise RecipeError(where, f"{path} is no whole index of this version", "expected one", _HINT)
    if said["of"] != of:
        raise RecipeError(where, f"{path} is an index of {said['of']}", f"expected one of {of}", f"of: {said['of']}")
    num = said["entries"]
    if not num:
        return KeySet([])
    halves = np.memmap(local, "<u8", "r", _HEADER, (2, num))
    return KeySet.of_sorted(halves[0], halves[1])
