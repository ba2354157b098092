"""The data card: every figure is the summary's, every pair is accounted for, and no input's words are Markdown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline import storage
from pipeline.report import write_data_card
from pipeline.report.card import card, said
from pipeline.report.data import Curated
from pipeline.report.schemas import InputPart, ManifestCounts, ShardCounts, StageCounts, Summary
from tests.helpers.lanes import examples

HOSTILE = [
    "![x](http://evil.test/a.png)", "[x](javascript:alert(1))", "<script>alert(1)</script>", "<img src=x onerror=a()>",
    "| a | b |", "`code`", "\n# heading\n", "&lt;b&gt;", "http://evil.test/", "**bold** _x_", "a\\", "```\ncode",
    "@someone", "<http://evil.test>", "\u202eright to left", "---\nkey: value\n---",
]  # fmt: skip


def stage(name: str, came: int, **drops: int) -> StageCounts:
    return StageCounts(name=name, kind=name, pairs_in=came, pairs_out=came - sum(drops.values()), drops=drops,
                       captions_in=0, captions_out=0)  # fmt: skip


def curated(**more) -> Curated:
    stages = [stage("pool", 1000, no_caption=100), stage("opt_out", 900, noai=30, noimageai=2), stage("emit", 868)]
    plain = {"pairs_in": 1000, "pairs_kept": 868, "stages": stages, "languages": {"en": 800, "de-AT": 60, "": 8},
             "caption_sources": {"alt": 868}, "recipe_digest": "r" * 16, "manifest_digest": "m" * 16,
             "inputs": [InputPart(part="p" * 16, path="a.warc.gz", bytes=5000, digest="p" * 16)]}  # fmt: skip
    manifest = ManifestCounts(num_pairs=868, shards=[ShardCounts(name="s", pairs=868, bytes=1_500_000)])
    return Curated(Summary(**{**plain, **more}), manifest, "folder", False)


def cells(text: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_pair_is_accounted_for():
    text = card(curated(), "my set", "seed: 0")
    found = cells(text)
    assert ["pool", "no\\_caption", "100", "10.0%"] in found and ["", "**kept**", "**868**", "86.8%"] in found
    assert "1,000 in = 868 kept + 132 dropped." in text and "noai 30, noimageai 2." in text
    assert ["en", "800"] in found and ["not given", "8"] in found and ["a.warc.gz", "5.0 kB", f"`{'p' * 16}`"] in found
    assert 'language: ["de", "en"]' in text and 'size_categories: ["n<1K"]' in text
    assert "868 image-text pairs in 1 WebDataset shard (1.5 MB)" in text and "\n```yaml\nseed: 0\n```\n" in text


def test_without_an_opt_out_stage_the_card_says_that_nobody_looked():
    assert "No stage looked for opt-outs." in card(curated(stages=[stage("pool", 1000, copy=132)]), "x", "")


def test_what_opted_out_while_it_was_downloaded_is_told():
    text = card(curated(stages=[stage("pool", 1000, noai=2, robots_txt=10, http_error=120)]), "x", "")
    assert "so: noai 2, robots\\_txt 10." in text


def test_a_set_of_a_hundred_thousand_parts_and_languages_has_a_short_card():
    parts = [InputPart(part=f"{n:016x}", path=f"{n}.gz", bytes=n, digest="") for n in range(100_000)]
    languages = {f"l{n}": 1 for n in range(5000)}
    text = card(curated(inputs=parts, languages=languages), "x", "")
    assert len(text) < 20_000 and "and 99,960 more" in text and ["others", "4,960"] in cells(text)


def shown(text: str) -> tuple[str, list[str]]:
    """(its words, names of tokens that are more than text) as a Markdown reader sees it, HTML let through."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    return "".join(child.content for child in inline), [each.type for each in [*tokens, *inline]]


def check(words: str) -> None:
    found, kinds = shown(f"| a | b |\n| --- | --- |\n| {said(words)} | end |\n")
    assert set(kinds) <= {f"{name}_{side}" for name in ("table", "thead", "tbody", "tr", "th", "td")
                          for side in ("open", "close")} | {"inline", "text", "text_special"}  # fmt: skip
    assert kinds.count("td_open") == 2 and found.endswith("end")
    plain = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+", " ", words).split())
    assert found == f"ab{plain}end" or len(words) > 150


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_are_shown_as_they_are(words):
    check(words)


@examples(300)
@given(st.text(st.sampled_from("\\`*_{}[]()#+|<>~&:@$^!-=.a1 \n\t/&;ltx"), max_size=100))
def test_no_text_is_markdown(words):
    check(words)


@pytest.mark.parametrize("words", HOSTILE)
def test_a_card_full_of_hostile_words_has_no_link_no_picture_and_no_html(words):
    parts = [InputPart(part="p" * 16, path=words, bytes=1, digest="")]
    text = card(
        curated(inputs=parts, languages={words: 5}, caption_sources={words: 5}), words, f"a: {words!r}\nb: ````"
    )
    body = text.partition("\n---\n")[2]
    _, kinds = shown(body)
    assert not {"link_open", "image", "html_inline", "html_block", "hr"} & set(kinds) and kinds.count("fence") == 1
    assert text.splitlines()[1].startswith('pretty_name: "') and text.count("\n---\n") == 1


def test_it_is_written_beside_the_set_and_not_where_there_is_none(tmp_path):
    write_data_card(str(tmp_path), "x")
    assert list(tmp_path.iterdir()) == []
    storage.publish_bytes(str(tmp_path / "summary.json"), curated().summary.model_dump_json().encode())
    (tmp_path / "recipe.yaml").write_text("seed: 7\n")
    write_data_card(str(tmp_path), "x")
    first = (tmp_path / "DATA_CARD.md").read_text()
    assert "seed: 7" in first and "868 image-text pairs" in first
    write_data_card(str(tmp_path), "x")
    assert (tmp_path / "DATA_CARD.md").read_text() == first
