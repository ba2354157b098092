"""Makes a run directory, or finds the one of an earlier submission: the same run id again is how a run is resumed."""

import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from pipeline import recipe as recipes
from pipeline import storage
from pipeline.cluster.rundir import control
from pipeline.cluster.rundir.paths import OUTPUTS, RunDir, read_object
from pipeline.errors import RecipeError, UsageError
from pipeline.recipe import Recipe
from pipeline.recipe.differences import differences

PACKAGES = ("clipmill", "torch", "deepspeed", "open_clip_torch", "ray", "numpy", "pyarrow", "pillow", "webdataset")
REVISION = "CLIPMILL_REVISION"
"""Variable: what an image was built from."""
_ROOT = Path(__file__).parents[3]
_MOST_SHOWN = 5


def frozen(recipe: Recipe, path: Path) -> Recipe:
    """The recipe as the run goes by it: named, overrides and variables applied; outputs that it does not name lie in
    the run directory, and what comes after curation reads what that has made."""
    data = dict(yaml.safe_load(recipe.as_yaml()) or {})
    data = {"name": recipe.name, **data}
    for section in OUTPUTS:
        _fill(data.get(section), "output", str(path / section))
    if isinstance(data.get("curate"), dict):
        for section in ("reinforce", "train"):
            _fill(data.get(section), "data", [data["curate"]["output"]])
    return Recipe(str(path / "run.yaml"), data)


def _fill(section: Any, key: str, value: Any) -> None:
    if isinstance(section, dict) and section.get(key) is None:
        section[key] = value


def create(path: Path, recipe: Recipe, new_recipe: bool = False, uncancel: bool = False) -> RunDir:
    """The run directory at `path`, made or found; a stop that a user asked for ends here.

    Of several that make it at once one does, and the others find it. RecipeError when it was made by another recipe,
    unless `new_recipe`; UsageError when it was cancelled, unless `uncancel`, and when a folder is in the way that is no
    run directory.
    """
    run = RunDir(path.absolute())
    wanted = frozen(recipe, run.path)
    if not _made(run, wanted):
        _check(run, wanted, new_recipe, uncancel)
        if new_recipe:
            _write(run, run, wanted)
    if not run.about.exists():  # lost, or whoever makes the run is about to write it
        _write_about(run, run, wanted)
    for folder in (run.control, run.logs):
        with storage.storage_errors(folder):
            folder.mkdir(exist_ok=True)
    for word in ("stop", "cancel", "save"):
        control.clear(run, word)
    return run


def _made(run: RunDir, wanted: Recipe) -> bool:
    """Whether this very call has made it: written aside and given its name whole, so that nobody finds half of one."""
    if run.recipe.exists():
        return False
    if run.path.exists() and _others(run, wanted) and not run.recipe.exists():  # looked at again: it may have come
        raise UsageError(str(run.path), "is no run directory", "one that submit has made, or none", "--run-dir OTHER")
    aside = RunDir(run.path.with_name(f"{storage.TEMP_PREFIX}{secrets.token_hex(6)}-{run.id}"))
    with storage.storage_errors(run.path):
        try:
            for folder in (aside.control, aside.logs):
                folder.mkdir(parents=True)
            _write(aside, run, wanted)
            return _moved(aside, run)
        finally:
            shutil.rmtree(aside.path, ignore_errors=True)


def _moved(aside: RunDir, run: RunDir) -> bool:
    """False where another was first. A folder that outputs lie in gets the recipe by a link, which never replaces."""
    try:
        os.rename(aside.path, run.path)
        return True
    except OSError:
        if not run.path.is_dir():
            raise
    try:
        os.link(aside.recipe, run.recipe)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        os.rename(aside.recipe, run.recipe)
    return True


def _write(at: RunDir, run: RunDir, wanted: Recipe) -> None:
    """The files of `run`, to lie at `at`."""
    _write_about(at, run, wanted)
    storage.publish_bytes(str(at.recipe), wanted.as_yaml().encode())  # last: with it the run is there


def _write_about(at: RunDir, run: RunDir, wanted: Recipe) -> None:
    about = {"run": run.id, "recipe_digest": recipes.digest(wanted), "folder": os.getcwd(), **versions()}
    storage.publish_json(str(at.about), {"format_version": 1, **about})


def open_run(path: Path | str) -> RunDir:
    """UsageError when there is none."""
    run = RunDir(Path(path).absolute())
    if not run.recipe.exists():
        hint = "clipmill submit RECIPE --on local --run-dir DIR makes one"
        raise UsageError(str(path), "is no run directory", f"a folder with a {run.recipe.name}", hint)
    return run


def load(run: RunDir) -> Recipe:
    return recipes.load(str(run.recipe))


def about(run: RunDir) -> dict[str, Any]:
    """What is in run.json; empty where it was lost, since nothing depends on it."""
    return read_object(run.about) or {}


def _others(run: RunDir, wanted: Recipe) -> list[str]:
    """What lies in the folder besides outputs that this recipe names there."""
    outputs = [Path(str(wanted.data[section].get("output"))).absolute() for section in OUTPUTS if wanted.has(section)]
    ours = {path.relative_to(run.path).parts[0] for path in outputs if run.path in path.parents}
    return [path.name for path in run.path.iterdir() if path.name not in ours]


def _check(run: RunDir, wanted: Recipe, new_recipe: bool, uncancel: bool) -> None:
    found = differences(load(run).data, wanted.data)
    if found and not new_recipe:
        shown = "; ".join(map(str, found[:_MOST_SHOWN])) + (" ..." if len(found) > _MOST_SHOWN else "")
        hint = "give it another --run-dir, or --new-recipe to go on in this one by the new recipe"
        raise RecipeError(str(run.path), f"was made by another recipe: {shown}", "the same", hint)
    if control.asked(run, "cancel") is not None and not uncancel:
        hint = "clipmill submit ... --uncancel, or another --run-dir"
        raise UsageError(str(run.path), "was cancelled", "a run that may go on", hint)


def versions(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Of what computes: Python, packages, and the git revision of the source: of the checkout, or in an image the one
    that it says it was built from."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    built = environment.get(REVISION, "")
    git = _git() or (None if built in ("", "unknown") else built)  # what k8s/Dockerfile says without its argument
    return {"python": platform.python_version(), "packages": packages, "git": git}


def _git() -> str | None:
    """`<revision>`, with a + where files differ from it; None outside of a checkout or without git."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(_ROOT)]
        revision = subprocess.run([*asked, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run(
            [*asked, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")
