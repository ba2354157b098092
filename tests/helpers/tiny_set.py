"""Evaluation sets in clip_benchmark's layout that share something with the pairs of `rich_pairs`."""

import functools
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.pairs import encoded, picture
from tests.helpers.rich_pairs import TEXTS, rich
from tests.helpers.tars import tar_bytes


def write(folder: Path, rows: list[tuple[bytes, str]]) -> Path:
    """(image, captions one a line) -> <folder>/test/0.tar."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    members = []
    for at, (image, text) in enumerate(rows):
        suffix = "png" if image.startswith(b"\x89PNG") else "jpg"
        members += [(f"s{at:07d}.{suffix}", image), (f"s{at:07d}.txt", text.encode())]
    (folder / "test/0.tar").write_bytes(tar_bytes(members))
    (folder / "test/nshards.txt").write_text("1")
    return folder


@functools.cache
def kept(number: int) -> str:
    """Lasts as long as the process."""
    _, images = rich()
    again = [encoded(Image.open(io.BytesIO(images[at])).convert("RGB"), "JPEG", quality=60) for at in (4, 9)]
    rows = [(images[number], TEXTS[6]), (again[number], "a picture"), (encoded(picture(99 + number)), TEXTS[0])]
    return str(write(Path(tempfile.mkdtemp(prefix="tiny-set-")), rows))


@functools.cache
def vectors(width: int, num: int = 5) -> str:
    """A file of some vectors."""
    path = Path(tempfile.mkdtemp(prefix="tiny-vectors-")) / "reference.npy"
    np.save(path, np.random.default_rng(7).normal(size=(num, width)).astype(np.float32))
    return str(path)
