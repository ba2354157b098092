"""Functions that a stage generate calls, in a module of its own that remembers its calls."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULE = """
calls, texts, stop_after, asked = [], [], None, 0


def caption(rows):
    if stop_after is not None and len(calls) + len(rows) > stop_after:
        raise RuntimeError("killed")
    calls.extend(rows)
    return [[f"a picture of {len(row['image'])} bytes"] for row in rows]


def sizes(rows):
    return [{"n": len(row["image"]), "label": "large"} for row in rows]


def whole(rows):
    global asked
    asked += len(rows)
    assert all(row["texts"] and row["label"] == "large" for row in rows)
    return [[f"{row['n']} bytes"] for row in rows]


def rewrite(rows):
    texts.extend(row["text"] for row in rows)
    return [[row["text"].upper()] for row in rows]
"""


def write_module(folder: Path, monkeypatch: Any) -> Iterator[Any]:
    (folder / "our_models.py").write_text(f"# {folder}: another digest, so that no process has opened it\n{MODULE}")
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("our_models")
    sys.modules.pop("our_models", None)
