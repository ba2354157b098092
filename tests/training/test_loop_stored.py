"""Runs on stored views and vectors are the runs with the teacher at work on the same views, and locked features those
of the tower itself."""

import shutil

import pytest

from tests.helpers.lanes import sampled
from tests.helpers.reinforced import settings_of, weights, write
from tests.helpers.tiny_run import MODEL, metrics, train_here, write_recipe

LOSS = [{"kind": "softmax"}, {"kind": "similarity_distill", "share": 0.75, "teachers": [{"name": "NAME"}]},
        {"kind": "feature_distill", "teacher": "NAME", "weight": 0.5}]  # fmt: skip
STORED = {"kind": "stored", "set": "dr"}


def loss_of(name):
    return [{key: _named(value, name) for key, value in term.items()} for term in LOSS]


def _named(value, name):
    if isinstance(value, list):
        return [{"name": name, "scale": 20.0}]
    return name if value == "NAME" else value


def losses(output):
    rows = metrics(output)
    assert not any(row["skipped"] for row in rows)
    return [row["loss"] for row in rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Ninety-six pairs, a set of three views of one teacher in fp32, and a run of nine steps that learns from it."""
    folder = tmp_path_factory.mktemp("stored")
    recipe = write_recipe(folder, steps=9, companions=[STORED], loss=loss_of("teacher"))
    write(settings_of(folder, dtype="fp32", teachers=[{"model": weights(folder)}], batch=64))
    assert train_here(recipe, 1) == [""]
    return folder, recipe


def test_stored_vectors_teach_as_the_teacher_at_work_on_the_same_views(home):
    folder, _ = home
    online = {"kind": "teacher", "name": "online", "model": weights(folder)}
    recipe = write_recipe(
        folder, steps=9, companions=[STORED, online], loss=loss_of("online"), output=str(folder / "online")
    )
    assert train_here(recipe, 1) == [""]
    assert losses(folder / "online") == pytest.approx(losses(folder / "train"), abs=5e-6)
    recipe = write_recipe(folder, steps=9, loss=[{"kind": "softmax"}], output=str(folder / "plain"))
    assert train_here(recipe, 1) == [""]
    assert abs(losses(folder / "plain")[0] - losses(folder / "train")[0]) > 1e-3


def test_a_restart_on_other_ranks_goes_on_with_the_same_views_and_another_set_is_refused(home):
    folder, _ = home
    recipe = write_recipe(folder, steps=9, companions=[STORED], loss=loss_of("teacher"), output=str(folder / "again"))
    shutil.copytree(folder / "train", folder / "again")
    for step in ("step-00000006", "step-00000009"):
        shutil.rmtree(folder / "again/checkpoints" / step)
    kept = folder / "data/reinforced/dr"
    shutil.move(kept, folder / "kept")
    (words,) = train_here(recipe, 1)
    assert "no reinforced.json" in words and "clipmill reinforce RECIPE" in words
    teachers = [{"model": weights(folder)}]
    write(settings_of(folder, dtype="fp32", teachers=teachers, views=2, batch=64))
    (words,) = train_here(recipe, 1)
    assert "stored" in words and "put the reinforced set back" in words
    shutil.rmtree(kept)
    shutil.move(folder / "kept", kept)
    assert train_here(recipe, 2, "train.engine.zero_stage=2") == ["", ""]
    assert losses(folder / "again") == pytest.approx(losses(folder / "train"), abs=5e-6)


def lit(folder, name, companion, **model):
    locked = {"config": MODEL, "pretrained": weights(folder)["pretrained"], "lock_image": True, **model}
    return write_recipe(
        folder, steps=9, model=locked, companions=[companion], output=str(folder / name), loss=[{"kind": "softmax"}]
    )


@pytest.fixture(scope="module")
def computed(home):
    """Losses of the run that computes a locked tower's features in each epoch."""
    folder, _ = home
    assert train_here(lit(folder, "computed", STORED), 1, "train.engine.zero_stage=0") == [""]
    return losses(folder / "computed")


@pytest.mark.parametrize(("world", "stage"), sampled([(1, 0), (2, 3)], 0))
def test_stored_features_of_a_locked_tower_give_the_run_that_computes_them_in_each_epoch(home, computed, world, stage):
    """Features within 2e-6 (test_replay.py: sums of other shapes), losses within 5e-6."""
    folder, _ = home
    engine = f"train.engine.zero_stage={stage}"
    assert train_here(lit(folder, f"fixed-{world}", {**STORED, "locked": "teacher"}), world, engine) == [""] * world
    assert losses(folder / f"fixed-{world}") == pytest.approx(computed, abs=5e-6)


def test_vectors_of_other_weights_are_no_features_of_this_tower(home):
    folder, _ = home
    recipe = lit(folder, "other", {**STORED, "locked": "teacher"}, pretrained=weights(folder, 9)["pretrained"])
    (words,) = train_here(recipe, 1)
    assert "has other weights" in words and "clipmill reinforce RECIPE" in words
    recipe = lit(folder, "other", {**STORED, "locked": "teacher"}, mean=[0.5, 0.5, 0.5])
    assert "has other weights, sizes or pixels" in train_here(recipe, 1)[0]
