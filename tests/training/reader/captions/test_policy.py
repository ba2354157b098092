from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.settings import one_of
from training.reader.captions import CAPTION_POLICIES
from training.reader.captions.first import First
from training.reader.captions.first_then import FirstThen
from training.reader.captions.one_synthetic import OneSynthetic
from training.reader.captions.policy import draw_caption
from training.reader.captions.uniform import Uniform
from training.reader.captions.weighted import Weighted
from training.scheduled import progress_of, value_at

CAPTIONS = [
    {"text": "a", "source": "alt"},
    {"text": "b", "source": "title"},
    {"text": "c", "source": "rewrite:one"},
    {"text": "d", "source": "rewrite:two"},
]


def shares(policy, epochs: int = 4000, progress: float = 0.0, captions=CAPTIONS) -> dict[str, float]:
    drawn = Counter(draw_caption(policy, captions, 7, epoch, "u", progress) for epoch in range(epochs))
    return {text: count / epochs for text, count in drawn.items()}


GRID = 1024
SOURCES = ["alt", "title", "caption", "caption:a", "caption:b", "rewrite:a", "rewrite:b", "translation:de", "odd:x", ""]
any_captions = st.lists(st.sampled_from(SOURCES), min_size=2, max_size=7).map(
    lambda sources: [{"text": f"{at}", "source": source} for at, source in enumerate(sources)]
)


def exact_shares(policy, captions, progress: float = 0.0) -> list[float]:
    """The share of each caption over all draws, to 1 / GRID at each edge."""
    drawn = Counter(policy.pick(captions, (at + 0.5) / GRID, progress) for at in range(GRID))
    return [drawn[at] / GRID for at in range(len(captions))]


def written_by_a_model(source: str) -> bool:
    return source.split(":")[0] in ("caption", "rewrite", "translation") and ":" in source


def close(found: list[float], expected: list[float]) -> bool:
    return all(abs(a - b) <= 2 / GRID for a, b in zip(found, expected, strict=True))


def test_with_one_caption_all_policies_agree() -> None:
    for policy in (First(), Uniform(), Weighted(weights={"title": 3}, default=0), OneSynthetic(), FirstThen()):
        assert draw_caption(policy, CAPTIONS[:1], 0, 0, "u") == "a"


def test_the_draw_depends_on_seed_epoch_and_uid_only() -> None:
    texts = [draw_caption(Uniform(), CAPTIONS, *key) for key in [(0, 0, str(n)) for n in range(64)]]
    assert texts == [draw_caption(Uniform(), CAPTIONS, 0, 0, str(n)) for n in range(64)]
    assert texts != [draw_caption(Uniform(), CAPTIONS, 1, 0, str(n)) for n in range(64)]
    assert texts != [draw_caption(Uniform(), CAPTIONS, 0, 1, str(n)) for n in range(64)]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=5), st.integers(0, 64))
def test_a_schedule_goes_straight_from_point_to_point(points, at):
    points, at = [(x / 8, float(y)) for x, y in sorted(points, key=lambda p: p[0])], at / 64
    here = [y for x, y in points if x == at]
    left, right = [p for p in points if p[0] < at], [p for p in points if p[0] > at]
    if here:
        expected = here[-1]
    elif left and right:
        (a, low), (b, high) = left[-1], right[0]
        expected = low * (b - at) / (b - a) + high * (at - a) / (b - a)
    else:
        expected = left[-1][1] if left else right[0][1]
    assert value_at(points, at) == pytest.approx(expected)


def test_progress_is_the_share_of_the_steps_that_are_done():
    assert [progress_of(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1] and progress_of(3, 0) == 0


def test_the_table_names_every_policy() -> None:
    read = TypeAdapter(one_of(CAPTION_POLICIES)).validate_python
    for kind, policy in CAPTION_POLICIES.items():
        given = {"weights": {"alt": 1}} if kind == "weighted" else {}
        assert type(read({"kind": kind, **given})) is policy
    for wrong in (
        {"kind": "last"}, {"kind": "weighted", "weights": {"alt": -1}}, {"kind": "weighted", "weights": {"alt": []}},
        {"kind": "weighted", "weights": {"alt": [[0.5, 1], [0.2, 1]]}}, {"kind": "one_synthetic", "share": 1.5},
        {"kind": "weighted", "weights": {"alt": [[2, 1]]}}, {"kind": "one_synthetic", "share": [[0, 0], [1, 2]]},
        {"kind": "first_then", "at": 2},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            read(wrong)
