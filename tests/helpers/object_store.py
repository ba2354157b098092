"""An object store whose every write can be counted, cut off or held up: what two runs on one output can do to it.

The store is fsspec's memory://. A write is a PUT or a removal; after each of them the oracle looks at the dataset with
json and hashlib alone: a manifest that is there must describe the bytes that are there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fsspec.implementations.memory import MemoryFileSystem


class Cut(BaseException):
    """The run is killed: no clean-up of ours may catch it."""


def snapshot() -> tuple[dict, list]:
    return dict(MemoryFileSystem.store), list(MemoryFileSystem.pseudo_dirs)


def restore(state: tuple[dict, list]) -> None:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.store.update(state[0])
    MemoryFileSystem.pseudo_dirs[:] = state[1]


def files(folder: str) -> dict[str, bytes]:
    """Name -> bytes of what is below /`folder`."""
    prefix = f"/{folder.strip('/')}/"
    return {n[len(prefix) :]: f.getvalue() for n, f in MemoryFileSystem.store.items() if n.startswith(prefix)}


def lie(folder: str) -> str:
    """What a manifest in `folder` says that is not so, or ""."""
    found = files(folder)
    if "manifest.json" not in found:
        return ""
    for entry in json.loads(found["manifest.json"])["shards"]:
        index = f"index/{entry['name'].removesuffix('.tar')}.parquet"
        for name, sha256 in ((entry["name"], entry["sha256"]), (index, entry["index_sha256"])):
            if name not in found or hashlib.sha256(found[name]).hexdigest() != sha256:
                return f"{name} is {'missing' if name not in found else 'other bytes'}"
    return ""


@contextmanager
def watched(before: Callable[[int, str], None], after: Callable[[str], None] = lambda name: None) -> Iterator[None]:
    """Calls `before(number, name)` before the write `number` of this run to the store, and `after(name)` behind it.

    Whatever runs inside `before` is not counted.
    """
    count, inside = [0], [False]

    def around(real, at):
        def write(self, *args, **more):
            if inside[0]:
                return real(self, *args, **more)
            name = str(args[at])
            inside[0] = True
            try:
                before(count[0], name)
            finally:
                inside[0] = False
            count[0] += 1
            result = real(self, *args, **more)
            after(name)
            return result

        return write

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", around(MemoryFileSystem.put_file, 1))
        patch.setattr(MemoryFileSystem, "rm", around(MemoryFileSystem.rm, 0))
        yield
