"""What a source is: settings that name input files, each read into the pool by tasks, whole or in ranges.

A part is one input file, named by its content and by the settings that decide how it is read, never by its place: a
file that was copied, renamed or listed twice is one part, and a part that is in the pool is never read again. To know
what there is, files are listed; their content is read by tasks alone (curation/runner/inputs/).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from curation.table import schemas
from pipeline import storage
from pipeline.errors import DataError, RecipeError, StorageError
from pipeline.log import get_logger
from pipeline.settings import PathText, Settings, digest_of
from pipeline.storage import Listed

log = get_logger("curation")

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

Place = tuple[int, ...]
"""Where reading goes on in a file: the offset, then what else a source must know to go on as if it had not stopped."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file as it was listed. where: dotted path of the setting that names it; files: it, and what is read with it;
    is_whole: they are as one file, none of which the others are beside."""

    where: str
    files: tuple[Listed, ...]
    is_whole: bool = False

    @property
    def path(self) -> str:
        return self.files[0].url

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files) if self.is_whole else self.files[0].bytes


def check_unchanged(files: Iterable[Listed]) -> None:
    """DataError when a file is not what it was when it was listed: what is read must be what it is named by."""
    for file in files:
        now = storage.listed(file.url)
        if (now.bytes, now.stamp) != (file.bytes, file.stamp):
            found = f"it was written to while this job was at work ({file.bytes} bytes, now {now.bytes})"
            hint = "run the same command again when nobody writes to it"
            raise DataError(storage.shown(file.url), found, "the file that was listed", hint)


@dataclass(frozen=True, slots=True)
class Part:
    """id: 16 hex naming content and settings; input: the file it is read from; copies: others of the same content."""

    id: str
    input: Input
    copies: int = 0

    @property
    def path(self) -> str:
        return self.input.path

    @property
    def bytes(self) -> int:
        return self.input.bytes


class Source(Settings):
    """Subclasses add `kind`, settings, and `ingest`. Settings but those in `unnamed` are part of every part's id."""

    kind: str
    paths: list[PathText] = Field(min_length=1, description="files, folders, globs or URLs")

    version: ClassVar[int] = 1  # raise it when the code would put other rows into the pool for the same bytes
    fetches: ClassVar[bool] = False  # whether it tells of images that are yet to be downloaded
    suffixes: ClassVar[tuple[str, ...]] = ()  # of the files taken from a folder
    unnamed: ClassVar[frozenset[str]] = frozenset({"paths"})  # settings that never change what is read

    def inputs(self, where: str = "curate.sources") -> list[Input]:
        """The files of all `paths`, each path once, sorted. Lists them, opens none.

        `where` is the dotted path of this source. Raises RecipeError when a path names nothing, before any work.
        """
        found: dict[str, tuple[str, Listed]] = {}
        for number, path in enumerate(self.paths):
            place = f"{where}.paths.{number}"
            files, others = self._listed(path, place)
            for name in others:
                log.warning("%s: passed by %s: it is no file", place, storage.shown(name))
            for file in files:
                found.setdefault(file.url, (place, file))
        beside = self.beside([found[url][1] for url in found])
        return [Input(found[url][0], (found[url][1], *beside.get(url, ()))) for url in sorted(found)]

    def beside(self, files: Sequence[Listed]) -> Mapping[str, tuple[Listed, ...]]:
        """Address -> the files whose content is read with that of this one."""
        return {}

    def _listed(self, path: str, where: str) -> tuple[list[Listed], list[str]]:
        """The files that `path` names, and what stands among them and is none. RecipeError when there is no file."""
        hint = f"correct {where} in the recipe"
        others: list[str] = []
        try:
            kind = storage.file_kind(path)
            if kind == "folder" and storage.can_list(path):
                files, others = storage.list_folder(path)
                files = [file for file in files if file.url.endswith(self.suffixes)]
            elif kind or not storage.can_list(path):  # on a web server, each file by its full address
                files = [storage.listed(path)] if kind else []
            else:
                files, others = storage.list_matches(path) if any(mark in path for mark in "*?[") else ([], [])
        except StorageError as error:
            found, expected = f"{error.where}: {error.found}", error.expected or "readable input"
            raise RecipeError(where, found, expected, error.hint or hint) from error
        if not files:
            expected = f"a file, or a folder or glob with {', '.join(self.suffixes)} files"
            if not storage.can_list(path):
                expected = "a file that this web server sends, by its full address: folders and globs it cannot list"
            raise RecipeError(where, f"nothing at {storage.shown(path)}", expected, hint)
        return files, [name for name in others if name.endswith(self.suffixes)]

    def parts(self, inputs: Sequence[Input], digests: Sequence[str]) -> list[Part]:
        """The parts that these files are, sorted by id, each content once; `digests` are of their content, hex."""
        settings = self.model_dump(mode="json", exclude=set(self.unnamed))
        parts: dict[str, Part] = {}
        for each, content in sorted(zip(inputs, digests, strict=True), key=lambda pair: (pair[0].path, pair[1])):
            name = digest_of([schemas.VERSION, self.version, settings, content])
            known = parts.get(name)
            parts[name] = Part(name, each) if known is None else Part(name, known.input, known.copies + 1)
        return [parts[name] for name in sorted(parts)]

    def look(self, each: Input, where: str) -> None:
        """A first look into one of the files, by a task before any work: raises RecipeError naming a setting (`where`:
        the dotted path of this source) that does not fit what is there. A source that overrides it is asked."""

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Reads one part into the sink; returns counts. Damage inside is counted, and reading goes on behind it.

        Counts: `records` read, `bad_records:<reason>`, `bytes_skipped`, and what the source adds of its own.
        Raises DataError naming the file when it is not what this source reads at all.
        """
        raise NotImplementedError

    def cuts(self, part: Part, about: int) -> list[int]:
        """Offsets at which a file may be cut into ranges that are tasks of their own; none: it is one task. `about`:
        bytes of a range that suit the size of all inputs, for a source that is not told by its settings."""
        return []

    def place_from(self, part: Part, start: int, stop: int) -> Place | None:
        """Where a reading from the front of the file comes by in [start, stop), as far as that can be told from there;
        0 is told for sure. None when no place is seen."""
        raise NotImplementedError

    def ingest_range(self, part: Part, place: Place, stop: int, sink: "PoolSink") -> tuple[dict[str, int], Place]:
        """As `ingest`, from `place` to the first place at or behind `stop` that a reading of the whole comes by, which
        is returned. Ranges that meet there are together what `ingest` reads, to the letter."""
        raise NotImplementedError

    def check_whole(self, part: Part, counts: Mapping[str, int]) -> None:
        """Given the counts of all ranges of a part: raises the DataError that `ingest` would have raised at its end."""

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        """Given the counts of all parts of this source: raises DataError when all of them together hold nothing."""
