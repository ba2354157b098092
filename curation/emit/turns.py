"""Writes into an output that no lock protects: a look before each, and a look after it (pipeline/storage/turn.py).

What was on its way when another run took over lands all the same. Then this run, before it stops, takes away the
manifest if that describes other bytes than now lie there: an unfinished dataset is made again by its own command, a
manifest over bytes of two runs would be believed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from curation.emit import ownership
from curation.job import Job
from pipeline import storage
from pipeline.cluster.rundir.lock import require_ours
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.pairs import index_name
from pipeline.errors import DataError, Stopped, StorageError
from pipeline.storage import turn


@contextmanager
def in_turn(job: Job, *names: str) -> Iterator[None]:
    """Around the writing or removing of the files `names` of the output. StorageError when another run has taken over.

    Costs two small reads; when the output is locked one in a run directory, and nothing elsewhere.
    """
    check(job)
    try:
        yield
    except Exception:  # it may have written some of it
        _look_back(job, names)
        raise
    _look_back(job, names)


def _look_back(job: Job, names: tuple[str, ...]) -> None:
    said = turn.over(job.settings.output, job.turn) if job.turn else ""
    if said:
        _give_way(job, names)
        raise _taken_over(job, said)


def check(job: Job) -> None:
    """StorageError when another run has taken over, Fenced when a newer attempt of the same run directory has."""
    require_ours()
    said = turn.over(job.settings.output, job.turn) if job.turn else ""
    if said:
        raise _taken_over(job, said)


@contextmanager
def explained(job: Job) -> Iterator[None]:
    """Around a whole run: what stops one whose turn is over is told as that, since the other run removes its work."""
    try:
        yield
    except Exception as error:
        said = turn.over(job.settings.output, job.turn) if not isinstance(error, Stopped) else ""
        if not said:
            raise
        raise _taken_over(job, said) from error


def _taken_over(job: Job, said: str) -> StorageError:
    hint = "let that run end, then run this command again, or give one of them another curate.output"
    return StorageError(storage.shown(job.settings.output), f"{said} has taken over", "one run at a time", hint)


def _give_way(job: Job, names: tuple[str, ...]) -> None:
    output = job.settings.output
    mine = ownership.owned_plainly(output)
    lost = [name for name in ownership.listed(output) if name not in mine.files]
    if lost:  # our list came to lie over that of the other run, whose files would be somebody else's then
        ownership.publish_owned(output, replace(mine, files={**{name: {} for name in lost}, **mine.files}))
    try:
        manifest = Manifest.load(output)
    except (DataError, StorageError):
        return
    expected = dict(mine.files)
    for entry in manifest.shards:
        expected[entry.name] = {"bytes": entry.bytes, "sha256": entry.sha256}
        expected[index_name(entry.name)] = {"sha256": entry.index_sha256}
    if MANIFEST in names or any(
        _differs(storage.join(output, name), expected[name]) for name in names if name in expected
    ):
        storage.remove(storage.join(output, MANIFEST))


def _differs(url: str, note: storage.Note) -> bool:
    return bool(note) and (not storage.exists(url) or storage.sha256_of(url) != note["sha256"])
