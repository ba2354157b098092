"""A recipe is checked whole before any work, and each fault is one error with its dotted path."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from pipeline import recipe
from pipeline.errors import RecipeError
from pipeline.settings import Settings


class Small(Settings):
    kind: Literal["small"] = "small"
    size: int = 3


class Large(Settings):
    kind: Literal["large"] = "large"
    rate: float = Field(0.5, gt=0)


class Work(Settings):
    stages: list[Annotated[Small | Large, Field(discriminator="kind")]] = []
    lr: float | None = None
    output: str = "out"


GOOD = "name: x\ncurate:\n  lr: 1e-4\n  stages:\n  - {kind: small}\n  - {kind: large, rate: 1e-3}\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return str(path)

    return write


def section(path, *overrides):
    return recipe.load(path, list(overrides)).section("curate", Work)


def test_exponents_are_numbers_and_kinds_pick_models(write):
    work = section(write(GOOD))
    assert work.lr == 1e-4
    assert work.stages == [Small(), Large(rate=1e-3)]


def test_only_true_and_false_are_booleans_and_leading_zeros_stay_text(write):
    data = recipe.load(write("curate: {a: no, b: 0123, c: true, d: [on, ~]}")).data["curate"]
    assert data == {"a": "no", "b": "0123", "c": True, "d": ["on", None]}


@pytest.mark.parametrize(
    ("override", "path", "found"),
    [
        ("curate.stages.0.sise=3", "curate.stages.0.sise", "did you mean `size`?"),
        ("curate.stages.1.rate=-1", "curate.stages.1.rate", "found -1; input should be greater than 0"),
        ("curate.stages.1.kind=larg", "curate.stages.1.kind", "did you mean `large`?"),
        ("curate.stages.0={size: 3}", "curate.stages.0.kind", "has no `kind`"),
        ("curate.stages.7.size=3", "curate.stages.7", "items 0 to 1"),
        ("curate.lr=fast", "curate.lr", "found 'fast'"),
        ("curate.lr={a: 1}", "curate.lr", "found {'a': 1}"),
        ("curate=3", "curate", "expected a mapping"),
        ("curat.lr=3", "curat", "did you mean `curate`?"),
        ("no-sign", "no-sign", "is not an override"),
        ("curate.lr=[", "curate.lr", "is not YAML"),
        ("seed=soon", "seed", "expected a whole number from 0"),
    ],
)
def test_each_fault_is_one_error_with_its_dotted_path(write, override, path, found):
    with pytest.raises(RecipeError) as caught:
        loaded = recipe.load(write(GOOD), [override])
        loaded.seed, loaded.section("curate", Work)
    assert path in str(caught.value) and found in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("curate: {a: 1, a: 2}", "twice"),
        ("curate: &x {a: 1}\ntrain: *x", "aliases"),
        ("curate: !!python/object/apply:os.system ['true']", "the tag .* is not allowed"),
        ("- 1", "holds list"),
        ("a: [", "not readable YAML"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(write, text, found):
    with pytest.raises(RecipeError, match=found):
        recipe.load(write(text))


def test_overrides_reach_into_lists_and_make_missing_mappings(write):
    loaded = recipe.load(
        write(GOOD), ["curate.stages.0.size=9", "train.batch.global=512", "curate.stages.2={kind: small}"]
    )
    assert loaded.section("curate", Work).stages[0] == Small(size=9)
    assert len(loaded.data["curate"]["stages"]) == 3
    assert loaded.data["train"] == {"batch": {"global": 512}}


def test_variables_come_from_the_environment_or_their_default(write, monkeypatch):
    path = write("curate: {output: '${CLIPMILL_TEST_OUT:-runs}/a'}")
    assert section(path).output == "runs/a"
    monkeypatch.setenv("CLIPMILL_TEST_OUT", "/data")
    assert section(path).output == "/data/a"


def test_the_saved_recipe_is_resolved_and_loads_again(write, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPMILL_TEST_OUT", "/data")
    text = "name: x\ncurate: {output: '${CLIPMILL_TEST_OUT}/a', lr: 1}\neval: {a: '${CLIPMILL_NOT_SET}'}"
    saved = tmp_path / "saved.yaml"
    saved.write_text(recipe.load(write(text), ["curate.lr=1e-4"]).as_yaml())
    monkeypatch.delenv("CLIPMILL_TEST_OUT")
    again = recipe.load(str(saved))
    assert again.section("curate", Work) == Work(output="/data/a", lr=1e-4)
    assert again.data["eval"] == {"a": "${CLIPMILL_NOT_SET}"}


def test_another_value_of_a_variable_is_another_recipe(write, monkeypatch):
    path = write("eval: {path: '${CLIPMILL_TEST_OUT:-a}/x'}")
    before = recipe.digest(recipe.load(path))
    monkeypatch.setenv("CLIPMILL_TEST_OUT", "a")
    assert recipe.digest(recipe.load(path)) == before
    monkeypatch.setenv("CLIPMILL_TEST_OUT", "b")
    assert recipe.digest(recipe.load(path)) != before


def test_an_unset_variable_without_default_says_what_to_export(write):
    with pytest.raises(RecipeError, match="export CLIPMILL_NOT_SET="):
        section(write("curate: {output: '${CLIPMILL_NOT_SET}'}"))


def test_an_unknown_recipe_name_lists_the_built_in_ones():
    with pytest.raises(RecipeError, match="did you mean `demo`"):
        recipe.load("dema")


def test_a_missing_section_is_named(write):
    with pytest.raises(RecipeError, match="has no section `curate`"):
        recipe.load(write("name: x")).section("curate", Work)
