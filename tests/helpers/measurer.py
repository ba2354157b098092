"""Functions for the stage `function`."""

from typing import Any


def words(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"n": len(row["text"].split())} if row["text"] != "12" else {"reason": "a_number"} for row in rows]


def sizes(rows: list[dict[str, Any]], odd: str = "") -> list[dict[str, Any]]:
    sizes = [len(row["image"]) for row in rows]
    return [{"n": size, "even": size % 2 == 0} if size % 2 == 0 or not odd else {"reason": odd} for size in sizes]


def wide(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"x": f"{row['width']}: {len(row['captions'])}" if row["captions"] else None} for row in rows]


def bad(rows: list[dict[str, Any]], how: str) -> Any:
    made: list[dict[str, Any]] = [{"n": len(row["text"])} for row in rows]
    for row, answer in zip(rows, made, strict=True):
        if row["text"] == "bad":
            if how == "raise":
                raise KeyError("colour")
            answer |= {"type": {"n": "three"}, "huge": {"n": 2**40}, "name": {"m": 1}}.get(how, {})
    return made[1:] if how == "fewer" else made
