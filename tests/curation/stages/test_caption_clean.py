"""Captions come out as a person would have typed them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.stages.caption_clean import CaptionClean
from tests.helpers.ends import ends
from tests.helpers.lanes import examples
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of

CLEANED = [
    ("a  cat \n on\ta mat ", "a cat on a mat"),
    ("Tom &amp; Jerry", "Tom & Jerry"),
    ("Tom &amp;amp;amp; Jerry", "Tom & Jerry"),
    ("&quot;caf&eacute;&quot;", '"café"'),
    ("cafÃ© crÃ¨me", "café crème"),
    ("cafe\u0301", "café"),
    ("a\u200bb\u202ec\ufeff", "abc"),
    ("soft\u00adhyphen", "softhyphen"),
    ("nul\x00bell\x07", "nulbell"),
    ("no\u00a0break", "no break"),
    ("<b>bold</b> text", "bold text"),
    ("&lt;i&gt;slanted&lt;/i&gt;", "slanted"),
    ("a < b and 3 > 2", "a < b and 3 > 2"),
    ("red_flower", "red flower"),
    ("Ａｂｃ ﬁne ｶﾅ", "Ａｂｃ ﬁne ｶﾅ"),
    ("“said” it’s", "“said” it’s"),
    ("__init__", "init"),
    ("flags hash(0x853b2b0) europe HASH(0x860a448)", "flags europe"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("CD\u200cها", "CD\u200cها"),
    ("a r\u200bed c\u200dat\u200d \u200con", "a red cat on"),
    ("a family \U0001f468\u200d\U0001f469\u200d\U0001f467, \u2764\ufe0f\u200d\U0001f525",) * 2,
    ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f of England",) * 2,
    ("a cat\U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065", "a cat"),  # "ignore", in tags
    ("a\ufe0f\ufe01\U000e0101\U000e0100 cat", "a\ufe0f cat"),
    ("z" + "\u0301" * 3000 + "algo", "ź\u0301\u0301algo"),
    ("e\u200d\u200b\u0301", "é"),
    ("e\U000e0069\u0301", "é"),
    ("hash(0x853b2b0)", ""),
    (" \u200b ", ""),
]


@pytest.mark.parametrize(("text", "expected"), CLEANED)
def test_text_is_cleaned(text, expected):
    assert CaptionClean().clean(text) == expected


def test_every_repair_can_be_switched_off():
    off = CaptionClean(fix=False, form=None, tags=False, underscores=False, remove=[])
    assert off.clean("Tom &amp; cafe\u0301 <b>a_b</b> hash(0x1)") == "Tom &amp; cafe\u0301 <b>a_b</b> hash(0x1)"
    assert CaptionClean(form="NFKC").clean("ﬁre １２") == "fire 12"
    assert CaptionClean(remove=[r"\s*\(Wed .*\)$"]).clean("Icons (Wed Aug 25 2004)") == "Icons"


@given(st.text(max_size=60))
@examples(300)
def test_cleaning_leaves_no_stray_space_or_invisible_character(text):
    cleaned = CaptionClean().clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert not set(cleaned) & set("\x00\x07\u200b\u202e\ufeff\t\n")


signs = "ae \u0301\u200c\u200d\u200b\ufe0f\ufe01\U000e0069\U000e007f\U0001f3f4\U0001f469ی<>"
hidden = st.text(st.sampled_from(signs), max_size=20)


@given(hidden)
@examples(300)
def test_what_is_clean_stays_as_it_is(text):
    cleaned = CaptionClean(fix=False).clean(text)
    assert CaptionClean(fix=False).clean(cleaned) == cleaned


def test_captions_that_become_equal_become_one_and_empty_ones_go():
    pairs = pairs_of(pair("two", "red_flower", "red flower", "tulip"), pair("none", "<br>", "\u200b"), pair("bare"))
    verdicts = run_rule(CaptionClean(), pairs)
    assert texts_of(pairs, verdicts) == {"two": ["red flower", "tulip"], "none": [], "bare": []}
    assert by_url(pairs, verdicts.reason) == {"two": None, "none": "empty", "bare": None}
    assert verdicts.caption_drops == {"empty": 2, "repeated": 1}


@pytest.mark.parametrize("text", ["<!--" * 200_000, "<a" * 400_000, "&amp;" * 150_000, "_" * 900_000, "&" * 900_000])
def test_a_long_hostile_text_takes_no_long_time(text):
    with ends():
        CaptionClean().clean(text)


def test_a_broken_pattern_is_refused():
    with pytest.raises(ValidationError, match="no regular expression"):
        CaptionClean(remove=["("])
