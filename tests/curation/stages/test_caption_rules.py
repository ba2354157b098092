"""Boilerplate is told from captions, and every bound has its reason."""

import pytest

from curation.methods.boilerplate import PATTERNS
from curation.stages.caption_clean import CaptionClean
from curation.stages.caption_rules import CaptionRules
from tests.helpers.ends import ends
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of

REFUSED = {
    "file_name": ["DSC_0123.jpg", "IMG_2043.JPG", "my holiday photo.jpeg", "a.png", r"C:\pics\cat.gif", "books-aj.svg"],
    "camera_name": [
        "DSC_0123",
        "IMG_001",
        "img-2043",
        "DSCN1234",
        "PXL_20210203_101112",
        "Screenshot 2020-01-02",
        "screen shot 2014-05-06 at 10.11.12 pm",
        "IMG 001",
    ],
    "url": ["http://a.test/b c".replace(" c", ""), "www.example.com", "example.com", "photos.example.co.uk/x"],
    "date": [
        "2004-08-25",
        "25/8/04",
        "25.08.2004",
        "Aug 25 2004",
        "August 25, 2004",
        "25 Aug 2004",
        "3rd May 2001",
        "2004-08-25 23:29:46",
    ],
    "number": ["12", "34.5", "#7", "(3)", "12 / 40", "$9.99", "100%"],
    "hex": ["5d41402abc4b2a76b9719d911017c592", "550e8400-e29b-41d4-a716-446655440000", "flags hash(0x853b2b0) europe"],
    "generic": [
        "image",
        "Image 3",
        "Picture 34",
        "photo",
        "banner",
        "logo",
        "spacer",
        "untitled",
        "my picture",
        "Untitled-1",
        "icon",
        "[image]",
        "Figure 2",
        "slide 3 of 12",
        "N/A",
        "placeholder",
        "picture #7",
    ],
    "navigation": ["Home", "Next", "Prev", "Up", "Contents", "next >", "« Previous", "back to top", "Search"],
    "click": [
        "click to enlarge",
        "Click here",
        "Click on the image to see a larger version",
        "enlarge image",
        "view full size",
        "tap to zoom",
    ],
    "social": ["share on twitter", "Follow us on Facebook", "pin it", "facebook", "share via e-mail"],
    "advert": ["buy now!!! best price free shipping", "50% off today", "Order now"],
}

ACCEPTED = [
    "starwalker",
    "VTT, bicycle, vehicle, transportation",
    "card",
    "red flower",
    "AIGA Symbol Signs",
    "pong",
    "VW",
    "Dog 02 Drawn With Straight Lines",
    "Aircraft5 (transportation vehicles)",
    "icon of a house",
    "a picture of a dog",
    "home sweet home",
    "map romania",
    "the next generation",
    "Ice Cream Cone (3 Scoop) (B and W)",
    "5 of clubs",
    "Clipart by Nicu Buculei - nosmoke (computer icons)",
    "next to the tree",
    "search light",
    "image of the moon",
    "may flower",
    "jan van eyck",
    "beefcafe",
    "decade",
    "Сова на ветке",
    "赤い花",
    "گل سرخ",
    "hashish",
    "rss button",
    "post box",
    "clicker",
    "joiner",
    "contents of a bag",
    "dot matrix printer",
    "U2",
    "twitter bird on a branch",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in REFUSED.items() for text in texts])
def test_boilerplate_is_refused_under_its_kind(kind, text):
    assert CaptionRules().fault(text) == kind
    assert CaptionRules(boilerplate=[k for k in PATTERNS if k != kind]).fault(text) != kind


@pytest.mark.parametrize("kind", ["file_name", "camera_name", "generic", "navigation", "click", "social"])
def test_boilerplate_is_still_seen_after_cleaning(kind):
    for text in REFUSED[kind]:
        assert CaptionRules().fault(CaptionClean().clean(text)) is not None, text


@pytest.mark.parametrize("text", ACCEPTED)
def test_captions_are_let_through(text):
    assert CaptionRules().fault(text) is None


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a", {}, "short"),
        ("ab", {}, None),
        ("x" * 1001, {}, "long"),
        ("one two", {"min_words": 3}, "few_words"),
        ("one two three", {"min_words": 3}, None),
        ("one two three", {"max_words": 2}, "many_words"),
        ("-=-=- ok -=-=-", {}, "few_letters"),
        ("-=-=- ok -=-=-", {"min_letters": 0}, None),
        ("part of the flat icon collection", {"deny": ["(?i)icon collection"]}, "denied"),
    ],
)
def test_each_bound_has_its_reason(text, options, expected):
    assert CaptionRules(**options).fault(text) == expected


def test_a_pair_goes_with_its_last_caption_for_the_reason_of_its_first():
    pairs = pairs_of(pair("some", "Home", "a red barn"), pair("gone", "click here", "12"), pair("fine", "a cow"))
    verdicts = run_rule(CaptionRules(), pairs)
    assert by_url(pairs, verdicts.reason) == {"some": None, "gone": "click", "fine": None}
    assert by_url(pairs, verdicts.detail) == {"some": None, "gone": "click here", "fine": None}
    assert texts_of(pairs, verdicts) == {"some": ["a red barn"], "gone": [], "fine": ["a cow"]}
    assert verdicts.caption_drops == {"navigation": 1, "click": 1, "number": 1}


@pytest.mark.parametrize("piece", ["a", "1", "-", "a.", " click", "hash(", "0x0", "share on ", "buy ", "\u0301", "."])
def test_no_pattern_is_slow_on_any_text(piece):
    with ends():
        CaptionRules().fault((piece * 5000)[:5000])


def test_bounds_are_of_what_stays():
    rules = CaptionRules(min_chars=4, max_chars=9, min_words=2, max_words=3, min_letters=0.5)
    texts = {
        "a b": "short", "ab c": None, "ab cd efg": None, "ab cd efgh": "long", "abcdef": "few_words",
        "a b c": None, "a b c d": "many_words", "ab 12": None, "ab 123": "few_letters",
    }  # fmt: skip
    assert {text: rules.fault(text) for text in texts} == texts
