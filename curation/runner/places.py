"""Where a curation reads and writes, looked at before any work: the two apart, and nobody else's folder written to."""

from curation.emit import ownership
from curation.runner.inputs.naming import Inputs
from curation.settings import CurateSettings
from pipeline import storage
from pipeline.errors import RecipeError, StorageError
from pipeline.outputs import POOL


def with_local_paths(settings: CurateSettings) -> CurateSettings:
    """file:// URLs as paths, so that local is local everywhere."""

    def plain(url: str | None) -> str | None:
        path = storage.local_path(url) if url and url[:7].lower() == "file://" else None
        return url if path is None else str(path)

    return settings.model_copy(update={"output": plain(settings.output), "pool": plain(settings.pool)})


def check_places(settings: CurateSettings, files: Inputs) -> None:
    """RecipeError with the dotted path when input, pool and output meet, or when output or pool hold what no curation
    has written."""
    inputs = _inputs(settings, files)
    settings = with_local_paths(settings)
    written = {"curate.output": settings.output} | ({"curate.pool": settings.pool} if settings.pool else {})
    hint = f"give another {' or '.join(written)}"
    for name, folder in written.items():
        for where, paths in inputs.items():
            meeting = _meeting(where, paths, folder)
            if meeting is not None:
                found = f"{storage.shown(meeting[0])} {meeting[1]} {name}, {storage.shown(folder)}"
                raise RecipeError(where, found, "inputs apart from what is written", hint)
        kind = ownership.DATASET if name == "curate.output" else ownership.STORE
        around = ownership.above(folder, kind)
        if around is not None:
            found = f"{storage.shown(folder)} lies in {storage.shown(around)}, another output or pool"
            raise RecipeError(name, found, "a place of its own", hint)
        ownership.owned(folder, kind)
    _check_pool(settings, hint)


def _meeting(where: str, paths: list[str], folder: str) -> tuple[str, str] | None:
    try:
        return storage.first_meeting(paths, folder)
    except StorageError as error:  # a path that is none
        raise RecipeError(where, f"{error.where} is {error.found}", error.expected, error.hint) from None


def _inputs(settings: CurateSettings, files: Inputs) -> dict[str, list[str]]:
    """Dotted path -> what is read: folders that are named, files. Of the files in one folder one stands for all, but
    links: each may lead elsewhere."""
    inputs: dict[str, list[str]] = {}
    for number, source in enumerate(settings.sources):
        for at, path in enumerate(source.paths):
            inputs[f"curate.sources.{number}.paths.{at}"] = [path] if storage.file_kind(path) == "folder" else []
    seen: set[str] = set()
    for _, each in files:
        for file in each.files:
            folder = file.url.removesuffix(storage.basename(file.url))
            if file.is_link or folder not in seen:
                inputs[each.where].append(file.url)
                seen.add(folder)
    for number, stage in enumerate(settings.stages):
        for name, path in stage.files().items():
            inputs[f"curate.stages.{number}.{name}"] = [path]
    return inputs


def _check_pool(settings: CurateSettings, hint: str) -> None:
    """The pool is <output>/_pool, or lies apart from the output."""
    own = storage.join(settings.output, POOL)
    if settings.pool is None:
        ownership.owned(own, ownership.STORE)
        return
    meeting = storage.first_meeting([settings.pool], settings.output)
    at_home = storage.first_meeting([settings.pool], own)
    if meeting is not None and (at_home is None or at_home[1] != "is"):
        found = f"{storage.shown(settings.pool)} {meeting[1]} curate.output, {storage.shown(settings.output)}"
        raise RecipeError("curate.pool", found, f"a folder apart from it, or {storage.shown(own)}", hint)
