"""The items of an evaluation set, read front to back: images with their captions.

A set is a folder (or one tar), local or any fsspec URL: tars at any depth (clip_benchmark's <split>/0.tar, a dataset of
clipmill, img2dataset's), with KEY.{jpg,png,webp} and KEY.txt (a caption a line) or KEY.json (`caption`, `captions`);
or image files, each with a NAME.txt beside it or none. Class names are no captions.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from curation.table.file_digests import files_in
from pipeline import storage
from pipeline.contract.samples import IMAGE_SUFFIXES, SampleTar
from pipeline.errors import RecipeError, StorageError
from pipeline.storage import Listed, Window

_ROLES = {**dict.fromkeys(IMAGE_SUFFIXES, "image"), "txt": "txt", "json": "json"}
_IMAGES = tuple(f".{suffix}" for suffix in (*IMAGE_SUFFIXES, "gif", "bmp", "tif", "tiff"))
_TEXT_BYTES = 1 << 20


class Item(NamedTuple):
    """name: path in the set, with the key in a tar. image: its bytes, or None."""

    name: str
    image: bytes | None
    captions: list[str]


def listed_files(path: str, where: str) -> list[tuple[str, Listed]]:
    """(name, file) of the tars, or where there is none of the images; RecipeError when `path` is no set."""
    try:
        is_file = storage.file_kind(path) == "file"
        files = [(storage.basename(path), storage.listed(path))] if is_file else files_in(path)
    except StorageError as error:
        raise RecipeError(
            where, f"cannot read {storage.shown(path)}: {error.found}", "expected an evaluation set", error.hint
        ) from None
    if not files and not storage.file_kind(path):
        hint = f"correct {where} in the recipe"
        raise RecipeError(where, f"nothing at {storage.shown(path)}", "expected an evaluation set", hint)
    tars = [each for each in files if each[0].lower().endswith(".tar")]
    found = tars or [each for each in files if each[0].lower().endswith(_IMAGES)]
    if not found:
        hint = "give the folder that holds test/0.tar, or a folder of images with captions as .txt beside them"
        said = f"{storage.shown(path)} holds neither tars nor images, but {len(files)} other files"
        raise RecipeError(where, said, "expected an evaluation set", hint)
    return found


def items(path: str, where: str) -> Iterator[Item]:
    """In the order of their names. DataError naming a damaged tar: a set read in part would clean in part."""
    for name, file in listed_files(path, where):
        yield from _of_file(name, file.url)


class Place(NamedTuple):
    """Where the image of an item lies: `start` is -1 where the file is the image, size -1 where there is none."""

    name: str
    file: str
    start: int
    size: int


def places(path: str, where: str) -> Iterator[Place]:
    """Of all items, in the order of `items`: no image is read."""
    for name, file in listed_files(path, where):
        if not name.lower().endswith(".tar"):
            yield Place(name, file.url, -1, 0)
            continue
        for sample in SampleTar(Window(file.url), _ROLES):
            at = sample.members.get("image")
            yield Place(f"{name}/{sample.key}", file.url, at.start if at else 0, at.size if at else -1)


def images_at(wanted: Iterable[Place]) -> Iterator[bytes]:
    """Of each its image, b"" where there is none; a file is opened once for those of it that follow each other."""
    window: tuple[str, Window] | None = None
    for each in wanted:
        if each.start < 0:
            yield storage.read_bytes(each.file)
        elif each.size < 0:
            yield b""
        else:
            if window is None or window[0] != each.file:
                window = each.file, Window(each.file)
            yield window[1].exactly(each.start, each.size)


def some_items(path: str, where: str, names: Collection[str]) -> Iterator[Item]:
    """Those of some names: only the files that hold them are read."""
    for name, file in listed_files(path, where):
        if name in names or any(each.startswith(f"{name}/") for each in names):
            yield from (item for item in _of_file(name, file.url) if item.name in names)


def _of_file(name: str, url: str) -> Iterator[Item]:
    if name.lower().endswith(".tar"):
        yield from _of_tar(name, url)
    else:
        text = f"{url.rpartition('.')[0]}.txt"
        said = storage.read_bytes(text, most=_TEXT_BYTES) if storage.exists(text) else b""
        yield Item(name, storage.read_bytes(url), _lines(said))


def _of_tar(name: str, url: str) -> Iterator[Item]:
    window = Window(url)
    for sample in SampleTar(window, _ROLES):
        read = {role: window.exactly(each.start, each.size) for role, each in sample.members.items()}
        captions = _lines(read.get("txt", b"")) + _of_json(read.get("json", b""))
        yield Item(f"{name}/{sample.key}", read.get("image"), list(dict.fromkeys(captions)))


def _lines(text: bytes) -> list[str]:
    return [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]


def _of_json(data: bytes) -> list[str]:
    try:
        meta = json.loads(data) if data else {}
    except ValueError:
        return []
    if not isinstance(meta, dict):
        return []
    said: list[Any] = [meta.get("caption")]
    for each in meta["captions"] if isinstance(meta.get("captions"), list) else []:
        said.append(each.get("text") if isinstance(each, dict) else each)
    return [text for text in said if isinstance(text, str) and text.strip()]
