"""The house rules that can be read off the imports, ordinary and lazy alike."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("pipeline", "curation", "training")
FILES = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))

# One doorway per big package: only files under these prefixes may import it.
DOORWAYS = {
    "ray": ("curation/runner/",),
    "open_clip": ("training/towers.py",),
    "deepspeed": ("training/deepspeed_engine.py",),
    "torch.distributed": ("training/peers.py",),
    "webdataset": (),
    "fsspec": ("pipeline/contract/storage.py",),
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth; `from a.b import c` gives a.b and a.b.c."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def breaches(files: list[Path], root: Path) -> list[str]:
    found = []
    for path in files:
        place = path.relative_to(root).as_posix()
        half = place.split("/")[0]
        for module in imports(path):
            top = module.split(".")[0]
            if place.startswith("curation/stages/") and module.startswith("curation.stages."):
                if not place.endswith("__init__.py"):
                    found.append(f"{place}: a stage imports the stage {module}")
            if half == "curation" and top == "training" or half == "training" and top == "curation":
                found.append(f"{place}: imports {module} of the other half")
            if half in ("curation", "training") and module.startswith(("pipeline.cli", "pipeline.jobs")):
                found.append(f"{place}: imports the command line")
            if half == "pipeline" and top in ("curation", "training") and place != "pipeline/jobs.py":
                found.append(f"{place}: imports {module}; only pipeline/jobs.py opens a half")
            if place.startswith("pipeline/contract/") and top == "pipeline":
                if not module.startswith(("pipeline.contract", "pipeline.errors")) and module != "pipeline":
                    found.append(f"{place}: the contract imports {module}")
            for package, doors in DOORWAYS.items():
                inside = module == package or module.startswith(package + ".")
                if inside and not place.startswith(doors or ("-",)):
                    found.append(f"{place}: imports {module}; its doorway is {doors or 'the tests'}")
    return found


def test_no_import_crosses_a_wall():
    assert breaches(FILES, ROOT) == []


def test_halves_are_opened_only_inside_commands():
    tree = ast.parse((ROOT / "pipeline/jobs.py").read_text(encoding="utf-8"))
    for node in tree.body:
        names = [n.name for n in getattr(node, "names", [])] + [getattr(node, "module", "") or ""]
        assert not any(name.split(".")[0] in ("curation", "training") for name in names)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("curation/x.py", "from training.loop import train"),
        ("curation/x.py", "import ray"),
        ("curation/stages/x.py", "from curation.stages.balance import Balance"),
        ("training/x.py", "def f():\n    import deepspeed"),
        ("training/x.py", "import torch.distributed as dist"),
        ("pipeline/contract/x.py", "from pipeline.recipe import load"),
        ("pipeline/x.py", "import curation"),
    ],
)
def test_a_planted_breach_is_found(tmp_path, place, line):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert breaches([path], tmp_path)


def test_files_and_functions_stay_small():
    too_long = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            too_long.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 70:
                too_long.append(f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines")
    assert too_long == []


def test_nothing_touches_the_import_path():
    for path in FILES:
        assert "sys.path" not in path.read_text(encoding="utf-8"), path
        assert path.name != "utils.py"
