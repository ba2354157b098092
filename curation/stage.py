"""What a stage is. Pure: no ray, no files but those a stage names, no clock, no state between calls.

A stage is a frozen settings model with a `kind`, in one file of curation/stages/, listed in the table there.
There are four sorts; subclass exactly one:

    ImageMeasure   image bytes -> columns of the pair            cached by the sha256 of the bytes
    TextMeasure    texts       -> fields of each caption         cached by the text
    Rule           a table of pairs -> Verdicts, row by row
    Global         Verdicts that need the whole set: survey -> settle -> fold -> judge

Tables given to a stage hold the live pairs of one bucket, sorted by uid, with the columns of schemas.PAIRS and all
columns added so far. No result may depend on which pairs share a bucket, a batch or a group of groups: row-wise sorts
must treat each row alone, Global may only relate rows through its notes. Random draws come from pipeline.draws.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from curation.table import schemas
from pipeline import storage
from pipeline.errors import RecipeError, StorageError
from pipeline.settings import Settings, digest_of

MeasureImages = Callable[[list[bytes]], pa.Table]
MeasureTexts = Callable[[list[str]], pa.Table]


class Stage(Settings):
    """What all sorts share.

    reads        columns that must exist before: of PAIRS or an earlier stage; `captions.<field>` for a caption field
    adds         fields this stage adds (to the pair, or to each caption for a TextMeasure); names must be new
    version      raise it when the code would give other results for the same settings
    file_fields  names of settings that hold the path of a file (str, or str | None); the content of the file, not its
                 path, goes into the digest, and a missing file is a RecipeError before any work
    exports      which of `adds` go into every pair's KEY.json (null and NaN are left out)
    detail_is_survivor  the detail of a drop is the uid of the pair that stays for it: the report shows them as a group
    hides_images        who is dropped here must not be shown around: the report has no thumbnail of them
    """

    kind: str
    reads: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[tuple[pa.Field, ...]] = ()
    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ()
    exports: ClassVar[tuple[str, ...]] = ()
    detail_is_survivor: ClassVar[bool] = False
    hides_images: ClassVar[bool] = False

    def cuts(self) -> dict[str, float]:
        """Thresholds to draw into the report's histograms: "width", "height", "aspect" or "caption_words" -> value."""
        return {}

    def check(self, where: str) -> None:
        """Faults that need a look at a file: RecipeError naming `where` (the dotted path of this stage). No work."""
        for name in self.file_fields:
            path = getattr(self, name)
            if path is not None:
                _file_digest(path, f"{where}.{name}")

    def file_digests(self) -> dict[str, tuple[str, str]]:
        """(path, digest of its content here) of every file that this stage reads, by the name of its setting. What a
        run depends on: each node checks that its own file is the one that the job was started with."""
        paths = {name: getattr(self, name) for name in self.file_fields}
        return {
            name: (path, _file_digest(path, f"{self.kind}.{name}")) for name, path in paths.items() if path is not None
        }

    def digest(self) -> str:
        """16 hex naming everything the results of this stage depend on, besides its inputs and the seed."""
        plain = self.model_dump(mode="json")
        for name in self.file_fields:
            if plain.get(name) is not None:
                plain[name] = _file_digest(plain[name], f"{self.kind}.{name}")
        return digest_of([self.version, plain])


class ImageMeasure(Stage):
    """Adds columns to pairs from the image bytes alone."""

    def open(self) -> MeasureImages:
        """Loads what is needed (a model, say) once per worker process, and returns the measuring function.

        The function takes image bytes and returns a table with exactly one row per image, columns = `adds`, and
        optionally a string column `reason`: where it is not null the pair is dropped ("truncated", "too_many_pixels").
        A bad image is a reason, never an exception.
        """
        raise NotImplementedError


class TextMeasure(Stage):
    """Adds fields to every caption from its text alone."""

    def open(self) -> MeasureTexts:
        """As ImageMeasure.open, from texts; one row per text, columns = `adds`; no reasons."""
        raise NotImplementedError


