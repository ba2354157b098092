"""The policy `first`."""

from tests.training.reader.captions.test_policy import shares
from training.reader.captions.first import First


def test_first_is_always_the_default_caption() -> None:
    assert shares(First(), 50) == {"a": 1.0}
