"""What the installed open_clip knows, read off its files: importing it would cost seconds and torch."""

import ast
import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

CONFIGS = {
    "vision_cfg": (("model.py", "CLIPVisionCfg"),),
    "text_cfg": (("model.py", "CLIPTextCfg"),),
    "multimodal_cfg": (("coca_model.py", "MultimodalCfg"), ("model.py", "CLIPTextCfg")),  # the one is one of the other
}


@functools.cache
def known_fields(section: str) -> frozenset[str]:
    """The keys that open_clip takes in `vision_cfg`, `text_cfg` or `multimodal_cfg`; none where they cannot be told."""
    parts = [_fields(*place) for place in CONFIGS[section]]
    return frozenset().union(*parts) if all(parts) else frozenset()


def _fields(file: str, name: str) -> frozenset[str]:
    folder = _folder()
    try:
        tree = ast.parse((folder / file).read_text(encoding="utf-8")) if folder else ast.Module([], [])
    except (OSError, SyntaxError):
        return frozenset()
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    fields = (statement.target for node in classes for statement in node.body if isinstance(statement, ast.AnnAssign))
    return frozenset(target.id for target in fields if isinstance(target, ast.Name))


def known_config(name: str) -> dict[str, Any] | None:
    """open_clip's own config of a model name; None when it has none (or is not installed)."""
    folder = _folder()
    path = folder / "model_configs" / f"{name.replace('/', '-')}.json" if folder else None
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        return None


def known_names() -> list[str]:
    folder = _folder()
    return sorted(path.stem for path in (folder / "model_configs").glob("*.json")) if folder else []


def _folder() -> Path | None:
    spec = importlib.util.find_spec("open_clip")
    return Path(spec.origin).parent if spec and spec.origin else None
