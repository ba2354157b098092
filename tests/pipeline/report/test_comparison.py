"""Two runs side by side: numbers are theirs, stages meet by name, and pairs that only one has are told and shown."""

import json
import math
from pathlib import Path

import pytest
import yaml
from selectolax.lexbor import LexborHTMLParser

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.dataset import open_dataset
from pipeline.errors import DataError
from pipeline.report import Outputs, outputs_in, write_comparison
from tests.helpers import fake_run, small_crawl
from tests.helpers.lanes import sampled
from tests.pipeline.report.test_render import HOSTILE, Page, hostile


def made(folder: Path, name: str, change) -> str:
    paths = small_crawl.write(folder / "in", small_crawl.records(96))
    plain = small_crawl.recipe(paths, folder / name, folder / "entries.json")
    plain["stages"] = change(plain["stages"])
    curate(CurateSettings.model_validate(plain), name=name, seed=3, quiet=True)
    (folder / name / "recipe.yaml").write_text(yaml.safe_dump({"name": name, "curate": plain}))
    return str(folder / name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    score = {"kind": "threshold", "column": "height"}
    one = made(folder, "one", lambda s: [*s[:2], score | {"min": 50}, *s[3:]])
    two = made(folder, "two", lambda s: [*s[:2], score | {"min": 74}, *s[3:5], *s[6:7], s[7] | {"t": 30}])
    return one, two


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("page") / "comparison.html"
    assert write_comparison(str(out), *map(outputs_in, runs)) == str(out)
    return Page(out.read_text())


def cells(page: Page, place: str) -> dict[str, list[str]]:
    """The rows of the tables at `place`, by their heads."""
    rows = LexborHTMLParser(page.text).css(f"{place} tbody tr")
    told = [[" ".join(cell.text().split()).replace("+ ", "+") for cell in row.css("th, td")] for row in rows]
    return {row[0]: row[1:] for row in told}


def written(folder: Path, one: Outputs, two: Outputs) -> Page:
    return Page(Path(write_comparison(str(folder / "comparison.html"), one, two)).read_text())


def uids(folder: str) -> dict[str, str]:
    dataset = open_dataset(folder)
    rows = [dataset.read_pair(s, row) for s, shard in enumerate(dataset.shards) for row in range(shard.num_pairs)]
    return {pair.uid: pair.text for pair in rows}


def test_pairs_that_only_one_has_are_counted_and_shown(runs, page):
    one, two = map(uids, runs)
    both, only_one, only_two = len(one.keys() & two), len(one.keys() - two), len(two.keys() - one)
    assert only_one and only_two
    for number in (both, only_one, only_two, len(one), len(two)):
        assert any(math.isclose(number, value) for value in page.values)
    assert f"Only in A: {only_one} pairs" in page.prose and f"Only in B: {only_two} pairs" in page.prose
    assert "B: threshold: below" in page.prose and "A: balance: sampled out" in page.prose
    tree = LexborHTMLParser(page.text)
    shown = [figure.css_first("q").text() for figure in tree.css("#pairs figure")]
    assert set(shown) <= {one[uid] for uid in one.keys() - two} | {two[uid] for uid in two.keys() - one}
    assert all(figure.css_first("img") for figure in tree.css("#pairs figure")) and len(shown) > 1


def test_stages_reasons_and_settings_stand_side_by_side(runs, page):
    summaries = [json.loads((Path(run) / "summary.json").read_text()) for run in runs]
    tree = LexborHTMLParser(page.text)
    rows = [
        [" ".join(cell.text().split()) for cell in row.css("th, td")]
        for row in tree.css("#funnel table")[0].css("tbody tr")
    ]
    found = {row[0]: row[1:] for row in rows}
    counts = [{each["name"]: each for each in summary["stages"]} for summary in summaries]
    told = [f"{side['threshold'][name]:,}" for side in counts for name in ("pairs_in", "pairs_out")]
    assert found["threshold"] == told and found["caption frequency"][2:] == ["not in B"]
    reasons = {
        row.css_first("th").text(): [cell.text() for cell in row.css("td")]
        for row in tree.css("#funnel table")[1].css("tbody tr")
    }
    drops = [side["threshold"]["drops"]["below"] for side in counts]
    assert reasons["threshold: below"] == [str(drops[0]), str(drops[1]), f"+{drops[1] - drops[0]}"]
    settings = {
        row.css_first("th").text(): [cell.text() for cell in row.css("td")] for row in tree.css("#settings tbody tr")
    }
    assert settings["curate.stages.threshold.min"] == ["50", "74"] and settings["curate.stages.balance.t"] == [
        "1.5",
        "30",
    ]
    assert "curate.stages.caption_frequency" in settings and "curate.output" not in settings


def test_scores_are_overlaid_with_both_cuts(page):
    label = next(a["aria-label"] for _, a in page.tags if (a.get("aria-label") or "").startswith("threshold: height"))
    assert "A came in" in label and "B kept" in label
    assert "cut 50" in page.prose and "cut 74" in page.prose


def test_the_page_loads_nothing_and_is_readable_without_eyes(page):
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "form", "object"} == set()
    assert all((attrs.get("src") or "data:image/").startswith("data:image/") for _, attrs in page.tags)
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= set(page.ids()) and len(page.ids()) == len(set(page.ids()))
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert page.text.count("<table") == page.text.count("<caption")
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4"}]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_training_runs_are_compared_too(tmp_path):
    one, two = fake_run.write_run(tmp_path / "one"), fake_run.write_run(tmp_path / "two")
    path = Path(two["eval_output"]) / "eval.json"
    results = json.loads(path.read_text())
    results["results"]["clipart-classes/top1"] = 0.5
    path.write_text(json.dumps(results))
    fake_run.write_lines(Path(two["train_output"]) / "metrics.jsonl", fake_run.metrics(40))
    for folders in (one, two):
        del folders["curate_output"]
    out = write_comparison(str(tmp_path / "c.html"), Outputs("a", **one), Outputs("b", **two))
    page = Page(Path(out).read_text())
    rows = [
        [" ".join(cell.text().split()) for cell in row.css("th, td")]
        for row in LexborHTMLParser(page.text).css("#training tbody tr")
    ]
    assert ["clipart-classes: top-1 accuracy", "0.287", "0.500", "+0.213"] in [
        [*row[:3], row[3].replace(" ", "")] for row in rows
    ]
    label = next(a["aria-label"] for _, a in page.tags if (a.get("aria-label") or "").startswith("Loss:"))
    assert "A from 5.550" in label and "B from 5.550" in label and "at 39" in label and "at 159" in label


