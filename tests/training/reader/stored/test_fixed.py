"""Stored features stand for a locked tower's only where the tower would give the same in every epoch."""

import copy

import pytest
import torch

from pipeline.errors import RecipeError
from tests.helpers.reinforced import settings_of, write
from tests.helpers.tiny_run import MODEL
from training.reader.captions.uniform import Uniform
from training.reader.images import ImageSettings
from training.reader.pairs import open_pairs
from training.reader.reader import Reader
from training.reader.settings import ReaderSettings
from training.reader.stored.asked import StoredSet
from training.reader.stored.fixed import require_fixed
from training.settings import TrainSettings, check_training
from training.towers.build import build_towers
from training.towers.settings import ModelSettings
from training.wanted import FIXED

STORED = {"kind": "stored", "set": "dr"}
LOCKED = {**STORED, "locked": "teacher"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    write(settings_of(folder))
    return folder


def towers_of(folder, seed=5, **vision):
    config = copy.deepcopy({**MODEL, "vision_cfg": {**MODEL["vision_cfg"], **vision}})
    pretrained = None if vision else str(folder / f"teacher-{seed}.pt")
    return build_towers(ModelSettings(config=config, pretrained=pretrained))


def required(folder, towers, locked: str | None = "teacher"):
    image, settings = ImageSettings(resize="squash"), ReaderSettings(workers=0)
    asked = StoredSet("dr", ("teacher",), locked)
    reader = Reader(open_pairs([str(folder / "data")]), settings, seed=7, global_batch=6, image=image, image_size=8,
                    captions=Uniform(), tokenize=towers.tokenize, stored=asked)  # fmt: skip
    require_fixed(reader, towers)


def test_the_tower_that_wrote_the_vectors_may_be_left_out_and_another_one_may_not(home):
    required(home, towers_of(home))
    changed = towers_of(home)
    with torch.no_grad():
        changed.image.ln_post.bias[3] += 1e-6
    with pytest.raises(RecipeError, match=r"other weights, sizes or pixels(.|\n)*clipmill reinforce RECIPE"):
        required(home, changed)
    required(home, changed, locked=None)


@pytest.mark.parametrize(
    ("vision", "what"),
    [
        ({"patch_dropout": 0.5}, "KeyedPatchDropout"),
        ({"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}, "BatchNorm2d"),
    ],
)
def test_a_tower_that_gives_others_in_each_epoch_is_refused_with_the_reason(home, vision, what):
    with pytest.raises(RecipeError, match=f"has a {what}"):
        required(home, towers_of(home, **vision))


def test_where_features_are_brought_along_the_tower_does_not_run(home):
    towers = towers_of(home)
    calls = []
    towers.image.register_forward_hook(lambda *_: calls.append(1))
    fixed, tokens = torch.nn.functional.normalize(torch.randn(3, 16), dim=1), towers.tokenize(["a", "b", "c"])
    found = towers({"tokens": tokens, FIXED: fixed}, frozenset({"image", "text"}))
    assert found["image"] is fixed and found["text"].shape == (3, 16) and not calls
    assert towers({"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)})["image"].shape == (2, 16) and calls


def train(**changed):
    model = {"config": MODEL, "lock_image": True} | changed.pop("model", {})
    given = {"data": ["d"], "output": "o", "steps": 8, "batch": {"global": 8}, "model": model, "companions": [LOCKED]}
    return TrainSettings.model_validate(given | changed)


def test_features_are_read_in_stages_that_lock_the_tower_and_pictures_in_others():
    assert train().stored == StoredSet("dr", ("teacher",), "teacher")
    assert train(companions=[STORED]).stored == StoredSet("dr", ("teacher",))
    plan = train(model={"lock_image": False}, preset={"kind": "lit", "share": 0.5}).plan
    assert [stage.stored.locked for stage in plan.every] == ["teacher", None]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": {"patch_dropout": 0.5}}, "patch_dropout draws other patches in each epoch"),
        ({"loss": [{"kind": "views"}]}, "a term has a head"),
        ({"loss": [{"kind": "masked_view"}], "companions": [LOCKED, {"kind": "momentum"}]}, "a masked one"),
        (
            {"loss": [{"kind": "feature_distill", "teacher": "slow"}],
             "companions": [LOCKED, {"kind": "momentum", "name": "slow"}]},
            "has to look at pictures, for slow.image",
        ),
        ({"companions": [STORED, {**STORED, "name": "more", "set": "other"}]}, "two reinforced sets, dr and other"),
        ({"image": {"crop_scale": [0.5, 1]}}, "views of a stored set are replayed"),
        ({"image": {"flip": True}, "companions": [STORED]}, "views of a stored set are replayed"),
        ({"loss": [{"kind": "similarity_distill", "teachers": [{"name": "wide"}]}]}, "a term wants wide.image"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed_is_refused_when_the_recipe_is_read(changed, words):
    with pytest.raises(RecipeError, match=words):
        train(**changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": {"lock_image": False}}, "the image tower is not locked"),
        (
            {"model": {"lock_image": False}, "stages": [{"until": 4}, {"until": 8, "model": {"lock_image": True}}]},
            "trained before it is locked",
        ),
    ],
)
def test_a_tower_that_is_not_locked_from_the_start_is_refused_before_any_work(changed, words):
    with pytest.raises(RecipeError, match=words):
        check_training(train(**changed), 1)
    check_training(train(), 1)
