"""A function for the stage `generate`."""

from typing import Any


def describe(rows: list[dict[str, Any]]) -> list[Any]:
    sizes = [len(row["image"]) for row in rows]
    return [{"failed": "refusal"} if size % 7 == 0 else [f"a picture of {size} bytes"] for size in sizes]


def contradict(rows: list[dict[str, Any]]) -> list[Any]:
    """Of every text a copy that is wrong, one that is no copy at all, and one that many texts have."""
    return [[f"no {row['text']}", row["text"], "a dog of seven heads"] for row in rows]


def four(rows: list[dict[str, Any]]) -> list[Any]:
    """The same of every picture, whether they fit or not."""
    return [["a red boat", "two tall trees", "a city at night", "snow on a hill"] for _ in rows]
