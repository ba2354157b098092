"""Folders of images with their captions beside them: img2dataset's `files` output, and any folder of KEY.jpg, KEY.txt.

All files below a folder that belong to an image, those of its name without the ending: captions (`x.txt`, `x.caption`,
`x.0.txt`, ...) and fields (`x.json`), as members of a tar would be. A part is some 1,000 images that follow each other
by address. Where one ends is told by names alone, so that a file more or less changes the part it is in, and no other.
It is read as the tar that it would make, and by the same rules.
"""

import io
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, Literal

from curation.sources.shards.reading import ROLES
from curation.sources.shards.tar_source import TarSource
from curation.sources.source import Input, Part
from pipeline import storage
from pipeline.contract.pairs import MAX_META
from pipeline.errors import RecipeError, StorageError
from pipeline.log import get_logger
from pipeline.settings import digest_of
from pipeline.storage import Listed
from pipeline.storage.window import Window

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_CUT_AFTER, _MOST = 1_000, 10_000  # images of a part: on the mean, at most
_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_CHARS = 80  # of a name that is told in the log


class FilesSource(TarSource):
    """Reads the images below folders."""

    kind: Literal["files"] = "files"

    version: ClassVar[int] = 1
    shape: ClassVar[str] = "KEY.jpg (png, webp, ...) with KEY.txt or KEY.json beside it"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def inputs(self, where: str = "curate.sources") -> list[Input]:
        found: dict[str, tuple[str, Listed]] = {}
        for number, path in enumerate(self.paths):
            place = f"{where}.paths.{number}"
            for file in self._below(path, place):
                found.setdefault(file.url, (place, file))
        inputs = []
        for group in _groups(sorted(found)):
            place, files = found[group[0]][0], tuple(found[url][1] for url in group)
            inputs.append(Input(place, files, is_whole=True))
        return inputs

    def _below(self, path: str, where: str) -> list[Listed]:
        """The files of all images below the folders that `path` names."""
        hint = f"correct {where} in the recipe"
        try:
            folders = _folders(path)
            files = [file for folder in folders for file in storage.list_tree(folder)]
        except StorageError as error:
            found, expected = f"{error.where}: {error.found}", error.expected or "readable input"
            raise RecipeError(where, found, expected, error.hint or hint) from error
        keys = _keys([file.url for file in files])
        if not keys:
            there = f"no image below {storage.shown(path)} ({len(files)} other files)"
            found = there if folders else f"no folder at {storage.shown(path)}"
            raise RecipeError(where, found, f"a folder, or a glob of folders, with {self.shape}", hint)
        others = [file.url for file in files if file.url not in keys]
        if others:
            words = "%s: %d files that belong to no image are passed by, %s the first"
            get_logger(__name__).warning(words, where, len(others), storage.shown(others[0]))
        return [file for file in files if file.url in keys]

    def images(self, inputs: Sequence[Input]) -> int:
        """How many there are in these."""
        return sum(len({key for key, _ in _keys([file.url for file in each.files]).values()}) for each in inputs)

    def parts(self, inputs: Sequence[Input], digests: Sequence[str]) -> list[Part]:
        """Which files belong together is told by their names, so that is part of what it is."""
        told = (digest_of([name for _, name in _members(each.files)]) for each in inputs)
        return super().parts(inputs, [f"{how} {digest}" for how, digest in zip(told, digests, strict=True)])

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Counts as those of shards. The tar is a file of the local disk while it is read."""
        most = max(self.max_image_bytes, MAX_META) + 1  # more is too much, whatever it is
        with tempfile.NamedTemporaryFile(prefix="clipmill-files-", suffix=".tar") as copy:
            with tarfile.open(fileobj=copy, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for file, name in _members(part.input.files):
                    body = storage.read_bytes(file.url, 0, min(file.bytes, most))
                    member = tarfile.TarInfo(name)
                    member.size = len(body)
                    tar.addfile(member, io.BytesIO(body))
            copy.flush()
            window = Window(copy.name)
            window.where = f"{storage.shown(part.path)} and on"
            return self.read_tar(part, window, sink)


def _folders(path: str) -> list[str]:
    """The folder that `path` names, or those that it matches; StorageError when it can name none."""
    if not storage.can_list(path):
        raise StorageError(storage.shown(path), "a web server, which lists no folders", "a folder")
    kind = storage.file_kind(path)
    if kind:
        if kind != "folder":
            raise StorageError(storage.shown(path), "a file", "the folder that it is in")
        return [path]
    matches = storage.list_matches(path).others if any(mark in path for mark in "*?[") else []
    return [name for name in matches if storage.file_kind(name) == "folder"]


def _split(url: str) -> Iterator[tuple[str, str]]:
    """(address without the ending, ending) at every dot of the name, where the ending has a role."""
    name = storage.basename(url)
    head = url[: len(url) - len(name)]
    for at in (at for at, char in enumerate(name) if char == "." and at):
        if ROLES.get(name[at + 1 :].lower()):
            yield head + name[:at], name[at + 1 :].lower()


def _keys(urls: Sequence[str]) -> dict[str, tuple[str, str]]:
    """url -> (the image's address without the ending, own ending), of images and of what belongs to one. `x.0.txt` is
    that of `x.0.jpg`, where there is one, else of `x.jpg`."""
    split = {url: list(_split(url)) for url in urls}
    found = {url: each[-1] for url, each in split.items() if each and ROLES.get(each[-1][1]) == "image"}
    images = {key for key, _ in found.values()}
    for url, each in split.items():
        own = next((one for one in reversed(each) if one[0] in images), None)
        if url not in found and own is not None:
            found[url] = own
    return found


def _groups(urls: Sequence[str]) -> Iterator[list[str]]:
    """The files of parts: a part ends behind an image whose name says so, or is full."""
    keys = _keys(urls)
    by_image: dict[str, list[str]] = {}
    for url in urls:
        by_image.setdefault(keys[url][0], []).append(url)
    group: list[str] = []
    count = 0
    for key in sorted(by_image):
        group += by_image[key]
        count += 1
        if _ends(storage.basename(key)) or count == _MOST:
            yield group
            group, count = [], 0
    if group:
        yield group


def _ends(name: str) -> bool:
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _CUT_AFTER == 0


def _members(files: Sequence[Listed]) -> Iterator[tuple[Listed, str]]:
    """Each file with its name in the tar: number of the image, what can be read of its name, and the ending."""
    keys = _keys([file.url for file in files])
    numbers: dict[str, int] = {}
    for file in files:
        key, ending = keys[file.url]
        number = numbers.setdefault(key, len(numbers))
        yield file, f"{number:05d}-{_PLAIN.sub('_', storage.basename(key))[:_NAME_CHARS]}.{ending}"
