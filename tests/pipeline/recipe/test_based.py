"""A recipe that lies on another says the same as one that has it all written out."""

import pytest
import yaml

from pipeline import recipe
from pipeline.errors import RecipeError


def write(folder, **files):
    for name, content in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return lambda name, *words: recipe.load(str(folder / f"{name}.yaml"), words)


UNDER = {
    "name": "under", "seed": 3,
    "train": {"data": ["d"], "steps": 60, "loss": {"kind": "softmax", "tile": 512},
              "batch": {"global": 256, "chunk": 64}},
    "eval": {"output": "e"},
}  # fmt: skip


def test_mappings_are_joined_and_lists_texts_and_nulls_take_the_place_of_what_was_there(tmp_path):
    load = write(
        tmp_path, under=UNDER,
        over={"base": "under.yaml", "train": {"data": ["x", "y"], "batch": {"chunk": 32}, "steps": None}, "eval": None},
    )  # fmt: skip
    found = load("over", "train.batch.global=128")
    assert found.data == {
        "seed": 3, "eval": None,
        "train": {"data": ["x", "y"], "steps": None, "loss": {"kind": "softmax", "tile": 512},
                  "batch": {"global": 128, "chunk": 32}},
    }  # fmt: skip
    assert found.name == "over" and not found.has("eval") and "base" not in found.as_yaml()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({"kind": "sigmoid"}, {"kind": "sigmoid"}),
        ({"kind": "softmax", "kernel": "triton"}, {"kind": "softmax", "tile": 512, "kernel": "triton"}),
        ({"tile": 64}, {"kind": "softmax", "tile": 64}),
        ([{"kind": "softmax"}], [{"kind": "softmax"}]),
    ],
)
def test_what_is_of_another_kind_keeps_nothing_of_the_one_before(tmp_path, loss, expected):
    load = write(tmp_path, under=UNDER, over={"base": "under.yaml", "train": {"loss": loss}})
    assert load("over").data["train"]["loss"] == expected


def test_a_path_is_seen_from_the_recipes_folder_and_a_name_is_a_built_in_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load = write(
        tmp_path,
        **{"deep/under": {"base": "../top.yaml", "seed": 1}, "top": {"base": "demo", "train": {"steps": 5}},
           "over": {"base": "deep/under.yaml", "name": "mine"}},
    )  # fmt: skip
    found, demo = load("over"), recipe.load("demo")
    assert (found.name, found.seed, found.data["train"]["steps"]) == ("mine", 1, 5)
    assert found.data["train"]["model"] == demo.data["train"]["model"] and found.data["curate"] == demo.data["curate"]
    assert recipe.digest(found) == recipe.digest(recipe.load("demo", ["name=mine", "seed=1", "train.steps=5"]))


@pytest.mark.parametrize(
    ("files", "where", "said"),
    [
        ({"over": "base: [demo]"}, "over.yaml: base", "expected a recipe"),
        ({"over": "base:"}, "over.yaml: base", "expected a recipe"),
        ({"over": "base: nowhere.yaml"}, "over.yaml: base", "nowhere.yaml: no such file"),
        ({"over": "base: dem"}, "over.yaml: base", "did you mean `demo`?"),
        ({"over": "base: over.yaml"}, "over.yaml: base", "based on this recipe"),
        (
            {"over": "base: a.yaml", "a": "base: b.yaml", "b": "base: ../{}/a.yaml"},
            "b.yaml: base",
            "based on this recipe",
        ),
        ({"over": "base: a.yaml", "a": "trian: {}"}, "a.yaml: 'trian'", "did you mean `train`?"),
        ({"over": "base: a.yaml", "a": "base: demo\ntrian: {}"}, "a.yaml: 'trian'", "did you mean `train`?"),
        ({"over": "base: a.yaml\ncurat: {}", "a": "seed: 1"}, "over.yaml: 'curat'", "did you mean `curate`?"),
        ({"over": "bsae: demo"}, "over.yaml: 'bsae'", "did you mean `base`?"),
        ({"over": "base: a.yaml", "a": "seed: x"}, "over.yaml: seed", "expected a whole number"),
    ],
)
def test_a_base_that_is_none_is_named_where_it_stands(tmp_path, files, where, said):
    load = write(tmp_path, **{name: text.format(tmp_path.name) for name, text in files.items()})
    with pytest.raises(RecipeError) as fault:
        load("over")
    assert fault.value.where.endswith(where.replace("'", "")) and said in str(fault.value)


def test_a_chain_that_is_too_long_and_a_base_on_the_command_line_are_refused(tmp_path):
    files = {f"r{i}": {"base": f"r{i + 1}.yaml"} for i in range(12)}
    load = write(tmp_path, **files, r12={"seed": 1}, alone={"seed": 1})
    assert load("r5").seed == 1
    with pytest.raises(RecipeError, match="more than 8 behind one another"):
        load("r0")
    with pytest.raises(RecipeError, match="base: is an override"):
        load("alone", "base=demo")
