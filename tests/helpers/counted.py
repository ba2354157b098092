"""Functions for the stages `function` and `generate` that write down, in a file, how often they were asked."""

import os
from typing import Any


def _count(log: str, word: str, number: int) -> None:
    with open(log, "a") as file:  # by any process
        file.write(f"{word} {number} {os.getpid()}\n")


def picture(rows: list[dict[str, Any]], log: str) -> list[dict[str, Any]]:
    _count(log, "picture", len(rows))
    return [{"bytes": len(row["image"])} for row in rows]


def text(rows: list[dict[str, Any]], log: str) -> list[dict[str, Any]]:
    _count(log, "text", len(rows))
    return [{"length": len(row["text"])} for row in rows]


def pair(rows: list[dict[str, Any]], log: str) -> list[dict[str, Any]]:
    _count(log, "pair", len(rows))
    return [{"texts": len(row["captions"])} for row in rows]


def caption(rows: list[dict[str, Any]], log: str) -> list[Any]:
    _count(log, "caption", len(rows))
    return [[f"a picture of {len(row['image'])} bytes"] for row in rows]


def asked(log: str) -> dict[str, int]:
    """word -> inputs in all."""
    found: dict[str, int] = {}
    if os.path.exists(log):
        with open(log) as file:
            for line in file:
                word, number, _ = line.split()
                found[word] = found.get(word, 0) + int(number)
    return found
