"""Robots texts: bounded whatever was said, and never at the cost of an opt-out."""

import random
from typing import get_args

from curation.stages.opt_out import OptOut, Token
from curation.table import robots

FILLER = [
    "max-image-preview: none",
    "max-snippet:-1",
    "unavailable_after: 25 Jun 2030",
    "follow",
    "archive",
    "nosnippet",
]


def test_the_tokens_that_are_kept_are_those_that_a_stage_can_ask_for():
    assert robots.TOKENS == get_args(Token)


def test_a_short_text_is_as_it_was_said():
    assert robots.joined(["b: x", "NoAI", "a", "NoAI"]) == ("NoAI, a, b: x", 0)
    assert robots.joined(["b: x", "c", "a"], sort=True) == ("a, c, b: x", 0)
    assert robots.joined([]) == ("", 0)
    assert robots.joined(["x" * 1000]) == ("x" * 1000, 0)


def test_a_long_text_is_cut_without_losing_an_opt_out():
    rng = random.Random(3)
    for _ in range(300):
        count = rng.choice([30, 300, 9000])
        values = [rng.choice([f"bot{i}: x{i}", f"word{i}", rng.choice(FILLER)]) for i in range(count)]
        said = {token for token in robots.TOKENS if rng.random() < 0.3}
        for token in said:
            shape = rng.choice(["{}", "otherbot: {}", "unavailable_after: now, {}", " {} ", "x;{}"])
            values.insert(rng.randrange(len(values)), shape.format(token.upper() if rng.random() < 0.5 else token))
        if rng.random() < 0.5:
            values = [", ".join(values)]
        text, cut = robots.joined(values, sort=rng.random() < 0.5)
        assert len(text) <= 1000 and (cut > 0 or len(", ".join(values)) < 100_000)
        for token in robots.TOKENS:
            heard = OptOut(tokens=(token,)).hit(text)
            assert bool(heard) == (token in said or token == "noindex" and "none" in said), (token, text[:200])
        if cut:
            assert text.endswith(f"and {cut} more")


def test_one_directive_without_end_is_cut_too():
    text, cut = robots.joined(["noai " + "x" * 60_000 + " noimageai"])
    assert text == "noai, noimageai, and 1 more" and cut == 1
    text, cut = robots.joined(["tdm-reservation: 1", *(f"word{i}" for i in range(5000))])
    assert text.startswith("tdm-reservation: 1, ") and len(text) <= 1000 and cut > 4000
