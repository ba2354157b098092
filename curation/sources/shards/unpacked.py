"""A tar as a window: itself, or where it is packed a copy that lives as long as it is read."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.sources.table.streams import blocks
from pipeline import storage
from pipeline.errors import DataError
from pipeline.storage.window import Window

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2")
# Told by the first bytes, whatever the name is.
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_XZ = b"\xfd7zX"
_MOST_RATIO, _MOST_BYTES = 100, 64 << 20  # images hardly shrink: a shard that unpacks to more than both is none


def sidecar_of(path: str, suffix: str) -> str:
    """The file that is called as the tar, but for its ending."""
    return next((path.removesuffix(own) for own in reversed(SUFFIXES) if path.endswith(own)), path) + suffix


@contextmanager
def unpacked(path: str) -> Iterator[tuple[Window, DataError | None]]:
    """The bytes of the tar, and the damage that a packed one ends in: what is before it is there.

    One that unpacks to far more than a shard does is damaged there. A packed tar takes its size on the local disk.
    """
    window = Window(path)
    head = window.glance(0, 4)
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    if head.startswith(_XZ):
        hint = "unpack it, or pack it by gzip or zstd"
        raise DataError(storage.shown(path), "a tar packed by xz", "one packed by gzip, bzip2 or zstd, or not", hint)
    if not packed:
        yield window, None
        return
    with tempfile.TemporaryDirectory(prefix="clipmill-shard-") as folder:
        copy, fault, most = Path(folder) / "unpacked.tar", None, max(_MOST_BYTES, _MOST_RATIO * window.size)
        with open(copy, "wb") as file:
            try:
                for block in blocks(path, packed):
                    if file.write(block) and file.tell() > most:
                        break
            except DataError as error:
                fault = error
            if file.tell() > most:
                found = f"unpacks to more than {most} bytes, {_MOST_RATIO} times its size"
                fault = DataError(storage.shown(path), found, "a tar of images", "take it out of `paths`")
        inside = Window(str(copy))
        inside.where = f"{window.where}, unpacked"
        yield inside, fault