def test_one_without_uids_or_recipe_or_curation_is_said(tmp_path):
    one, two = fake_run.write_run(tmp_path / "one"), fake_run.write_run(tmp_path / "two")
    two["curate_output"] = None
    page = written(tmp_path, Outputs("a", **one), Outputs("b", **two))
    assert "Only A has a curated set" in page.prose and "settings cannot be compared" in page.prose
    three = fake_run.write_run(tmp_path / "three")
    page = Page(
        Path(write_comparison(str(tmp_path / "c.html"), Outputs("a", **one), Outputs("b", **three))).read_text()
    )
    assert "pairs cannot be compared" in page.prose


@pytest.mark.parametrize("words", sampled(HOSTILE, *range(1, len(HOSTILE), 3)), ids=range(len(HOSTILE)))
def test_hostile_words_stay_words(tmp_path, words):
    one, two = fake_run.write_run(tmp_path / "one"), fake_run.write_run(tmp_path / "two")
    path = Path(two["curate_output"]) / "summary.json"
    summary = json.loads(path.read_text())
    plain = {key: summary[key] for key in ("stages", "histograms", "recipe_digest", "manifest_digest")}
    summary = hostile(summary, words) | plain
    summary["stages"][0]["name"] = words
    path.write_text(json.dumps(summary))
    page = Page(
        Path(write_comparison(str(tmp_path / "c.html"), Outputs("a", **one), Outputs(words, **two))).read_text()
    )
    assert {tag for tag, _ in page.tags} & {"script", "iframe"} == set()
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs) and "1337" not in page.text
    assert (
        not any(ord(c) < 32 and c not in "\n\t" or c in "\u202e\u202d" for c in page.text)
        and len(page.text) < 2_000_000
    )


def test_equal_runs_give_equal_bytes_and_no_difference(runs, tmp_path):
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    for out in (first, second):
        write_comparison(str(out), outputs_in(runs[0]), outputs_in(runs[0]))
    assert first.read_bytes() == second.read_bytes()
    page = Page(first.read_text())
    assert "None: the recipes beside the outputs say the same." in page.prose and "Only in A: 0 pairs" in page.prose


def test_a_damaged_file_is_named(runs, tmp_path):
    one = fake_run.write_run(tmp_path / "one")
    (Path(one["curate_output"]) / "summary.json").write_text("{")
    with pytest.raises(DataError, match="summary.json"):
        write_comparison(str(tmp_path / "c.html"), Outputs("a", **one), outputs_in(runs[0]))
