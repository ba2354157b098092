"""Whose folder it is. A small file of ours says so and lists what we wrote; nothing else is ever removed or replaced.

    <output>/_clipmill.json  {"kind": "dataset", "job_digest", "manifest_digest", "remaking", "files": {name: note}}
    <pool>/_clipmill.json    {"kind": "pool"}

It is the first file in a new folder, written before any work: a folder that holds anything else and not this file is
not ours. Names are added before their files are made, and taken off after they are removed, so a kill at any moment
leaves no file of ours that is not listed. A dataset from before there was such a file is known by its manifest and
summary, and a damaged or lost one does not make a folder somebody else's, when every name in it is one that we write.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.pairs import INDEX
from pipeline.errors import DataError, RecipeError, StorageError
from pipeline.outputs import (
    CONCEPTS,
    DATA_CARD,
    DRY_RUN,
    ENTRY_COUNTS,
    FINISHED,
    OWNER,
    POOL,
    RECIPE,
    REPORT,
    SUBSET,
    SUMMARY,
    VERDICTS,
    WORK,
)
from pipeline.storage import Note
from pipeline.storage.lock import LOCK
from pipeline.storage.turn import TURN

DATASET, STORE = "dataset", "pool"
# What a list may hold: a name that is none of these is never touched, whatever a list says.
_LISTED = re.compile(
    rf"shard-\d{{6}}\.tar|{INDEX}/shard-\d{{6}}\.parquet|{VERDICTS}/bucket-\d{{5}}\.parquet"
    rf"|{CONCEPTS}/(bucket-\d{{5}}|counts)\.parquet|{re.escape(SUBSET)}|{re.escape(SUMMARY)}|{re.escape(ENTRY_COUNTS)}"
)
_BESIDE = {
    OWNER,
    MANIFEST,
    REPORT,
    DATA_CARD,
    DRY_RUN,
    RECIPE,
    FINISHED,
    LOCK,
    TURN,
    "_lock",
}  # written over at any time; `_lock` by versions before
_FOLDERS = {
    DATASET: {INDEX, VERDICTS, CONCEPTS, POOL, WORK},
    STORE: {"parts", "columns", "joined", "inputs", "fetched"},
}
_WORK_FOLDER = re.compile(r"(\d+|emit|fetch|redirects|runs)-[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{16}")  # of a joined table
_PART = re.compile(r"(fetched-[0-9a-f]{16}-)?[0-9a-f]{16}")
_SHOWN = 3


@dataclass(frozen=True)
class Owned:
    """What our file says. files: what we wrote, with notes; remaking: `curate.fresh` has begun and not ended."""

    kind: str
    job_digest: str = ""
    manifest_digest: str = ""
    remaking: bool = False
    files: dict[str, Note] = field(default_factory=dict)


def owned(url: str, kind: str = DATASET) -> Owned:
    """What is ours at `url`: nothing when it is absent or empty. RecipeError when it holds what we did not write."""
    where = "curate.output" if kind == DATASET else "curate.pool"
    what = storage.file_kind(url)
    if what not in ("", "folder"):
        raise RecipeError(
            where, f"{storage.shown(url)} is no folder", f"a folder of the {kind}", f"give another {where}"
        )
    state = storage.read_state(storage.join(url, OWNER), quiet=True) if what else None
    present = _present(url, kind) if what else []
    if state is not None and state.get("kind") == kind:
        mine = Owned(**{name: state[name] for name in asdict(Owned(kind)) if name in state})
        strange = [name for name in present if _LISTED.fullmatch(name) and name not in mine.files]
    elif state is None and _is_known(url, kind, present):
        mine = _adopted(url, kind, present)
        strange = [name for name in present if not _is_ours(name, kind)]
    else:
        first = (LOCK, TURN)  # made before our mark
        mine, strange = (
            Owned(kind),
            [name for name in present if name not in first and not storage.is_temp(name, OWNER)],
        )
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        found = f"{storage.shown(url)} holds {', '.join(strange[:_SHOWN])}{more}, which no curation has written"
        hint = f"give another {where}, or move what is yours out of this folder"
        raise RecipeError(where, found, f"a new or empty folder, or a {kind} of clipmill", hint)
    return mine


def owned_plainly(url: str) -> Owned:
    """What the mark of an output says, whatever else lies there."""
    state = storage.read_state(storage.join(url, OWNER), quiet=True) or {}
    return Owned(DATASET, **{name: state[name] for name in asdict(Owned(DATASET)) if name in state and name != "kind"})


def listed(url: str) -> list[str]:
    """Names in an output that are of the kind we list."""
    return [name for name in _present(url, DATASET) if _LISTED.fullmatch(name)]


def publish_owned(url: str, mine: Owned) -> None:
    value = {name: value for name, value in asdict(mine).items() if name != "files"}
    storage.publish_state(storage.join(url, OWNER), value, mine.files)


def claim(url: str, kind: str = DATASET) -> Owned:
    """Makes a new or empty folder ours, before anything else is put there; RecipeError when it is somebody else's."""
    mine = owned(url, kind)
    storage.read_state(storage.join(url, OWNER))  # says so when it is damaged
    publish_owned(url, mine)
    return mine


