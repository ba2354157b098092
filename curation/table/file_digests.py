"""Contents of files that a recipe names, as digests remembered per process by (address, size, stamp)."""

import hashlib

from pipeline import storage
from pipeline.errors import RecipeError, StorageError
from pipeline.storage import Listed

_DEEPEST = 32
_known: dict[Listed, str] = {}


def file_digest(path: str, where: str) -> str:
    """blake2b of a file's content; of a folder, of the names and contents of all files in it, at any depth. RecipeError
    naming `where` when something cannot be read. `path` may be an fsspec URL."""
    try:
        if storage.file_kind(path) == "folder":
            return _folder_digest(path)
        return _content(storage.listed(path))
    except (OSError, StorageError) as error:
        found = error.found if isinstance(error, StorageError) else error.strerror
        raise RecipeError(where, f"cannot read {storage.shown(path)}: {found}", "expected a readable file") from None


def files_in(folder: str, below: str = "") -> list[tuple[str, Listed]]:
    """(name relative to `folder`, file) of all files in it, at any depth, sorted by name."""
    here = storage.join(folder, below) if below else folder
    if below.count("/") > _DEEPEST:
        raise StorageError(storage.shown(here), f"folders more than {_DEEPEST} deep: a link that leads back?", "a set")
    files = [(f"{below}{storage.basename(file.url)}", file) for file in storage.list_folder(here).files]
    for name in storage.list_folders(here):
        files += files_in(folder, f"{below}{name}/")
    return sorted(files)


def _folder_digest(folder: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, file in files_in(folder):
        digest.update(f"{len(name)} {name} {_content(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _content(file: Listed) -> str:
    if not file.stamp:  # a store that says nothing of changes is asked anew
        return storage.blake2b_of(file.url)
    if file not in _known:
        _known[file] = storage.blake2b_of(file.url)
    return _known[file]
