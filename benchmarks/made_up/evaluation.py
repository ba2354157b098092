"""A made-up evaluation set, with vectors of its pictures. Its texts are some of the first part's."""

import io
import tarfile
from pathlib import Path

import numpy as np

from made_up.pictures import drawing
from made_up.texts import captions

ITEMS = 200


def written_set(folder: Path, width: int) -> Path:
    """As clip_benchmark lays it out; vectors.npy beside it is float32 [item, value]."""
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test/0.tar", "w") as tar:
        for at, text in enumerate(captions(0, ITEMS)):
            for ending, body in (("png", drawing(10**6 + at)), ("txt", text.encode())):
                member = tarfile.TarInfo(f"s{at:07d}.{ending}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
    (folder / "test/nshards.txt").write_text("1")
    np.save(folder / "vectors.npy", np.random.default_rng(7).normal(size=(ITEMS, width)).astype(np.float32))
    return folder