def reserve(url: str, names: Iterable[str]) -> Owned:
    """Puts names on the list before their files are made."""
    mine = owned(url)
    mine = replace(mine, files={**{name: {} for name in names}, **mine.files})
    publish_owned(url, mine)
    return mine


def remove_listed(url: str, keep: Iterable[str]) -> None:
    """Removes what we wrote, but `keep`."""
    for name in sorted(set(owned(url).files) - set(keep)):
        if _LISTED.fullmatch(name):
            storage.remove(storage.join(url, name))


def remove_work(work: str, last: str, keep: Sequence[str] = ()) -> None:
    """Removes the working folders but `keep`, `last` as the last of them; what else may lie in `work` stays."""
    for name in keep:
        storage.sweep_temps(storage.join(work, name))
    names = {name for name in storage.list_folders(work) if _WORK_FOLDER.fullmatch(name)} - set(keep)
    for name in sorted(names, key=lambda name: name == storage.basename(last)):
        storage.remove(storage.join(work, name), recursive=True)
    path = storage.local_path(work)
    if path is not None and path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def above(url: str, kind: str = DATASET) -> str | None:
    """A folder of ours that `url` lies in, other than as the pool of that dataset; None when there is none."""
    for folder in _parents(url):
        try:
            state = storage.read_state(storage.join(folder, OWNER), quiet=True)
        except StorageError:  # not for us to look at
            continue
        is_its_pool = kind == STORE and storage.first_meeting([url], storage.join(folder, POOL)) is not None
        if state is not None and not (is_its_pool and state.get("kind") == DATASET):
            return folder
    return None


def _parents(url: str) -> Iterator[str]:
    path = storage.local_path(url)
    if path is not None:
        yield from map(str, Path(os.path.realpath(path)).parents)
        return
    scheme, _, rest = url.partition("://")
    names = rest.strip("/").split("/")[:-1]
    for number in range(len(names), 0, -1):
        yield f"{scheme}://{'/'.join(names[:number])}"


def _present(url: str, kind: str) -> list[str]:
    """Names in the folder; those of folders end in a slash, and the known ones are looked into."""
    found = list(storage.list_sizes(url))
    for name in storage.list_folders(url):
        inside = storage.join(url, name)
        found.append(f"{name}/")
        if kind == DATASET and name in (INDEX, VERDICTS, CONCEPTS):
            found += [f"{name}/{file}" for file in storage.list_sizes(inside)]
            found += [f"{name}/{folder}/" for folder in storage.list_folders(inside)]
        pattern = {WORK: _WORK_FOLDER, "parts": _PART, "joined": _DIGEST}.get(name)
        if pattern is not None:
            folders = storage.list_folders(inside)
            found += [f"{name}/{folder}/" for folder in folders if not pattern.fullmatch(folder)]
    return found


def _is_ours(name: str, kind: str) -> bool:
    if kind == DATASET and (_LISTED.fullmatch(name) or name in _BESIDE):
        return True
    return name == OWNER or name.removesuffix("/") in _FOLDERS[kind] or storage.is_temp(storage.basename(name))


def _is_known(url: str, kind: str, present: list[str]) -> bool:
    """Without a sound mark: it is there but damaged, our pool is inside, or a version that wrote none has been here."""
    if OWNER in present:
        return True
    if kind == DATASET and storage.read_state(storage.join(url, POOL, OWNER), quiet=True) is not None:
        return True
    if kind == STORE:
        names = [*storage.list_sizes(url), *storage.list_folders(url)]
        return bool(names) and set(names) <= _FOLDERS[STORE]
    return bool(_digests_before(url))


def _digests_before(url: str) -> dict[str, str]:
    try:
        summary = storage.json_object(storage.read_bytes(storage.join(url, SUMMARY))) or {}
        manifest = Manifest.load(url)
    except (DataError, StorageError):
        return {}
    if summary.get("manifest_digest") != manifest.digest() or not isinstance(summary.get("job_digest"), str):
        return {}
    return {"job_digest": summary["job_digest"], "manifest_digest": manifest.digest()}


def _adopted(url: str, kind: str, present: list[str]) -> Owned:
    if kind == STORE:
        return Owned(kind)
    files: dict[str, Note] = {name: {} for name in present if _LISTED.fullmatch(name)}
    digests: dict[str, Any] = dict(_digests_before(url)) if OWNER not in present else {}
    if digests:
        shards = Manifest.load(url).shards
        files |= {entry.name: {"bytes": entry.bytes, "sha256": entry.sha256} for entry in shards}
    return Owned(kind, files=files, **digests)
