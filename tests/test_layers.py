"""The house rules that can be read off the imports and the names of files."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import outputs
from pipeline.contract.manifest import MANIFEST
from pipeline.contract.pairs import INDEX
from tests.helpers.places import ROOT

OURS = ("pipeline", "curation", "training")
FILES = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))

# The floors of the house, ground floor first. A room (a folder, or a file beside the folders) imports only from floors
# below its own: so there is no upward import and no circle between rooms. A folder in a folder is a room of its own
# where it stands on a floor of its own.
FLOORS = [
    ["pipeline.errors"],
    [
        "pipeline.log",
        "pipeline.settings",
        "pipeline.draws",
        "pipeline.outputs",
        "pipeline.signals",
        "pipeline.streams",
        "pipeline.arguments",
    ],
    ["pipeline.storage", "pipeline.progress"],
    [
        "pipeline.contract",
        "pipeline.images",
        "pipeline.recipe",
        "training.rows",
        "training.scheduled",
        "training.wanted",
    ],
    ["pipeline.report", "pipeline.plan", "pipeline.cluster.rundir"],
    ["pipeline.reports", "pipeline.cluster.node"],
    ["pipeline.cluster.k8s"],
    ["pipeline.cluster.schedulers"],
    ["curation.table", "curation.images", "curation.showing", "training.surgery", "training.plan"],
    ["training.ranks", "training.towers"],
    ["curation.stage", "training.reader", "training.terms", "training.engine", "training.output"],
    ["training.checkpoint"],
    ["training.companions"],
    ["curation.methods", "curation.stage_order", "training.step", "training.evals"],
    ["curation.pool", "curation.generation"],
    ["curation.sources", "curation.stages"],
    ["curation.fetch"],
    ["curation.settings", "training.settings"],
    ["curation.job", "curation.head", "curation.metadata", "training.changes", "training.stages"],
    ["training.finished"],
    ["training.run", "training.score", "training.replay", "training.reinforce", "training.costs"],
    ["curation.states", "training.opening"],
    ["curation.books", "training.loop", "training.export"],
    ["curation.emit", "training.launch"],
    ["curation.runner"],
    ["pipeline.jobs"],
    ["pipeline.cluster"],
    ["pipeline.cli"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# One doorway per big package: only files under these prefixes may import it.
DOORWAYS = {
    "ray": ("curation/runner/",),
    "open_clip": ("training/towers/", "curation/methods/vectors/clip_model.py", "curation/generation/backends/coca.py"),
    "deepspeed": ("training/engine/zero.py",),
    "torch.distributed": ("training/ranks/peers.py",),
    "webdataset": (),
    "fsspec": ("pipeline/storage/files.py",),
}
# No kind of a literal table imports another one.
TABLES = (
    "curation/stages", "curation/sources", "training/terms", "training/terms/targets", "training/evals",
    "training/reader/captions", "training/engine/optimizers", "training/step/schedules", "training/plan/presets",
    "training/companions",
)  # fmt: skip

# What the outputs consist of, each name said once: there, and elsewhere by the constant.
NAMES = {INDEX, MANIFEST, *(name for key, name in vars(outputs).items() if key.isupper())}
NAMERS = ("pipeline/outputs.py", "pipeline/contract/manifest.py", "pipeline/contract/pairs.py")


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth, lazily or for types alone; `from a.b import c` gives both."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(module: str) -> str:
    inner = ".".join(module.split(".")[:3])
    return inner if inner in FLOOR else ".".join(module.split(".")[:2])


def upward(files: list[Path], root: Path) -> list[str]:
    """Imports that do not lead to a lower floor, and rooms that stand on none."""
    found = []
    for path in files:
        here = room_of(module_of(path, root))
        if "." not in here:
            continue
        for module in imports(path):
            there = room_of(module)
            if module.split(".")[0] not in OURS or "." not in there or there == here:
                continue
            if here not in FLOOR or there not in FLOOR:
                found.append(f"{here} or {there} stands on no floor of tests/test_layers.py")
            elif FLOOR[there] >= FLOOR[here]:
                found.append(f"{module_of(path, root)} (floor {FLOOR[here]}) imports {module} (floor {FLOOR[there]})")
    return found


def breaches(files: list[Path], root: Path) -> list[str]:
    """Imports through a wall: of the other half, or of a big package past its doorway."""
    found = []
    for path in files:
        place = path.relative_to(root).as_posix()
        half = place.split("/")[0]
        for module in imports(path):
            top = module.split(".")[0]
            if half == "curation" and top == "training" or half == "training" and top == "curation":
                found.append(f"{place}: imports {module} of the other half")
            if half == "pipeline" and top in ("curation", "training") and place != "pipeline/jobs.py":
                found.append(f"{place}: imports {module}; only pipeline/jobs.py opens a half")
            for package, doors in DOORWAYS.items():
                inside = module == package or module.startswith(package + ".")
                if inside and not place.startswith(doors or ("-",)):
                    found.append(f"{place}: imports {module}; its doorway is {doors or 'the tests'}")
    return found


def circles(files: list[Path], root: Path) -> list[str]:
    """Files that import each other, directly or through others."""
    known = {module_of(path, root): path for path in files}
    edges = {}
    for name, path in known.items():
        found = {module for module in imports(path) if module in known} - {name}
        edges[name] = {m for m in found if not any(other.startswith(m + ".") for other in found)}  # a.b.c, not a.b
    reach = {name: set(targets) for name, targets in edges.items()}
    grown = True
    while grown:
        grown = False
        for found in reach.values():
            more = set().union(*(reach[name] for name in found)) - found if found else set()
            found |= more
            grown = grown or bool(more)
    return sorted(name for name in known if name in reach[name])


def spelt(path: Path) -> list[str]:
    """Names of output files in a file's strings, docstrings apart: alone, in a path, or (with a suffix) in a text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    aside = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    sought = "|".join(
        rf"\b{re.escape(name)}(?!\.?\w)" if "." in name else rf"(^|/){name}($|/)" for name in sorted(NAMES)
    )
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [f"{path}:{node.lineno}" for node in texts if id(node) not in aside and re.search(sought, node.value)]


