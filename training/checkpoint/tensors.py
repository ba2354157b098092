"""Tensors in safetensors files: written one bounded buffer at a time, hashed on the way, read by name.

Only numbers and JSON are ever written or read here: no pickle, so a checkpoint can hold no program.
Format: 8 bytes header length (little endian), JSON header {name: {dtype, shape, data_offsets}}, raw values.
"""

import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import DataError
from pipeline.storage.refusals import storage_errors
from training.checkpoint.files import FileEntry, write_hashed

BUFFER_BYTES = 512 << 20
"""Tensors are collected up to this size, then written as one file: it bounds the memory of a save."""

_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32"}


def write_tensors(
    folder: Path, stem: str, tensors: Iterable[tuple[str, torch.Tensor]], buffer_bytes: int | None = None
) -> list[FileEntry]:
    """Writes named tensors to <stem>.safetensors, and <stem>-001.safetensors, ... when they pass `buffer_bytes`
    (default BUFFER_BYTES).

    Raises DataError naming the first tensor that holds a non-finite value: a checkpoint never keeps a broken model;
    StorageError when the file system refuses.
    """
    entries: list[FileEntry] = []
    with storage_errors(folder):
        for number, group in enumerate(_groups(tensors, buffer_bytes or BUFFER_BYTES)):
            name = f"{stem}.safetensors" if number == 0 else f"{stem}-{number:03d}.safetensors"
            entries.append(_write_file(folder / name, group))
        if not entries:  # more ranks than tensors: a rank without a file would look like a lost one
            entries.append(_write_file(folder / f"{stem}.safetensors", {}))
    return entries


def _groups(tensors: Iterable[tuple[str, torch.Tensor]], limit: int) -> Iterator[dict[str, torch.Tensor]]:
    group: dict[str, torch.Tensor] = {}
    held = 0
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(
                f"tensor {name}",
                "holds NaN or infinity",
                "a checkpoint keeps finite values only",
                "resume from the last checkpoint with a lower learning rate",
            )
        # A copy, because an engine may hand out the same buffer again for the next tensor.
        group[name] = tensor.detach().to("cpu", copy=True).contiguous()
        held += tensor.numel() * tensor.element_size()
        if held >= limit:
            yield group
            group, held = {}, 0
    if group:
        yield group


def _write_file(path: Path, tensors: dict[str, torch.Tensor]) -> FileEntry:
    header: dict[str, dict] = {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values start on 8 bytes, as the format asks
    values: Iterator[Any] = (one.reshape(-1).view(torch.uint8).numpy() for one in tensors.values() if one.numel())
    return write_hashed(path, itertools.chain([len(text).to_bytes(8, "little") + text], map(memoryview, values)))


class TensorReader:
    """Named tensors over several safetensors files whose hashes were checked before.

    `names()`, `shape(name)`, `get(name) -> cpu tensor`, `name in reader`; a tensor is read when asked for.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: dict[str, safe_open] = {}
        for path in sorted(paths):
            try:
                file = safe_open(path, framework="pt", device="cpu")
                names = list(file.keys())
            except (SafetensorError, OSError) as error:
                raise DataError(str(path), f"is no safetensors file ({error})", "a checkpoint of clipmill") from None
            for name in names:
                if name in self._files:
                    raise DataError(str(path), f"holds the tensor {name} a second time", "each tensor is in one file")
                self._files[name] = file

    def names(self) -> list[str]:
        return sorted(self._files)

    @functools.cached_property
    def parts(self) -> list[str]:
        """What stands before the first slash of the names: the sorts of tensor."""
        return sorted({name.partition("/")[0] for name in self._files})

    def of_part(self, part: str) -> list[str]:
        """The names behind `<part>/`."""
        return [name.removeprefix(f"{part}/") for name in self.names() if name.startswith(f"{part}/")]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._find(name).get_slice(name).get_shape())

    def get(self, name: str) -> torch.Tensor:
        """The whole tensor on the CPU; DataError when the checkpoint has none of that name."""
        return self._find(name).get_tensor(name)

    def _find(self, name: str) -> safe_open:
        if name not in self._files:
            raise DataError(
                "checkpoint",
                f"has no tensor {name}",
                "the architecture of the run that wrote it",
                "use the recipe saved beside the checkpoint",
            )
        return self._files[name]
