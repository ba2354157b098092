"""YAML without its surprises: no duplicate keys, no aliases, no tags, few levels; `1e-4` is a number, `no` a word."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import RecipeError, one_line

MAX_BYTES = 1 << 20
MAX_DEPTH = 40  # of nested lists and mappings; recipes need six
MAX_DIGITS = 40
_PLAIN = (str, int, float, bool, type(None))
_TAGS = ("str", "int", "float", "bool", "null", "seq", "map")


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):  # a 288-byte file of aliases can expand to 43 million leaves
            raise _fault("aliases (*name) are not allowed", event)
        if getattr(event, "tag", None) not in (None, "!", *(f"tag:yaml.org,2002:{tag}" for tag in _TAGS)):
            raise _fault(f"the tag {event.tag} is not allowed", event)
        if self._depth >= MAX_DEPTH:  # before Python's own recursion ends
            raise _fault(f"more than {MAX_DEPTH} levels of nesting", event)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, _PLAIN):
                raise _fault("a key is a list or a mapping", key_node)
            if key in seen:
                raise _fault(f"the key '{key}' appears twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        text = self.construct_scalar(node)
        if len(text) > MAX_DIGITS:  # Python refuses to read 5,000 digits, and nobody means them
            raise _fault(f"a number of {len(text)} characters", node)
        try:
            whole = node.tag.endswith(":int")
            return int(text.replace("_", "")) if whole else float(text.replace("_", ""))
        except ValueError:
            raise _fault(f"'{text}' is no number", node) from None


def _fault(words: str, place: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, words, place.start_mark)


# YAML 1.1 reads `no` as false, `1e-4` as text and `012` as octal; the core schema of YAML 1.2 does not.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|false|False)$", "tTfF"),
    ("null", r"^(?:~|null|Null|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def parsed(text: str) -> Any:
    """The plain data of a YAML text: mappings, lists, texts, numbers, booleans, null. ValueError in one line."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(one_line(error)) from None


def read_document(path: Path, name: str) -> dict[Any, Any]:
    """The mapping that a recipe file holds. RecipeError for everything else that can lie at a path."""
    expected = "expected one YAML mapping in UTF-8"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
        content = parsed(text) if len(data) <= MAX_BYTES else None
    except OSError as error:
        raise RecipeError(name, f"cannot be read: {error.strerror}", "expected a readable file") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise RecipeError(name, f"is not readable YAML: {one_line(error)}", expected) from None
    if len(data) > MAX_BYTES:
        raise RecipeError(name, f"is larger than {MAX_BYTES:,} bytes", expected)
    if not isinstance(content, dict):
        raise RecipeError(name, f"holds {type(content).__name__}", "expected a mapping with curate, train or eval")
    return content
