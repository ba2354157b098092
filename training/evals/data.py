"""Evaluation sets in clip_benchmark's WebDataset layout, on a local disk or any fsspec URL:

    <path>/<split>/nshards.txt, 0.tar, 1.tar, ...     KEY.{jpg,jpeg,png,webp} with KEY.txt or KEY.cls
    <path>/classnames.txt, zeroshot_classification_templates.txt     one class, one template ("a photo of {c}.") a line

Tars are read by the contract's strict reader: a cut or damaged one is named, never scored in part.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.contract.index import IMAGE_SUFFIXES
from pipeline.contract.tar import members
from pipeline.errors import DataError, RecipeError
from pipeline.images.decoder import Refused
from pipeline.storage.files import exists, join, read_bytes
from pipeline.storage.window import Window
from training.reader.images import ImageSettings, eval_image

if TYPE_CHECKING:
    from torch import Tensor

    from training.ranks.peers import Peers

_THREADS = 8


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
    text = read_bytes(where).decode("ascii", "replace").strip()
    if not text.isdigit() or not 0 < int(text) < 1_000_000:
        raise DataError(where, f"holds {text[:20]!r}", "the number of shards")
    for number in range(int(text)):
        yield from _shard_rows(join(path, split, f"{number}.tar"), label)


def _shard_rows(shard: str, label: str) -> Iterator[Row]:
    window = Window(shard)
    places: dict[str, dict[str, tuple[int, int]]] = {}
    for member in members(window):
        key, _, suffix = member.name.rpartition(".")
        suffix = "image" if suffix.lower() in IMAGE_SUFFIXES else suffix.lower()
        if member.is_folder or suffix not in ("image", label):
            continue
        if suffix in places.setdefault(key, {}):
            raise DataError(shard, f"{member.name} comes twice", "one image and one label for each key")
        places[key][suffix] = (member.start, member.size)
    if not places:
        raise DataError(shard, "holds no pair", f"members KEY.jpg and KEY.{label}")
    for key, found in places.items():
        if len(found) != 2:
            lacks = label if "image" in found else "jpg, png or webp"
            raise DataError(shard, f"{key} has no .{lacks} member", f"an image and a .{label} for each key")
        yield Row(shard, key, *found["image"], read_bytes(shard, found[label][0], sum(found[label])))


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
    lines = read_bytes(url).decode("utf-8").splitlines()
    if not lines:
        raise DataError(url, "is empty", "one line each")
    return lines
