"""`base: OTHER`: a recipe that says what differs from another, which is a built-in one or a file."""

from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.recipe.faults import shown

BASE = "base"
MAX_BASES = 8  # behind one another


def path_of(given: Any, file: Path, source: str) -> str:
    """What `base` of a recipe in `file` names: a path is seen from the folder that the recipe lies in."""
    if not isinstance(given, str) or not given.strip():
        expected = "expected a recipe: the name of a built-in one, or a path seen from this one's folder"
        raise RecipeError(f"{source}: {BASE}", f"found {shown(given)}", expected, f"{BASE}: demo")
    return str(file.parent / given) if given.endswith((".yaml", ".yml")) or "/" in given else given


def merged(under: Any, over: Any) -> Any:
    """`over` laid on `under`: key by key where both are mappings, unless `over` names a `kind` that `under` does not
    (one that is a default and not written is not known here). A list takes the other's place as a whole, as does null.
    """
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if "kind" in over and over["kind"] != under.get("kind"):
        return over
    return under | {key: merged(under.get(key), value) for key, value in over.items()}