def test_no_import_crosses_a_wall():
    assert breaches(FILES, ROOT) == []


def test_every_import_leads_to_a_lower_floor():
    assert upward(FILES, ROOT) == []


def test_every_room_on_a_floor_is_there():
    rooms = {room_of(module_of(path, ROOT)) for path in FILES} - set(OURS)
    assert rooms == set(FLOOR)


def test_no_files_import_each_other():
    assert circles(FILES, ROOT) == []


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
        ("training/x.py", "def f():\n    import deepspeed"),
        ("training/x.py", "import torch.distributed as dist"),
        ("pipeline/x.py", "import curation"),
    ],
)
def test_a_planted_breach_is_found(tmp_path, place, line):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert breaches([path], tmp_path)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("curation/pool/x.py", "from curation.books import ledger"),
        ("training/engine/x.py", "def f():\n    from training.step.schedule import lr_at"),
        ("pipeline/contract/x.py", "from pipeline.recipe import load"),
        ("curation/methods/x.py", "from curation.pool.store import PoolSink"),  # the same floor
        ("curation/attic/x.py", "from pipeline import errors"),  # a room on no floor
    ],
)
def test_a_planted_upward_import_is_found(tmp_path, place, line):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert upward([path], tmp_path)


def test_a_planted_circle_is_found(tmp_path):
    folder = tmp_path / "curation/table"
    folder.mkdir(parents=True)
    for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        (folder / f"{name}.py").write_text(f"from curation.table import {other}")
    found = circles(sorted(folder.glob("*.py")), tmp_path)
    assert found == ["curation.table.a", "curation.table.b", "curation.table.c"]


def test_names_of_outputs_are_said_once():
    others = (path for folder in ("benchmarks", "examples") for path in (ROOT / folder).glob("*.py"))
    files = [path for path in (*FILES, *others) if path.relative_to(ROOT).as_posix() not in NAMERS]
    assert [hit for path in files for hit in spelt(path)] == []


@pytest.mark.parametrize("line", ['a = "index"', 'f"{b}/_pool"', 'f"no summary.json in {b}"', 'f("verdicts/x")'])
def test_a_planted_name_is_found(tmp_path, line):
    path = tmp_path / "x.py"
    path.write_text(f'"""It writes index/ and summary.json."""\n{line}\n')
    assert len(spelt(path)) == 1


@pytest.mark.parametrize("folder", TABLES)
def test_no_kind_of_a_table_imports_another(folder):
    package = folder.replace("/", ".")
    table = ast.parse((ROOT / folder / "__init__.py").read_text())
    kinds = {node.module for node in table.body if isinstance(node, ast.ImportFrom)}
    assert len(kinds) >= 1 and all(kind.startswith(package + ".") for kind in kinds)
    for kind in kinds:
        path = ROOT / (kind.replace(".", "/") + ".py")
        assert not (set(imports(path)) & kinds), path


@pytest.mark.parametrize("module", ["training.settings", "curation.settings", "pipeline.jobs"])
def test_settings_are_read_without_torch_or_ray(module):
    heavy = ("torch", "ray", "open_clip", "deepspeed", "transformers", "pandas", "scipy", "ftfy")
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_functions_and_folders_stay_small():
    too_long = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            too_long.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 60:
                too_long.append(f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines")
    for folder in {path.parent for path in FILES if path.relative_to(ROOT).parts[0] != "pipeline"}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        if len(files) > 12 and folder.relative_to(ROOT).as_posix() not in TABLES:  # a table is as long as its kinds
            too_long.append(f"{folder}: {len(files)} files at one level")
    assert too_long == []


def test_nothing_touches_the_import_path():
    for path in FILES:
        assert "sys.path" not in path.read_text(encoding="utf-8"), path
        assert path.name not in ("utils.py", "helpers.py", "common.py", "base.py", "misc.py")


def mirrored(test: Path, root: Path) -> bool:
    """tests/a/b/test_c.py and test_c_and_more.py judge a/b/c.py, or the room a/b/c/."""
    folder, words = root / test.relative_to(root / "tests").parent, test.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:n]) for n in range(1, len(words) + 1)]
    return any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for name in names)


def test_the_tests_mirror_the_tree():
    tests = [path for half in OURS for path in (ROOT / "tests" / half).rglob("test_*.py")]
    assert [str(path.relative_to(ROOT)) for path in tests if not mirrored(path, ROOT)] == []
    rooms = {path.parent.relative_to(ROOT) for path in FILES if path.name != "__init__.py"}
    tested = {path.relative_to(ROOT / "tests").parent for path in tests}
    assert rooms - tested == set(), "rooms without a test"
    stray = [
        path.name
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and path.name not in (*OURS, "helpers", "mutants")
    ]
    assert [name for name in stray if not name.startswith(("__", "."))] == []


def test_a_planted_stray_test_is_found(tmp_path):
    (tmp_path / "curation/pool").mkdir(parents=True)
    (tmp_path / "curation/pool/join.py").touch()
    folder = tmp_path / "tests/curation/pool"
    assert mirrored(folder / "test_join.py", tmp_path) and mirrored(folder / "test_join_order.py", tmp_path)
    assert not mirrored(folder / "test_measure.py", tmp_path)
