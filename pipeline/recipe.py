"""Reads a recipe: one YAML file, dotted overrides, environment variables; knows no setting by name.

    recipe = load("demo", ["train.batch.global=512", "curate.sources.0.paths=['a.warc.gz']"])
    settings = recipe.section("curate", CurateSettings)

Sections are validated by the settings model of their owner; every fault is a RecipeError with its dotted path.
"""

import difflib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import RecipeError
from pipeline.settings import digest_of

BUILT_IN = Path(__file__).parent / "recipes"
SECTIONS = ("name", "seed", "curate", "train", "eval")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_Model = TypeVar("_Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: no duplicate keys, no aliases, `1e-4` is a number, only true/false are booleans."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # a 288-byte file of aliases can expand to 43 million leaves
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not allowed", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `no` as false, `1e-4` as text and `012` as octal; the core schema of YAML 1.2 does not.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|false|False)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


@dataclass(frozen=True)
class Recipe:
    """A recipe as data: file, overrides and variables applied, not yet validated."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self._scalar("name", str, Path(self.source).stem)

    @property
    def seed(self) -> int:
        return self._scalar("seed", int, 0)

    def _scalar(self, key: str, kind: type, default: Any) -> Any:
        value = self.data.get(key, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RecipeError(
                f"{self.source}: {key}", f"found {value!r}", f"expected {kind.__name__}", f"{key}={default}"
            )
        return value

    def has(self, section: str) -> bool:
        return section in self.data

    def section(self, section: str, model: type[_Model]) -> _Model:
        """The section as its owner's settings; RecipeError naming the dotted path of the first fault."""
        if section not in self.data:
            hint = f"add a `{section}:` section; `clipmill recipes` lists complete recipes"
            raise RecipeError(self.source, f"has no section `{section}`", "this command needs it", hint)
        value = expand(self.data[section], f"{self.source}: {section}")
        if not isinstance(value, dict):
            raise RecipeError(
                f"{self.source}: {section}", f"found {type(value).__name__}", "expected a mapping of settings"
            )
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise _explain(error, self.source, section, value, model) from None

    def as_yaml(self) -> str:
        """The recipe with overrides and variables applied, to be saved beside what was made by it."""
        return yaml.safe_dump(expand(self.data, self.source, lenient=True), sort_keys=False, allow_unicode=True)


def load(recipe: str, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Reads a recipe file or a built-in recipe by name and applies `dotted.path=value` overrides."""
    path = find(recipe)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(
            str(recipe), f"is not readable YAML: {_one_line(error)}", "expected one YAML mapping"
        ) from None
    if not isinstance(data, dict):
        raise RecipeError(str(recipe), f"holds {type(data).__name__}", "expected a mapping with curate, train or eval")
    for override in overrides:
        _apply(data, override)
    for key in data:
        if key not in SECTIONS:
            near = difflib.get_close_matches(str(key), SECTIONS, 1)
            hint = f"did you mean `{near[0]}`?" if near else "remove it"
            raise RecipeError(f"{recipe}: {key}", "unknown key", f"expected one of {', '.join(SECTIONS)}", hint)
    return Recipe(str(recipe), data)


def built_in() -> list[Path]:
    return sorted(BUILT_IN.glob("*.yaml"))


def find(recipe: str) -> Path:
    """The file of a recipe given by path, or by the bare name of a built-in one."""
    path = Path(recipe)
    if path.is_file():
        return path
    named = BUILT_IN / f"{recipe}.yaml"
    if "/" not in recipe and named.is_file():
        return named
    names = [p.stem for p in built_in()]
    near = difflib.get_close_matches(path.stem, names, 1)
    hint = f"did you mean `{near[0]}`?" if near else "clipmill recipes"
    raise RecipeError(recipe, "no such file or built-in recipe", f"built-in recipes: {', '.join(names)}", hint)


def digest(recipe: Recipe) -> str:
    """Names what the recipe says with its variables applied: another $CLIPART is another recipe."""
    return digest_of(expand(recipe.data, recipe.source, lenient=True))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, sign, text = override.partition("=")
    if not sign or not dotted:
        raise RecipeError(override, "is not an override", "expected dotted.path=value", "train.batch.global=512")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(
            dotted, f"the value {text!r} is not YAML: {_one_line(error)}", "quote it for the shell"
        ) from None
    *parents, last = dotted.split(".")
    node: Any = data
    for depth, name in enumerate(parents):
        node = _child(node, name, ".".join(parents[: depth + 1]))
    _child(node, last, dotted, value)


_MISSING = object()


def _child(node: Any, name: str, dotted: str, value: Any = _MISSING) -> Any:
    """Steps into (or sets) one word of a dotted path; a missing mapping key is created, a list index must exist."""
    if isinstance(node, list):
        if not name.isdigit() or int(name) > len(node) - (value is _MISSING):
            raise RecipeError(
                dotted, f"no item {name!r}", f"the list has items 0 to {len(node) - 1}", "use a list index"
            )
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


def expand(value: Any, where: str, lenient: bool = False) -> Any:
    """Replaces ${NAME} and ${NAME:-default} in every string by environment variables.

    RecipeError for one that is not set and has no default; `lenient` leaves it as it is written.
    """
    if isinstance(value, dict):
        return {k: expand(v, f"{where}.{k}", lenient) for k, v in value.items()}
    if isinstance(value, list):
        return [expand(v, f"{where}.{i}", lenient) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name, default)
        if found is None and lenient:
            return match.group(0)
        if found is None:
            hint = f"export {name}=... or override {where.rsplit(': ', 1)[-1]}=..."
            raise RecipeError(where, f"the environment variable {name} is not set", "this recipe needs it", hint)
        return found

    return _VARIABLE.sub(look_up, value)


def _explain(error: ValidationError, source: str, section: str, value: Any, model: type[BaseModel]) -> RecipeError:
    """The first fault in words; the others are counted."""
    faults = error.errors(include_url=False)
    fault = faults[0]
    path = [section, *_steps(fault, value)]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
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
    found = f"found {fault['input']!r}{more}"
    return RecipeError(where, found, fault["msg"][0].lower() + fault["msg"][1:], f"{'.'.join(path)}=...")


def _steps(fault: ErrorDetails, value: Any) -> list[str]:
    """The path as the user wrote it: pydantic inserts the union tag, which is no key of the recipe."""
    steps: list[str] = []
    node = value
    for step in fault["loc"]:
        if isinstance(node, list) and isinstance(step, int):
            node = node[step] if step < len(node) else None
        elif isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, dict) and node.get("kind") == step:
            continue
        else:
            node = None
        steps.append(str(step))
    return steps


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
        if option.get("properties", {}).get("kind", {}).get("const") == step:
            return option
        found = _descend(schema, option, step)
        if found is not None:
            return found
    return None
