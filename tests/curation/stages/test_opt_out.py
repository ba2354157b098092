"""Opt-outs are obeyed wherever and however they are written."""

import pytest

from curation.stages.opt_out import OptOut
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of

HEADERS = [
    ("noai", "noai"),
    ("noimageai", "noimageai"),
    ("NoAI", "noai"),
    ("nofollow, noai", "noai"),
    ("noarchive,noimageai", "noimageai"),
    ("otherbot: noai", "noai"),
    ("googlebot: nofollow, otherbot: noindex, noai", "noai"),
    ("unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "noai"),
    ("noarchive, NOAI , nofollow", "noai"),
    ("max-image-preview: large; noai", "noai"),
    ("", None),
    ("all", None),
    ("none", None),
    ("noindex", None),
    ("noaix", None),
    ("not-noai", None),
    ("max-image-preview:noai", None),
]


@pytest.mark.parametrize(("header", "token"), HEADERS)
def test_default_tokens_are_found_in_every_form(header, token):
    pairs = pairs_of(pair("a", "text", x_robots_tag=header))
    assert run_rule(OptOut(), pairs).reason.to_pylist() == [token]


@pytest.mark.parametrize(
    ("header", "tokens", "token"),
    [
        ("none", ("none",), "none"),
        ("none", ("noindex",), "noindex"),
        ("max-image-preview:none", ("none",), None),
        ("noindex", ("noindex",), "noindex"),
        ("bot: NOIMAGEINDEX", ("noimageindex",), "noimageindex"),
        ("noai", ("noindex",), None),
    ],
)
def test_other_tokens_count_when_selected(header, tokens, token):
    pairs = pairs_of(pair("a", "text", x_robots_tag=header))
    assert run_rule(OptOut(tokens=tokens), pairs).reason.to_pylist() == [token]


def two_pages():
    rows = [pair("both", "one", "two"), pair("all", "one"), pair("none", "one")]
    rows[0]["captions"][1]["page_robots"] = "noimageai, nofollow"
    rows[1]["captions"][0]["page_robots"] = "NOAI"
    return pairs_of(*rows)


def test_a_page_takes_its_captions_and_the_pair_only_with_the_last():
    pairs = two_pages()
    verdicts = run_rule(OptOut(), pairs)
    assert by_url(pairs, verdicts.reason) == {"both": None, "all": "page_noai", "none": None}
    assert texts_of(pairs, verdicts) == {"both": ["one"], "all": [], "none": ["one"]}
    assert verdicts.caption_drops == {"page_noimageai": 1, "page_noai": 1}


def test_pages_are_not_heard_when_the_setting_is_off():
    pairs = two_pages()
    verdicts = run_rule(OptOut(pages=False), pairs)
    assert verdicts.reason.null_count == 3 and verdicts.captions is None


def test_an_image_header_outweighs_its_pages():
    pairs = pairs_of(pair("a", "text", x_robots_tag="noai", page_robots="noimageai"))
    verdicts = run_rule(OptOut(), pairs)
    assert verdicts.reason.to_pylist() == ["noai"] and verdicts.caption_drops == {}


def test_no_pairs_no_verdicts():
    assert len(OptOut().judge(two_pages().slice(0, 0), 0).reason) == 0
