"""The policy `uniform`."""

import pytest

from tests.training.reader.captions.test_policy import shares
from training.reader.captions.uniform import Uniform


def test_uniform_gives_every_caption_its_share() -> None:
    assert shares(Uniform()) == pytest.approx({"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}, abs=0.03)
