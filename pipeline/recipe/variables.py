"""Environment variables in a recipe: ${NAME} and ${NAME:-default} in any text."""

import os
import re
from typing import Any

from pipeline.errors import RecipeError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(value: Any, where: str, lenient: bool = False) -> Any:
    """`value` with every variable replaced.

    RecipeError for one that is not set and has no default; `lenient` leaves it as it is written.
    """
    if isinstance(value, dict):
        return {key: expand(inner, f"{where}.{key}", lenient) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, f"{where}.{i}", lenient) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        text = os.environ.get(name, default)
        if text is None and lenient:
            return match.group(0)
        if text is None:
            hint = f"export {name}=... or override {where.rsplit(': ', 1)[-1]}=..."
            raise RecipeError(where, f"the environment variable {name} is not set", "this recipe needs it", hint)
        if _is_broken(text):
            raise RecipeError(
                where, f"the environment variable {name} is not UTF-8", "expected text", f"export {name}=..."
            )
        return text

    return _VARIABLE.sub(look_up, value)


def _is_broken(text: str) -> bool:
    """Bytes that are no UTF-8 come out of the environment as lone surrogates, which no file of ours can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
