from collections import Counter

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.settings import one_of
from training.reader.captions import CAPTION_POLICIES
from training.reader.captions.first import First
from training.reader.captions.policy import draw_caption
from training.reader.captions.uniform import Uniform
from training.reader.captions.weighted import Weighted

CAPTIONS = [
    {"text": "a", "source": "alt"},
    {"text": "b", "source": "title"},
    {"text": "c", "source": "rewrite:one"},
    {"text": "d", "source": "rewrite:two"},
]


def shares(policy, epochs: int = 4000) -> dict[str, float]:
    drawn = Counter(draw_caption(policy, CAPTIONS, 7, epoch, "u") for epoch in range(epochs))
    return {text: count / epochs for text, count in drawn.items()}


def test_with_one_caption_all_policies_agree() -> None:
    for policy in (First(), Uniform(), Weighted(weights={"title": 3}, default=0)):
        assert draw_caption(policy, CAPTIONS[:1], 0, 0, "u") == "a"


def test_the_draw_depends_on_seed_epoch_and_uid_only() -> None:
    texts = [draw_caption(Uniform(), CAPTIONS, *key) for key in [(0, 0, str(n)) for n in range(64)]]
    assert texts == [draw_caption(Uniform(), CAPTIONS, 0, 0, str(n)) for n in range(64)]
    assert texts != [draw_caption(Uniform(), CAPTIONS, 1, 0, str(n)) for n in range(64)]
    assert texts != [draw_caption(Uniform(), CAPTIONS, 0, 1, str(n)) for n in range(64)]


def test_the_table_names_every_policy() -> None:
    read = TypeAdapter(one_of(CAPTION_POLICIES)).validate_python
    for kind, policy in CAPTION_POLICIES.items():
        given = {"weights": {"alt": 1}} if kind == "weighted" else {}
        assert type(read({"kind": kind, **given})) is policy
    for wrong in ({"kind": "last"}, {"kind": "weighted", "weights": {"alt": -1}}):
        with pytest.raises(ValidationError):
            read(wrong)
