"""What models answered and cost, on the page: everything as it was said, none of it believed."""

import json
import random
from pathlib import Path

from pipeline.report import write_report
from tests.helpers import fake_run
from tests.pipeline.report.test_render import Page

HOSTILE = "</q><script>alert(1)</script> \u202eevil\u2066 \u200bx \U000e0041 <img src=x onerror=y>"


def page(tmp_path, evidence, asked=()) -> Page:
    folders = fake_run.write_run(tmp_path)
    path = Path(folders["curate_output"], "summary.json")
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"evidence": evidence, "asked": list(asked)}))
    out = tmp_path / "page.html"
    write_report(str(out), **folders, name="x")
    return Page(out.read_text())


def answered(example, text, asked=""):
    return example | {"asked": asked, "answers": [{"text": text}], "more": 0}


def stage(name, groups, model="m-1"):
    by = {"source": f"rewrite:{name}", "model": model, "prompt_version": f"v-{name}"}
    return {
        "stage": name,
        "kind": "generate",
        "by": by,
        "answers": [{"reason": reason, "examples": some} for reason, some in groups.items()],
    }


def test_dropped_answers_stand_with_picture_prompt_and_text_and_what_hides_is_seen(tmp_path):
    rng = random.Random(1)
    example = fake_run.example(rng) | {"caption": "the alt \u202etext"}
    found = page(tmp_path, [stage("one", {"echo": [answered(example, HOSTILE, "text: told\u202e")]})])
    words = " ".join("".join(found.words).split())
    assert "<script>alert(1)</script>" in words and "⟨U+202E⟩evil⟨U+2066⟩ ⟨U+200B⟩x ⟨U+E0041⟩" in words
    assert "the alt ⟨U+202E⟩text" in words and "text: told⟨U+202E⟩" in words and "echo" in words
    tags = [tag for tag, _ in found.tags]
    assert "script" not in tags and not any("onerror" in dict(some) for _, some in found.tags)
    assert "\u202e" not in words and "\u2066" not in words


def test_a_pair_is_shown_on_its_way_through_all_models_that_were_asked_about_it(tmp_path):
    rng = random.Random(2)
    both, one = fake_run.example(rng), fake_run.example(rng)
    found = page(
        tmp_path,
        [
            stage("draft", {"": [answered(both, "a first text"), answered(one, "alone")]}),
            stage("fused", {"too_long": [answered(both, "a text that is too long", "draft: a first text")]}, "m-2"),
        ],
    )
    assert "ways" in found.ids()
    words = " ".join("".join(found.words).split())
    way = words[words.index("From model to model") :]
    order = ["draft", "model: m-1", "v-draft", "a first text", "fused", "model: m-2", "v-fused", "draft: a first text"]
    places = [way.index(each) for each in order]
    assert places == sorted(places) and "dropped: too long" in way and "a text that is too long" in way
    assert "alone" not in way


def test_figures_of_the_page_are_those_of_the_summary(tmp_path):
    run = {
        "attempts": 130,
        "sent_again": 30,
        "answers": 100,
        "answered": 95,
        "tokens_in": 12345,
        "tokens_out": 678,
        "estimated": 3,
        "estimated_in": 321,
        "estimated_out": 12,
        "failed": {"http_429": 21},
        "unknown": {"timeout": 9},
        "unknown_in": 8000,
        "unknown_out": 765,
        "money": 1.5,
        "of_budget": {"money": 0.25},
    }
    spent = {
        "stage": "generate",
        "model": "<b>m",
        "is_server": True,
        "inputs": 140,
        "known": 40,
        "run": run,
        "pool": run,
    }
    found = page(tmp_path, [], [spent])
    words = " ".join("".join(found.words).split())
    for each in (
        "12,345 + about 321, estimated",
        "678 + about 12, estimated",
        "sent, answer unknown: 9, at most 8,765 tokens",
        "1.50",
        "25.0%",
        "failed: http 429",
        "answer unknown: timeout",
        "<b>m",
    ):
        assert each in words, each
