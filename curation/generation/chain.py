"""Chains: several prompts one after the other, written once. Where settings are read they become their stages.

    - {kind: generate, chain: builtin:caption_then_fuse, name: recap, backend: {...}}
    - {kind: generate, chain: our/chain.yaml, ...}           a YAML list of steps
    - {kind: generate, chain: [{prompt: ..., ...}, ...], ...}

A step is the settings of a stage `generate` but for its `kind`; what is said beside `chain` holds for every step that
does not say it itself (a backend is put together field by field). `name` is the last step's; the others say their own.
"""

from importlib import resources
from typing import Any

import yaml

from pipeline.errors import one_line

BUILTIN = "builtin:"


def expanded(stages: Any) -> Any:
    """The stages of a recipe with each chain replaced by its steps. ValueError says what is wrong with one."""
    if not isinstance(stages, list):
        return stages
    found: list[Any] = []
    for stage in stages:
        found += _steps(stage) if isinstance(stage, dict) and "chain" in stage else [stage]
    return found


def _steps(stage: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {name: value for name, value in stage.items() if name != "chain"}
    if shared.get("kind") != "generate":
        raise ValueError(f"chain: expected it in a stage `generate`, found one of {shared.get('kind')!r}")
    steps = stage["chain"] if isinstance(stage["chain"], list) else _read(str(stage["chain"]))
    if not steps or not all(isinstance(step, dict) for step in steps):
        raise ValueError("chain: expected a list of steps, each with a prompt or a backend of its own")
    made = []
    for at, step in enumerate(steps):
        whole = {**shared, **step, "kind": "generate"}
        if isinstance(shared.get("backend"), dict) and isinstance(step.get("backend"), dict):
            whole["backend"] = {**shared["backend"], **step["backend"]}
        if at < len(steps) - 1 and "name" not in step:
            raise ValueError(f"chain, step {at + 1} of {len(steps)}: has no name; only the last one takes the chain's")
        if at == len(steps) - 1 and "name" in shared:
            whole["name"] = shared["name"]
        made.append(whole)
    return made


def _read(setting: str) -> list[Any]:
    known = ", ".join(f"{BUILTIN}{name}" for name in builtin_chains())
    try:
        if setting.startswith(BUILTIN):
            folder = resources.files("curation.generation") / "chains"
            text = (folder / f"{setting.removeprefix(BUILTIN)}.yaml").read_text("utf-8")
        else:
            with open(setting, encoding="utf-8") as file:
                text = file.read()
        found = yaml.safe_load(text)
    except OSError as error:
        raise ValueError(f"chain: cannot read {setting} ({error.strerror}); expected a file, or {known}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"chain: {setting}: {one_line(error)}") from None
    if not isinstance(found, list):
        raise ValueError(f"chain: {setting}: expected a YAML list of steps")
    return found


def builtin_chains() -> list[str]:
    folder = resources.files("curation.generation") / "chains"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
