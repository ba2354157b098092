"""A recipe whose companions cannot do what is asked of them is refused before any work."""

import pytest
import yaml

from pipeline.errors import RecipeError
from pipeline.recipe import load
from tests.helpers.tiny_run import write_recipe
from training.settings import TrainSettings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": {"kind": "softmax", "target": {"kind": "teacher"}}}, "teacher.image"),
        ({"eval": {"of": "ema"}}, "no companion keeps an average"),
        ({"companions": [{"kind": "ema"}, {"kind": "ema"}]}, "two are called 'ema'"),
        ({"loss": [{"kind": "softmax"}, {"kind": "softmax"}]}, "two are called 'softmax'"),
        ({"loss": [{"kind": "softmax"}, {"kind": "sigmoid"}]}, "two terms share `log_scale`"),
        ({"companions": {"kind": "teacher"}}, "a teacher needs weights"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(tmp_path, change, words):
    path = write_recipe(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["train"] |= change
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=words):
        load(str(path)).section("train", TrainSettings)
