"""What a term asks of towers that they do not have is refused when the recipe is read."""

import re
import subprocess
import sys

import pytest
import yaml

from pipeline.errors import RecipeError
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import MODEL
from training.settings import TrainSettings
from training.towers.abilities import check_able


def _with(**model):
    loss = [{"kind": "softmax"}, {"kind": "filip"}]
    return {"data": ["x"], "output": "y", "steps": 1, "batch": {"global": 4}, "loss": loss, "model": model}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "RN50"}, "the image tower is a ResNet"),
        ({"name": "ViT-B-16-SigLIP"}, "the image tower is timm's vit_base_patch16_siglip_224"),
        ({"name": "xlm-roberta-base-ViT-B-32"}, "the text tower is Hugging Face's xlm-roberta-base"),
        ({"config": {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "attentional_pool": True}}}, "pools by attention"),
        ({"config": {**MODEL, "text_cfg": {**MODEL["text_cfg"], "embed_cls": True}}}, "has a class token"),
        ({"config": {**MODEL, "text_cfg": {**MODEL["text_cfg"], "hf_tokenizer_name": "x"}}}, "whose padding no tower"),
    ],
)
def test_towers_without_tokens_are_refused_when_the_recipe_is_read(model, words):
    with pytest.raises(RecipeError, match=f"train.model: .*{re.escape(words)}"):
        TrainSettings.model_validate(_with(**model))
    TrainSettings.model_validate(_with(**model) | {"loss": [{"kind": "softmax"}]})


def test_towers_with_tokens_pass_and_so_does_a_name_that_only_a_hub_knows():
    for model in ({"config": MODEL}, {"name": "ViT-B-32"}, {"name": "hf-hub:somebody/model"}):
        TrainSettings.model_validate(_with(**model))
    check_able(MODEL, frozenset({"tokens"}))
    check_able({}, frozenset())


def test_no_rank_has_started_by_then(tmp_path):
    recipe = {"name": "x", "train": _with(name="RN50")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code = "import sys; from pipeline.cli import main; sys.argv = ['clipmill', 'check', 'recipe.yaml']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "a ResNet" in done.stderr and not (tmp_path / "y").exists()
