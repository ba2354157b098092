"""A checkpoint on disk: names, the atomic commit, and the check that nothing in it changed.

    <root>/step-00000100/rank-000.safetensors ...   model and moments, each tensor in one file
                         state.json                  step, reader state, settings that must not change
                         COMPLETE.json               step, world, every name, size and sha256: written last
    <root>/latest                                    a hint for people; nothing depends on it

Everything is written in `.tmp-step-00000100`, which becomes the step's folder by one rename after COMPLETE.json is on
disk. So a folder without a COMPLETE.json that agrees with every byte is not a checkpoint.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline import storage
from pipeline.errors import DataError, StorageError
from pipeline.outputs import COMPLETE
from pipeline.storage.refusals import storage_errors
from training.checkpoint.files import FileEntry, sync_folder, write_hashed

FORMAT_VERSION = 1
STATE, LATEST = "state.json", "latest"
TEMP, TRASH = ".tmp-", ".trash-"
_STEP = re.compile(r"step-(\d{8,})")
_FILE = re.compile(r"rank-(\d{3,})(-\d{3,})?\.safetensors|state\.json")


class NewerFormat(DataError):
    """A checkpoint that only a newer clipmill can read: never a reason to go back to an older one."""


@dataclass(frozen=True)
class Complete:
    """The content of a COMPLETE.json that was found consistent with itself."""

    folder: Path
    step: int
    world: int
    files: tuple[FileEntry, ...]

    @property
    def tensor_files(self) -> list[Path]:
        return [self.folder / file.name for file in self.files if file.name != STATE]


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def step_of(folder: Path) -> int:
    match = _STEP.fullmatch(folder.name)
    if match is None:
        raise DataError(str(folder), "is not the folder of a checkpoint", "step-00000100 and the like")
    return int(match.group(1))


def step_folders(root: Path) -> list[Path]:
    """Every step folder, newest first, complete or not."""
    if not root.is_dir():
        return []
    return sorted((p for p in root.iterdir() if p.is_dir() and _STEP.fullmatch(p.name)), key=step_of, reverse=True)


def _complete_bytes(step: int, world: int, files: list[FileEntry]) -> bytes:
    listed = [file.as_dict() for file in sorted(files, key=lambda f: f.name)]
    body = {"format_version": FORMAT_VERSION, "step": step, "world": world, "files": listed}
    return (json.dumps({**body, "self_digest": _self_digest(body)}, indent=1) + "\n").encode()


def _self_digest(body: dict) -> str:
    """The same rule in every format, so that a newer one can be told from a damaged file."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def begin(root: Path, step: int) -> Path:
    """An empty temporary folder for the step; whatever a crash left there before is gone."""
    temp = root / f"{TEMP}{step_name(step)}"
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
    return temp


def commit(temp: Path, step: int, world: int, files: list[FileEntry]) -> Path:
    """Makes the step's folder appear, whole. Called by one rank, after every rank's files are on disk."""
    target = temp.parent / step_name(step)
    with storage_errors(temp):
        write_hashed(temp / COMPLETE, [_complete_bytes(step, world, files)])
        sync_folder(temp)
        if target.exists():  # only a rejected one can be there: the caller never saves a step twice
            discard(target)
        os.rename(temp, target)
        sync_folder(target.parent)
        hint = target.parent / f"{TEMP}{LATEST}"
        write_hashed(hint, [f"{target.name}\n".encode()])
        os.replace(hint, target.parent / LATEST)
    return target


def discard(folder: Path) -> None:
    """Deletes a folder; a crash half way leaves a name that is never read and that the next start sweeps."""
    trash = folder.parent / f"{TRASH}{folder.name}"
    shutil.rmtree(trash, ignore_errors=True)
    os.rename(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)


def sweep(root: Path) -> list[str]:
    """Finishes deletions and removes unfinished saves of a run that died; returns the names removed."""
    if not root.is_dir():
        return []
    left = [p for p in root.iterdir() if p.name.startswith((TEMP, TRASH))]
    for path in left:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return sorted(path.name for path in left)


def read_complete(folder: Path) -> Complete:
    """COMPLETE.json, believed only if every character of it is what `commit` would have written; else DataError."""
    path = folder / COMPLETE
    try:
        data = path.read_bytes()
        content = json.loads(data)
        version, told = content["format_version"], content.pop("self_digest")
    except FileNotFoundError:
        raise DataError(str(path), "is missing", "a finished checkpoint has one") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(str(path), f"is unreadable ({type(error).__name__})", "the JSON that a save wrote") from None
    if isinstance(version, int) and version > FORMAT_VERSION and told == _self_digest(content):
        expected = f"this clipmill reads up to {FORMAT_VERSION}"
        raise NewerFormat(str(path), f"has format {version}", expected, "update clipmill")
    try:
        files = [FileEntry(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in content["files"]]
        step, world = int(content["step"]), int(content["world"])
        same = _complete_bytes(step, world, files) == data
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise DataError(str(path), "does not agree with its own digest", "the bytes that a save wrote")
    _check_names(path, step, world, files)
    return Complete(folder, step, world, tuple(files))


def _check_names(path: Path, step: int, world: int, files: list[FileEntry]) -> None:
    if step != step_of(path.parent):
        raise DataError(str(path), f"says step {step}", f"its folder says {step_of(path.parent)}")
    matches = [_FILE.fullmatch(file.name) for file in files]
    if not all(matches):
        raise DataError(str(path), "lists a file name that no save writes", "rank-000.safetensors and state.json only")
    ranks = {int(match.group(1)) for match in matches if match and match.group(1)}
    if ranks != set(range(world)) or STATE not in [file.name for file in files]:
        expected = f"state.json and files of all {world} ranks"
        raise DataError(str(path), f"lists files of ranks {sorted(ranks)}", expected)


def damage_of(folder: Path, file: FileEntry) -> str:
    """What is wrong with one file against its entry, in words that name it; "" when it is untouched."""
    path = folder / file.name
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"{path}: holds {size} bytes; {file.bytes} were written"
        found = storage.sha256_of(str(path))
    except FileNotFoundError:
        return f"{path}: is missing; {file.bytes} bytes were written"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    except (StorageError, DataError) as error:
        return f"{path}: {error.found}"
    return "" if found == file.sha256 else f"{path}: sha256 is {found[:12]}...; {file.sha256[:12]}... was written"
