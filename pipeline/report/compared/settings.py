"""Settings that differ between the recipes of two runs. Stages are told apart by kind, so that one more moves none."""

from collections import Counter
from typing import Any

import yaml

from pipeline import storage
from pipeline.outputs import RECIPE
from pipeline.recipe.differences import Difference, differences

MAX_RECIPE = 1 << 20
_ELSEWHERE = ("curate.output", "train.output", "eval.output", "name")
"""Where a run lies and what it is called: said in the head of the page."""


def recipe_of(folders: list[str]) -> dict[str, Any]:
    """What the outputs of a run say it was made by, their sections together; {} where they say nothing."""
    found: dict[str, Any] = {}
    for folder in folders:
        url = storage.join(folder, RECIPE)
        if not storage.exists(url) or storage.size(url) > MAX_RECIPE:
            continue
        try:
            told = yaml.safe_load(storage.read_bytes(url).decode("utf-8", "replace"))
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
        if isinstance(told, dict):
            found = {**told, **found}
    return found


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """Leaf by leaf, in the order of `b`."""
    return differences(_by_kind(a), _by_kind(b), ignored=_ELSEWHERE)


def _by_kind(value: Any) -> Any:
    """Lists of things of a kind as mappings: `threshold`, `threshold-2`, as stages are named."""
    if isinstance(value, dict):
        return {str(key): _by_kind(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if not value or not all(isinstance(item, dict) and isinstance(item.get("kind"), str) for item in value):
        return [_by_kind(item) for item in value]
    seen: Counter[str] = Counter()
    named = {}
    for item in value:
        seen[item["kind"]] += 1
        number = seen[item["kind"]]
        named[item["kind"] if number == 1 else f"{item['kind']}-{number}"] = _by_kind(item)
    return named
