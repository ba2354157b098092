"""What pydantic finds wrong with a section, as one RecipeError: dotted path, what was found, what to type."""

import difflib
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import RecipeError

_OF_TYPE = ("_type", "_parsing", "literal_error")
_SHOWN = 200  # characters of a value in a message


def explained(error: ValidationError, source: str, section: str, value: Any, model: type[BaseModel]) -> RecipeError:
    """The first fault in words; the others are counted."""
    fault, reason, others = _first(error.errors(include_url=False), value)
    path = [section, *_steps(fault, value)]
    more = f" (and {others} more)" if others else ""
    kind, ctx = fault["type"], fault.get("ctx", {})
    where = f"{source}: {'.'.join(path)}"
    if kind == "extra_forbidden":
        known = _known_keys(model, fault["loc"][:-1])
        near = difflib.get_close_matches(path[-1], known, 1)
        hint = f"did you mean `{near[0]}`?" if near else "clipmill schema lists every setting"
        return RecipeError(where, f"unknown key{more}", f"expected one of {', '.join(known)}" if known else "", hint)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = [k.strip(" '") for k in str(ctx.get("expected_tags", "")).split(",") if k.strip()]
        found = f"unknown kind {ctx['tag']!r}" if "tag" in ctx else "has no `kind`"
        near = difflib.get_close_matches(str(ctx.get("tag", "")), known, 1)
        hint = f"did you mean `{near[0]}`?" if near else "clipmill schema lists every kind"
        return RecipeError(f"{where}.kind", found + more, f"expected one of {', '.join(known)}" if known else "", hint)
    if kind == "missing":
        return RecipeError(where, f"is missing{more}", "this setting has no default", f"{'.'.join(path)}=...")
    return RecipeError(where, f"found {shown(fault['input'])}{more}", reason, f"{'.'.join(path)}=...")


def _first(faults: list[ErrorDetails], value: Any) -> tuple[ErrorDetails, str, int]:
    """The first fault, in words, and how many others there are.

    Where a setting may be of several sorts pydantic says of each why it is none of them: told is what the value is
    nearest to (of the right type, but too small, or so in an item), and if it is of no type, all that it might be. Of a
    list with a fault in it pydantic says, too, that an item is lacking.
    """
    steps = {id(each): _steps(each, value) for each in faults}
    at = steps[id(faults[0])]
    depth, _ = sort = _sort_of(faults[0], value)
    if any(_sort_of(each, value) != sort for each in faults if steps[id(each)][:depth] == at[:depth]):
        at = at[:depth]
    alike = [each for each in faults if steps[id(each)][: len(at)] == at]
    around = [at[:depth] for depth in range(len(at))]
    others = {tuple(steps[id(each)]) for each in faults if each not in alike and steps[id(each)] not in around}
    untyped = [each for each in alike if each["type"].endswith(_OF_TYPE)]
    near = [each for each in alike if each not in untyped] or [each for each in alike if steps[id(each)] != at]
    words = [_words(each) for each in near[:1] or alike]
    reason = " or ".join([words[0], *(each.removeprefix("input should be ") for each in words[1:])])
    return [*near, faults[0]][0], reason, len(others)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _words(fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list").replace("Tuple", "list")
    return message[:1].lower() + message[1:]


def booleans_as_numbers(raw: Any, model: BaseModel, path: str = "") -> Iterator[str]:
    """Dotted paths where true or false stands for a number: pydantic would take them for 1 and 0."""
    return _mixed(raw, model.model_dump(by_alias=True), path)


def _mixed(raw: Any, valid: Any, path: str) -> Iterator[str]:
    if isinstance(raw, bool) and isinstance(valid, (int, float)) and not isinstance(valid, bool):
        yield path
    elif isinstance(raw, dict) and isinstance(valid, dict):
        for key, inner in raw.items():
            yield from _mixed(inner, valid.get(key), f"{path}.{key}")
    elif isinstance(raw, list) and isinstance(valid, (list, tuple)):
        for i, inner in enumerate(raw[: len(valid)]):
            yield from _mixed(inner, valid[i], f"{path}.{i}")


def _steps(fault: ErrorDetails, value: Any) -> list[str]:
    """The path as the user wrote it: pydantic inserts tag, model or type of a union, which is no key of the recipe."""
    return [str(step) for step, is_sort in _walk(fault, value) if not is_sort]


def _sort_of(fault: ErrorDetails, value: Any) -> tuple[int, int | str]:
    """How deep in that path a setting stands that may be of several sorts and does not say by `kind` which; and of
    which sort it was taken to be."""
    depth = 0
    for step, is_sort in _walk(fault, value):
        if is_sort == "type":
            return depth, step
        depth += not is_sort
    return depth, ""


def _walk(fault: ErrorDetails, value: Any) -> Iterator[tuple[int | str, Literal["", "kind", "type"]]]:
    """The steps of a fault's place; of what is no key, whether it is a kind or another sort."""
    node = value
    for at, step in enumerate(fault["loc"], 1):
        if isinstance(node, list) and isinstance(step, int):
            node = node[step] if step < len(node) else None
        elif isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, dict) and node.get("kind") == step:
            yield step, "kind"
            continue
        elif at < len(fault["loc"]) or fault["type"] != "missing":
            yield step, "type"
            continue
        yield step, ""


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at `loc`, found through the JSON schema, which already resolves unions and lists."""
    schema = model.model_json_schema()
    node: Any = schema
    for step in loc:
        node = _descend(schema, node, step)
        if node is None:
            return []
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict, node: dict) -> dict:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _descend(schema: dict, node: dict, step: int | str) -> dict | None:
    node = _resolve(schema, node)
    if isinstance(step, int):
        return node.get("items")
    if step in node.get("properties", {}):
        return node["properties"][step]
    for option in [*node.get("anyOf", []), *node.get("oneOf", [])]:
        option = _resolve(schema, option)
        if step in (option.get("properties", {}).get("kind", {}).get("const"), option.get("title")):
            return option
        found = _descend(schema, option, step)
        if found is not None:
            return found
    return None
