"""What the stages `function` and `generate` call."""

from typing import Any


def length(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"length": len(row["text"])} for row in rows]


def describe(rows: list[dict[str, Any]]) -> list[Any]:
    return [[f"a picture of {len(row['image'])} bytes"] for row in rows]