@dataclass(frozen=True)
class Verdicts:
    """What a deciding stage says about a table of n pairs.

    reason         string array of length n; null keeps the pair. Short words with underscores ("too_small")
    detail         string array of length n or None: what belongs to the reason (the uid of the survivor, the rule hit)
    captions       replacement caption lists of length n, or None for no change. May hold fewer captions (their loss is
                   counted in caption_drops) or more (captions of removed copies merged in)
    caption_drops  reason -> number of captions removed from the lists, also from pairs dropped for having none left
    columns        columns to add to the pairs (n rows; must be those of the stage's `adds`), or None
    """

    reason: pa.Array | pa.ChunkedArray
    detail: pa.Array | pa.ChunkedArray | None = None
    captions: pa.Array | pa.ChunkedArray | None = None
    caption_drops: dict[str, int] = field(default_factory=dict)
    columns: pa.Table | None = None


class Rule(Stage):
    """Decides on each pair alone."""

    def judge(self, pairs: pa.Table, seed: int) -> Verdicts:
        raise NotImplementedError


class Global(Stage):
    """Decides on pairs that must know of each other. Four pure functions, run in this order:

    survey  one bucket -> notes: a table with a uint64 column `group`, and whatever the group needs to know (a uid, a
            length, ...). Zero, one or several notes per pair. All notes of a group meet in one `settle`.
    settle  all notes of some whole groups (sorted by group, then uid if there is one, then the other plain columns)
            -> a table of results, smaller if it can be
    fold    all settled tables as one (sorted by its plain columns in order) -> the table `judge` is given. Runs once;
            keep it small, or let it hold a `uid` column: then every bucket is given only the rows of its own uids.
    judge   one bucket + folded -> Verdicts
    """

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        raise NotImplementedError

    def settle(self, notes: pa.Table) -> pa.Table:
        return notes

    def fold(self, settled: pa.Table) -> pa.Table:
        return settled

    def judge(self, pairs: pa.Table, folded: pa.Table, seed: int) -> Verdicts:
        raise NotImplementedError


def names_of(stages: Sequence[Stage]) -> list[str]:
    """The name a stage is reported under: its kind, and from the second of a kind on kind-2, kind-3, ..."""
    seen: dict[str, int] = {}
    names = []
    for stage in stages:
        seen[stage.kind] = seen.get(stage.kind, 0) + 1
        names.append(stage.kind if seen[stage.kind] == 1 else f"{stage.kind}-{seen[stage.kind]}")
    return names


def check_stages(stages: Sequence[Stage], kinds: Iterable[Any] = (), where: str = "curate.stages") -> None:
    """Every column read exists, every column added is new, every file can be read; else RecipeError. No work.

    `kinds` are the stages a recipe could use: the hint names the one that adds a missing column.
    """
    known = {*schemas.PAIRS.names, *(f"captions.{f.name}" for f in schemas.CAPTION_FIELDS)}
    added_by = {name: kind.model_fields["kind"].default for kind in kinds for name in _added(kind)}
    for at, stage in enumerate(stages):
        here = f"{where}.{at} ({stage.kind})"
        for name in stage.reads:
            if name not in known:
                by = added_by.get(name)
                hint = f"put `{by}` before it" if by else "add the stage that measures it before this one"
                raise RecipeError(here, f"reads the column `{name}`, which does not exist yet", "", hint)
        for name in _added(stage):
            if name in known:
                found = f"adds the column `{name}`, which exists already"
                raise RecipeError(here, found, "", f"remove one `{stage.kind}`")
            known.add(name)
        stage.check(f"{where}.{at}")


def _added(stage: Stage | type[Stage]) -> list[str]:
    kind = stage if isinstance(stage, type) else type(stage)
    prefix = "captions." if issubclass(kind, TextMeasure) else ""
    return [prefix + f.name for f in stage.adds]


_file_digests: dict[tuple[str, int, int], str] = {}


def _file_digest(path: str, where: str) -> str:
    """blake2b of a file's content, remembered per process by (path, size, time of change)."""
    try:
        state = os.stat(path)
        key = (path, state.st_size, state.st_mtime_ns)
        if key not in _file_digests:
            _file_digests[key] = storage.blake2b_of(path)
    except (OSError, StorageError) as error:
        found = error.found if isinstance(error, StorageError) else error.strerror
        raise RecipeError(where, f"cannot read {path}: {found}", "expected a readable file") from None
    return _file_digests[key]
