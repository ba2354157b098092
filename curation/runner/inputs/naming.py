"""From the files that a recipe names to parts. The driver lists and compares; tasks read.

The content of a file is hashed by tasks once, and known by path, size and stamp from then on (curation/pool/names.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from curation.images.shrink import named_by
from curation.job import Job
from curation.pool import names
from curation.pool.store import VERSION
from curation.runner.calls import Call, Do
from curation.runner.inputs import reading
from curation.settings import CurateSettings
from curation.sources.source import Input, Part, Source
from pipeline import storage
from pipeline.errors import RecipeError, raise_all
from pipeline.settings import digest_of
from pipeline.storage import Listed

Inputs = list[tuple[int, Input]]
"""Index of the source, file."""
Parts = list[tuple[int, Part]]
Digests = dict[Listed, str]
_HASHED_BYTES = 256 << 20  # by one task, of small files
_WRITTEN_FILES = 1024  # hashed before what is known is written down, at least,
_WRITTEN_SHARE = 8  # and of what is known one in so many: names of a million files are not written a thousand times


def listed(settings: CurateSettings) -> Inputs:
    """The files of all sources. RecipeError with the dotted paths of those that name none."""
    found: Inputs = []
    faults = []
    for number, source in enumerate(settings.sources):
        try:
            found += [(number, each) for each in source.inputs(f"curate.sources.{number}")]
        except RecipeError as error:
            faults.append(error)
    raise_all(faults)
    return found


def known(settings: CurateSettings, inputs: Inputs) -> Digests:
    """What needs no reading to be named. `fresh` believes no stamp."""
    return {} if settings.fresh else names.known(settings.pool_folder, _files(inputs))


def parts_of(settings: CurateSettings, inputs: Inputs, digests: Digests) -> Parts | None:
    """The parts of all sources, each content once, by id; None while the content of a file is not known."""
    if any(file not in digests for file in _files(inputs)):
        return None
    found: dict[str, tuple[int, Part]] = {}
    shrink = named_by(settings.shrink)
    for number, source in enumerate(settings.sources):
        mine = [each for at, each in inputs if at == number]
        contents = ["".join(digests[file] for file in each.files) for each in mine]
        for part in source.parts(mine, contents):
            named = replace(part, id=digest_of([VERSION, part.id, shrink]))
            found.setdefault(named.id, (number, named))
    return [found[part] for part in sorted(found)]


def _files(inputs: Inputs) -> Iterator[Listed]:
    return (file for _, each in inputs for file in each.files)


def looked_at(job: Job, inputs: Inputs, do: Do) -> None:
    """One file of each source whose settings may not fit what is in it. RecipeError when they do not."""
    asked = [at for at, source in enumerate(job.settings.sources) if type(source).look is not Source.look]
    first = one_each(inputs)
    calls = [Call(reading.look, (at, first[at]), f"looking at {first[at].path}") for at in asked if at in first]
    for _ in do(calls, "looking at tables", "files"):
        pass


def hashed(job: Job, inputs: Inputs, digests: Digests, do: Do) -> Digests:
    """`digests`, and those of all other files: tasks read them once."""
    places = {file: each.where for _, each in inputs for file in each.files if file not in digests}
    pieces = {file: storage.pieces_of(file.bytes) for file in places}
    told: dict[Listed, dict[int, str]] = {}
    whole, fresh = dict(digests), dict[Listed, str]()
    todo = ((places[file], file, *piece) for file in pieces for piece in pieces[file])
    calls = [Call(reading.hash_pieces, (batch,), f"hashing {batch[0][1].url}") for batch in _batches(todo)]
    try:
        for call, found in do(calls, "looking at inputs", "tasks"):
            for (_, file, start, _), digest in zip(call.args[0], found, strict=True):
                mine = told.setdefault(file, {})
                mine[start] = digest
                if len(mine) == len(pieces[file]):
                    fresh[file] = storage.digest_of_pieces([mine[start] for start in sorted(told.pop(file))])
            if len(fresh) >= max(_WRITTEN_FILES, len(whole) // _WRITTEN_SHARE):
                names.remember(job.pool, fresh)
                whole.update(fresh)
                fresh = {}
    finally:
        names.remember(job.pool, fresh)
    whole.update(fresh)
    return whole


def _batches(pieces: Iterable[reading.Piece]) -> Iterator[tuple[reading.Piece, ...]]:
    batch: list[reading.Piece] = []
    size = 0
    for piece in pieces:
        if batch and size + piece[3] - piece[2] > _HASHED_BYTES:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(piece)
        size += piece[3] - piece[2]
    if batch:
        yield tuple(batch)


def one_each(inputs: Inputs) -> dict[int, Input]:
    """One file of each source, by its index: it stands for all where nodes are asked what they see."""
    return {source: each for source, each in reversed(inputs)}
