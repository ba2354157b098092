"""What the tasks do that read inputs: hash them, read them into the pool whole or in ranges, check what is there."""

from collections import Counter
from typing import Any

from curation.job import Job
from curation.pool.store import PoolSink, part_counts, publish_pieces, remove_piece, sound_part
from curation.runner.explained import explained
from curation.sources.source import Input, Part, Place, check_unchanged
from pipeline import storage
from pipeline.errors import RecipeError, StorageError
from pipeline.settings import digest_of
from pipeline.storage import Listed

Piece = tuple[str, Listed, int, int]
"""Dotted path of what names a file, the file, its bytes from and to."""


def hash_pieces(job: Job, pieces: tuple[Piece, ...]) -> list[str]:
    """Their `blake2b_of`. RecipeError where a file cannot be read, DataError when it is not the one that was listed."""
    found = []
    for where, file, start, stop in pieces:
        try:
            check_unchanged([file])
            found.append(storage.blake2b_of(file.url, start, stop))
            check_unchanged([file])
        except StorageError as error:
            said, hint = str(error).partition("\n")[0], f"correct {where} in the recipe"
            raise RecipeError(where, said, "readable input", hint) from None
    return found


def look(job: Job, source: int, each: Input) -> None:
    """RecipeError when the settings of a source do not fit this file of it."""
    check_unchanged(each.files)
    job.settings.sources[source].look(each, f"curate.sources.{source}")


def ingest(job: Job, source: int, part: Part) -> dict[str, int]:
    """Reads one part into the pool; returns its counts."""
    done = part_counts(job.pool, part.id)
    if done is not None:
        return done
    with explained(f"curate.sources.{source}: {part.path}"), PoolSink(job.pool, part.id, job.settings.shrink) as sink:
        counts = job.settings.sources[source].ingest(part, sink)
        check_unchanged(part.input.files)
        return sink.finish(counts)


def ingest_range(
    job: Job, source: int, part: Part, start: int, stop: int, place: Place | None
) -> dict[str, Any] | None:
    """Reads a range of a part into the pool, from `place` on, or from where it seems to begin; returns its name and
    counts, where it began and where it ended. None when nothing seems to begin in it."""
    reader = job.settings.sources[source]
    with explained(f"curate.sources.{source}: {part.path} from byte {start}"):
        begun = place or reader.place_from(part, start, stop)
        if begun is None:
            return None
        entered = tuple(map(int, begun))
        piece = digest_of([part.id, entered, stop])
        told = {"piece": piece, "entered": entered}
        state, _ = sound_part(job.pool, piece)
        if state is not None:
            return {**told, "counts": state["counts"], "left": tuple(state["left"])}
        with PoolSink(job.pool, piece, job.settings.shrink) as sink:
            counts, left = reader.ingest_range(part, entered, stop, sink)
            check_unchanged(part.input.files)
            return {**told, "counts": sink.finish(counts, left=list(left)), "left": tuple(left)}


def join_pieces(
    job: Job, source: int, part: Part, pieces: dict[str, dict[str, int]], vain: tuple[str, ...]
) -> dict[str, int]:
    """Publishes a part that was read in ranges, and removes what was read in vain; returns the counts of all."""
    counts: Counter[str] = Counter()
    for each in pieces.values():
        counts.update(each)
    with explained(f"curate.sources.{source}: {part.path}"):
        job.settings.sources[source].check_whole(part, counts)
    publish_pieces(job.pool, part.id, counts, pieces)
    for piece in vain:
        remove_piece(job.pool, piece)
    return dict(counts)


def check_parts(job: Job, parts: tuple[str, ...]) -> dict[str, tuple[Any, Any, str]]:
    """Part -> counts (None when it is not as it was written, or not there), those of its pieces, and what is wrong."""
    checked = {part: sound_part(job.pool, part) for part in parts}
    states = {part: (state or {}, fault) for part, (state, fault) in checked.items()}
    return {part: (state.get("counts"), state.get("pieces"), fault) for part, (state, fault) in states.items()}
