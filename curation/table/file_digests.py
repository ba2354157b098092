"""Contents of files that a recipe names, as digests remembered per process by (path, size, time of change)."""

import os

from pipeline import storage
from pipeline.errors import RecipeError, StorageError

_known: dict[tuple[str, int, int], str] = {}


def file_digest(path: str, where: str) -> str:
    """blake2b of a file's content; RecipeError naming `where` when it cannot be read."""
    try:
        state = os.stat(path)
        key = (path, state.st_size, state.st_mtime_ns)
        if key not in _known:
            _known[key] = storage.blake2b_of(path)
    except (OSError, StorageError) as error:
        found = error.found if isinstance(error, StorageError) else error.strerror
        raise RecipeError(where, f"cannot read {path}: {found}", "expected a readable file") from None
    return _known[key]
