"""A recipe as data: found, read, overridden; its sections are validated by the settings of their owners."""

import difflib
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import RecipeError
from pipeline.recipe import based, faults, overrides
from pipeline.recipe.document import read_document
from pipeline.recipe.variables import expand
from pipeline.settings import digest_of

BUILT_IN = Path(__file__).parents[1] / "recipes"
SECTIONS = ("name", "seed", "launch", "curate", "head", "metadata", "reinforce", "train", "eval")
MAX_SEED = (1 << 63) - 1
MAX_NAME = 200  # characters
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Recipe:
    """File, overrides and variables applied; name and seed are known to be good, sections not yet."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.data.get("name", Path(self.source).stem)

    @property
    def seed(self) -> int:
        return self.data.get("seed", 0)

    def has(self, section: str) -> bool:
        return self.data.get(section) is not None

    def section(self, section: str, model: type[_Model]) -> _Model:
        """The section as its owner's settings; RecipeError naming the dotted path of the first fault."""
        if not self.has(section):
            hint = f"add a `{section}:` section; `clipmill recipes` lists complete recipes"
            raise RecipeError(self.source, f"has no section `{section}`", "this command needs it", hint)
        where = f"{self.source}: {section}"
        value = expand(self.data[section], where)
        if not isinstance(value, dict):
            raise RecipeError(where, f"found {type(value).__name__}", "expected a mapping of settings")
        try:
            settings = model.model_validate(value)
        except ValidationError as error:
            raise faults.explained(error, self.source, section, value, model) from None
        for path in faults.booleans_as_numbers(value, settings):
            raise RecipeError(where + path, "found true or false", "expected a number", f"{section}{path}=...")
        return settings

    def optional(self, section: str, model: type[_Model]) -> _Model:
        """As `section`; the model's defaults where the recipe has no such section."""
        return self.section(section, model) if self.has(section) else model()

    def as_yaml(self) -> str:
        """The recipe with overrides and variables applied, to be saved beside what was made by it."""
        return yaml.safe_dump(expand(self.data, self.source, lenient=True), sort_keys=False, allow_unicode=True)


def load(recipe: str, words: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, a file or a built-in one by name: laid on its `base`, `dotted.path=value` overrides applied."""
    data = _whole(recipe, ())
    for word in words:
        overrides.apply(data, word)
    if based.BASE in data:
        expected = "expected it in a file, whose other settings it stands below"
        raise RecipeError(based.BASE, "is an override", expected, "clipmill COMMAND OTHER dotted.path=value ...")
    _check_keys(data, recipe)
    _check_scalars(data, recipe)
    return Recipe(recipe, data)


def _whole(recipe: str, above: tuple[Path, ...]) -> dict[str, Any]:
    """What a file and those it is based on say; `above`: those that are based on it."""
    file = find(recipe)
    data = read_document(file, recipe)
    overrides.move(data, recipe)
    is_based, given = based.BASE in data, data.pop(based.BASE, None)
    _check_keys(data, recipe)
    if not is_based:
        return data
    chain = (*above, file.resolve())
    under = based.path_of(given, file, recipe)
    try:
        ended = find(under).resolve() in chain
    except RecipeError as error:
        raise RecipeError(f"{recipe}: {based.BASE}", f"{under}: {error.found}", error.expected, error.hint) from None
    if ended or len(chain) > based.MAX_BASES:
        found = f"{under} is based on this recipe" if ended else f"more than {based.MAX_BASES} behind one another"
        raise RecipeError(f"{recipe}: {based.BASE}", found, "expected a recipe that stands by itself in the end")
    below = _whole(under, chain)
    below.pop("name", None)  # is the other's
    return based.merged(below, data)


def _check_keys(data: dict[str, Any], source: str) -> None:
    for key in data:
        if key not in SECTIONS:
            near = difflib.get_close_matches(str(key), (*SECTIONS, based.BASE), 1)
            hint = f"did you mean `{near[0]}`?" if near else "remove it"
            where, expected = f"{source}: {faults.shown(key)[1:-1]}", f"expected one of {', '.join(SECTIONS)}"
            raise RecipeError(where, "unknown key", expected, hint)


def _check_scalars(data: dict[str, Any], source: str) -> None:
    for key in ("name", "seed"):
        if data.get(key) is None:
            data.pop(key, None)
    name, seed = data.get("name", "recipe"), data.get("seed", 0)
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        expected = f"expected one line of text, at most {MAX_NAME} characters"
        raise RecipeError(f"{source}: name", f"found {faults.shown(name)}", expected, f"name={Path(source).stem}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        expected = f"expected a whole number from 0 to {MAX_SEED}"
        raise RecipeError(f"{source}: seed", f"found {faults.shown(seed)}", expected, "seed=0")


def built_in() -> list[Path]:
    return sorted(BUILT_IN.glob("*.yaml"))


def find(recipe: str) -> Path:
    """The file of a recipe given by path, or by the bare name of a built-in one."""
    path, shown = Path(recipe), recipe if len(recipe) <= MAX_NAME else f"{recipe[:MAX_NAME]}..."
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        kind = 0
    if stat.S_ISREG(kind):
        return path
    named = {file.stem: file for file in built_in()}
    if recipe in named:
        return named[recipe]
    if kind:  # a folder, a pipe, a device: reading it could take for ever
        raise RecipeError(shown, "is no regular file", "expected a YAML file", "clipmill recipes")
    near = difflib.get_close_matches(path.stem[:MAX_NAME], named, 1)
    hint = f"did you mean `{near[0]}`?" if near else "clipmill recipes"
    raise RecipeError(shown, "no such file or built-in recipe", f"built-in recipes: {', '.join(named)}", hint)


def digest(recipe: Recipe) -> str:
    """Names what the recipe says with its variables applied: another $CLIPART is another recipe."""
    return digest_of(expand(recipe.data, recipe.source, lenient=True))
