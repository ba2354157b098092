"""What differs between two sets of settings, by dotted path: for messages, and to say whether a run goes on."""

from collections.abc import Collection
from typing import Any, NamedTuple

from pipeline.settings import plain

_ABSENT = "(not set)"


class Difference(NamedTuple):
    path: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.path}: {short(self.before)} -> {short(self.now)}"


def differences(before: Any, now: Any, path: str = "", ignored: Collection[str] = ()) -> list[Difference]:
    """Every leaf that differs; `ignored` are dotted paths (from the top) that do not count, with all below them."""
    before, now = plain(before), plain(now)
    if path in ignored or before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(key for key in before if key not in now)]
        inner = ((before.get(key, _ABSENT), now.get(key, _ABSENT), f"{path}.{key}" if path else key) for key in keys)
        return [difference for old, new, where in inner for difference in differences(old, new, where, ignored)]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [d for i, (old, new) in pairs for d in differences(old, new, f"{path}.{i}", ignored)]
    return [Difference(path, before, now)]


def short(value: Any, limit: int = 80) -> str:
    """A value for a message, cut to `limit` characters."""
    text = value if value == _ABSENT else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
