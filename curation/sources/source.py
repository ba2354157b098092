"""What a source is: settings that name input files, cut into parts, each read into the pool on its own.

A part is one input file, named by its content and by the settings that decide how it is read, never by its place: a
file that was copied, renamed or listed twice is one part, and a part that is in the pool is never read again.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline import storage
from pipeline.errors import RecipeError, StorageError
from pipeline.log import get_logger
from pipeline.settings import PathText, Settings, digest_of

log = get_logger("curation")

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_READERS = 4  # files hashed at a time


@dataclass(frozen=True, slots=True)
class Part:
    """id: 16 hex naming content and settings; bytes: size of the file; copies: further paths with the same content."""

    id: str
    path: str
    bytes: int
    copies: int = 0


class Source(Settings):
    """Subclasses add `kind`, settings, and `ingest`. Settings other than `paths` are part of every part's id."""

    kind: str
    paths: list[PathText] = Field(min_length=1, description="files, folders, globs or URLs")

    version: ClassVar[int] = 1  # raise it when the code would put other rows into the pool for the same bytes
    suffixes: ClassVar[tuple[str, ...]] = ()  # of the files taken from a folder

    def parts(self, where: str = "curate.sources") -> list[Part]:
        """The parts of all `paths`, sorted by id, each content once. Reads every file once, to name it.

        `where` is the dotted path of this source. Raises RecipeError when a path names nothing, before any work.
        """
        files: dict[str, None] = {}
        for number, path in enumerate(self.paths):
            files.update(dict.fromkeys(self._expand(path, f"{where}.paths.{number}")))
            for name in self._passed_by(path):
                log.warning("%s.paths.%d: passed by %s: it is no file", where, number, storage.shown(name))
        with ThreadPoolExecutor(_READERS) as pool:
            digests = list(pool.map(self.content_digest, files))
        settings = self.model_dump(mode="json", exclude={"paths"})
        parts: dict[str, Part] = {}
        for path, content in sorted(zip(files, digests, strict=True)):
            name = digest_of([self.version, settings, content])
            known = parts.get(name)
            if known is None:
                parts[name] = Part(name, path, storage.size(path))
            else:
                parts[name] = Part(name, known.path, known.bytes, known.copies + 1)
        return [parts[name] for name in sorted(parts)]

    def content_digest(self, path: str) -> str:
        """Hex digits naming the bytes that a part is read from."""
        return storage.blake2b_of(path)

    def _expand(self, path: str, where: str) -> list[str]:
        """The files that `path` names. RecipeError when there is none, or one that cannot be opened."""
        hint = f"correct {where} in the recipe"
        try:
            kind = storage.file_kind(path)
            if kind == "folder" and storage.can_list(path):
                found = [storage.join(path, name) for name in storage.list_names(path) if name.endswith(self.suffixes)]
            elif kind or not storage.can_list(path):  # on a web server, each file by its full address
                found = [path] if kind else []
            else:
                found = storage.glob(path) if any(mark in path for mark in "*?[") else []
            for file in found:
                storage.RangeReader(file)
        except StorageError as error:
            raise RecipeError(where, str(error).partition("\n")[0], "readable input", hint) from error
        if not found:
            expected = f"a file, or a folder or glob with {', '.join(self.suffixes)} files"
            raise RecipeError(where, f"nothing at {storage.shown(path)}", expected, hint)
        return found

    def _passed_by(self, path: str) -> list[str]:
        """What stands among the files of a folder or glob, is named like one of them, and is none."""
        if storage.file_kind(path) == "folder":
            names = [*storage.list_others(path), *storage.list_folders(path)]
            return [storage.join(path, name) for name in names if name.endswith(self.suffixes)]
        return [name for name in storage.glob_others(path) if name.endswith(self.suffixes)]

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Reads one part into the sink; returns counts. Damage inside is counted, and reading goes on behind it.

        Counts: `records` read, `bad_records:<reason>`, `bytes_skipped`, and what the source adds of its own.
        Raises DataError naming the file when it is not what this source reads at all.
        """
        raise NotImplementedError

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        """Given the counts of all parts of this source: raises DataError when all of them together hold nothing."""
