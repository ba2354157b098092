"""A function for the stage `generate`."""

from typing import Any


def describe(rows: list[dict[str, Any]]) -> list[Any]:
    sizes = [len(row["image"]) for row in rows]
    return [{"failed": "refusal"} if size % 7 == 0 else [f"a picture of {size} bytes"] for size in sizes]
