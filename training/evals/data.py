"""Evaluation sets in clip_benchmark's WebDataset layout, on a local disk or any fsspec URL:

    <path>/<split>/nshards.txt, 0.tar, 1.tar, ...     KEY.{jpg,jpeg,png,webp} with KEY.txt or KEY.cls
    <path>/classnames.txt, zeroshot_classification_templates.txt     one class, one template ("a photo of {c}.") a line

Tars are read by the contract's strict reader: a cut or damaged one is named, never scored in part. What a set holds is
asked for its size before it is read, and refused by name when it is larger than anything of its kind.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.contract.pairs import MAX_MEMBER
from pipeline.contract.samples import IMAGE_SUFFIXES, SampleTar
from pipeline.errors import DataError, RecipeError
from pipeline.images.decoder import Refused
from pipeline.storage.files import exists, join, read_bytes, shown
from pipeline.storage.window import Window
from training.reader.images import ImageSettings, eval_image

if TYPE_CHECKING:
    from torch import Tensor

    from training.ranks.peers import Peers

_THREADS = 8
_MAX_SHARDS = 1_000_000
_NUMBER_BYTES = 64  # of nshards.txt
_LABEL_BYTES = 1 << 20
_LINES_BYTES = 64 << 20  # of classnames.txt or the templates


@dataclass(frozen=True)
class Row:
    """An image's place in a shard, and its label's bytes."""

    shard: str
    key: str
    start: int
    size: int
    label: bytes


def check_set(where: str, path: str, split: str) -> None:
    """RecipeError when there is no set at `path`."""
    if not exists(join(path, split, "nshards.txt")):
        raise RecipeError(
            where,
            f"{path}/{split} has no nshards.txt",
            "an evaluation set in clip_benchmark's layout",
            "give the folder that holds test/nshards.txt",
        )


def open_rows(peers: "Peers", path: str, split: str, label: str) -> list[Row]:
    """Every row of a split in order, indexed by one rank. DataError for damage or a missing member. Collective."""
    from training.ranks.agreement import on_first_rank

    return on_first_rank(peers, lambda: list(_rows(path, split, label)))


def _rows(path: str, split: str, label: str) -> Iterator[Row]:
    where = join(path, split, "nshards.txt")
    text = read_bytes(where, most=_NUMBER_BYTES).decode("ascii", "replace").strip()
    if not text.isdigit() or not 0 < int(text) < _MAX_SHARDS:
        raise DataError(where, f"holds {text[:20]!r}", "the number of shards")
    for number in range(int(text)):
        yield from _shard_rows(join(path, split, f"{number}.tar"), label)


def _shard_rows(shard: str, label: str) -> Iterator[Row]:
    window = Window(shard)
    count = 0
    for sample in SampleTar(window, {**dict.fromkeys(IMAGE_SUFFIXES, "image"), label: label}):
        count += 1
        for role, most in (("image", MAX_MEMBER), (label, _LABEL_BYTES)):
            if role not in sample.members:
                lacks = label if role == label else "jpg, png or webp"
                raise DataError(shard, f"{sample.key} has no .{lacks} member", f"an image and a .{label} for each key")
            if sample.members[role].size > most:
                found = f"{sample.members[role].name} of {sample.members[role].size} bytes"
                raise DataError(f"{shown(shard)} at byte {sample.start}", found, f"at most {most}")
        image, words = sample.members["image"], sample.members[label]
        yield Row(shard, sample.key, image.start, image.size, window.exactly(words.start, words.size))
    if not count:
        raise DataError(shard, "holds no pair", f"members KEY.jpg and KEY.{label}")


def load_images(rows: list[Row], image: ImageSettings, size: int) -> "Tensor":
    """uint8 [N, 3, size, size]. DataError naming a row that cannot be decoded: leaving it out would change scores."""
    import torch

    def load(row: Row) -> np.ndarray:
        try:
            return eval_image(read_bytes(row.shard, row.start, row.start + row.size), image, size)
        except Refused as refused:
            raise DataError(
                f"{row.shard}: {row.key}", f"is no usable image ({refused.reason})", "JPEG, PNG or WebP"
            ) from None

    with ThreadPoolExecutor(_THREADS) as pool:
        return torch.from_numpy(np.stack(list(pool.map(load, rows))))


def read_lines(path: str, name: str) -> list[str]:
    """The lines of a text file of the set; DataError when it is not there or empty."""
    url = join(path, name)
    if not exists(url):
        raise DataError(url, "is missing", "one line each; clip_benchmark's zero-shot sets have it")
    try:
        lines = read_bytes(url, most=_LINES_BYTES).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(url, f"byte {error.start} is no UTF-8", "one line each, in UTF-8") from error
    if not lines:
        raise DataError(url, "is empty", "one line each")
    return lines
