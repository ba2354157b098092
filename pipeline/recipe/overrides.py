"""`dotted.path=value` words of the command line, and settings that have moved since earlier recipes."""

from typing import Any

from pipeline.errors import RecipeError
from pipeline.log import get_logger
from pipeline.recipe.document import parsed

log = get_logger("recipe")
# Where settings of earlier recipes stand now; recipes are saved beside every output, and these stay readable.
MOVED = {("train", "launch"): "launch", ("eval", "launch"): "launch"}
_MISSING = object()


def apply(data: dict[Any, Any], override: str) -> None:
    """Sets one value; RecipeError naming the path when it leads nowhere."""
    dotted, sign, text = override.partition("=")
    if not sign or not dotted:
        raise RecipeError(override, "is not an override", "expected dotted.path=value", "train.batch.global=512")
    try:
        value = parsed(text)
        dotted.encode()
    except ValueError as error:
        raise RecipeError(dotted, f"the value {text!r} is not YAML: {error}", "quote it for the shell") from None
    *parents, last = _moved(dotted.split("."))
    node: Any = data
    for depth, name in enumerate(parents):
        node = _child(node, name, ".".join(parents[: depth + 1]))
    _child(node, last, dotted, value)


def _child(node: Any, name: str, dotted: str, value: Any = _MISSING) -> Any:
    """Steps into (or sets) one word of a dotted path; a missing mapping key is created, a list index must exist."""
    if not name:
        raise RecipeError(dotted, "has an empty word", "expected words with one dot between", "train.batch.global=512")
    if isinstance(node, list):
        if not (name.isascii() and name.isdecimal()) or int(name[:9]) > len(node) - (value is _MISSING):
            span = f"the list has items 0 to {len(node) - 1}" if node else "the list is empty"
            raise RecipeError(dotted, f"no item {name!r}", span, "use a list index")
        if value is not _MISSING:
            node[int(name) : int(name) + 1] = [value]
        return node[int(name)]
    if not isinstance(node, dict):
        raise RecipeError(dotted, f"its parent is {node!r}", "expected a mapping or a list")
    if value is not _MISSING:
        node[name] = value
        return value
    if node.get(name) is None:
        node[name] = {}
    return node[name]


def _moved(words: list[str]) -> list[str]:
    """The path as it is now, of one that earlier recipes had elsewhere."""
    for old, target in MOVED.items():
        if tuple(words[: len(old)]) == old:
            log.info("%s is now called %s", ".".join(old), target)
            return [target, *words[len(old) :]]
    return words


def move(data: dict[Any, Any], source: str) -> None:
    """Puts settings from where earlier recipes had them to where they are now, and says so."""
    for (section, name), target in MOVED.items():
        inside = data.get(section)
        if not isinstance(inside, dict) or name not in inside:
            continue
        old = f"{section}.{name}"
        before, now = inside[name], data.get(target)
        if now is not None and before is not None and now != before:
            found = f"{old} is {before!r} and {target} is {now!r}"
            raise RecipeError(f"{source}: {target}", found, f"expected {target} alone: it is for train and eval")
        del inside[name]
        if before is not None:
            data[target] = before
            log.info("%s: %s is now called %s", source, old, target)
