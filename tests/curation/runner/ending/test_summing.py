"""The summary of a whole run: what it shows is the same in any cut, and adds up to what the funnel says."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import small_crawl, tiny_clip, tiny_set
from tests.helpers.lanes import sampled
from tests.helpers.pairs import encoded


def stages(entries: Path) -> list[dict[str, Any]]:
    """Every kind of evidence; opt_out stands behind some that show pictures."""
    entries.write_text(json.dumps(small_crawl.WORDS))
    model = tiny_clip.kept()
    near = Image.open(io.BytesIO(small_crawl.picture(9))).resize((60, 61))
    items = [(small_crawl.picture(24, "JPEG"), "its caption"), (encoded(near, "JPEG"), ""), (b"no image", "")]
    evaluation = tiny_set.write(entries.parent / "evaluation", items)
    return [
        {"kind": "image_decode"},
        {"kind": "decontaminate", "sets": [{"name": "tiny", "path": str(evaluation)}]},
        {"kind": "caption_clean"},
        {"kind": "language"},
        {"kind": "text_statistics"},
        {"kind": "threshold", "column": "width", "min": 32},
        {"kind": "exact_duplicates"},
        {"kind": "opt_out"},
        {"kind": "clip_image_vector", **model},
        {"kind": "clip_text_vector", **model},
        {"kind": "clip_score"},
        {"kind": "threshold", "column": "captions.score", "min": -0.5},
        {"kind": "kmeans", "k": 3},
        {"kind": "cluster_quota", "fraction": 0.9},
        {"kind": "top_fraction", "column": "captions.characters", "fraction": 0.8},
        {"kind": "concept_match", "entries": str(entries)},
        {"kind": "balance", "t": 6, "unmatched": "keep"},
    ]


def made(folder: Path, files: int, shuffled: int | None, buckets: int) -> dict[str, Any]:
    paths = small_crawl.write(folder / "in", small_crawl.records(120), files, shuffled)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", buckets=buckets)
    plain["stages"] = stages(folder / "entries.json")
    curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    return json.loads((folder / "out" / "summary.json").read_text())


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return made(tmp_path_factory.mktemp("reference"), 1, None, 1)


def compared(summary: dict[str, Any]) -> dict[str, Any]:
    """But for what names the inputs and the job."""
    cut = {"inputs", "job_digest", "recipe_digest", "sources"}
    return {name: value for name, value in summary.items() if name not in cut}


@pytest.mark.parametrize(("files", "shuffled", "buckets"), sampled([(3, None, 8), (7, 5, 16), (2, 9, 2)], 2))
def test_what_is_shown_is_the_same_in_any_cut(summary, tmp_path, files, shuffled, buckets):
    other = made(tmp_path, files, shuffled, buckets)
    mine, theirs = compared(summary), compared(other)
    assert {name for name in mine if mine[name] != theirs[name]} == set()


def test_histograms_add_up_to_what_the_stages_took_and_kept(summary):
    by_stage = {each["name"]: each for each in summary["stages"]}
    told = {each["stage"]: each for each in summary["evidence"]}
    for name, unit in (("threshold", "pairs"), ("threshold-2", "captions"), ("top_fraction", "pairs")):
        [scores] = told[name]["scores"]
        assert scores["of"] == unit and sum(scores["before"]) + scores["none"] == by_stage[name][f"{unit}_in"]
        assert sum(scores["after"]) == by_stage[name][f"{unit}_out"], name
        assert scores["low"] == sorted(scores["low"]) and all(
            a < b for a, b in zip(scores["low"], scores["high"], strict=True)
        )
        assert len(scores["cuts"]) == 1
    [width] = told["threshold"]["scores"]
    assert width["cuts"] == [32.0]
    assert sum(n for n, high in zip(width["before"], width["high"], strict=True) if high <= 32) == sum(
        width["before"]
    ) - sum(width["after"])


def test_every_stage_that_decides_has_pictures_on_both_sides(summary):
    told = {each["stage"]: each for each in summary["evidence"]}
    below, above = told["threshold"]["groups"]
    assert {row["kept"] for row in below["examples"]} == {False} and {row["kept"] for row in above["examples"]} == {
        True
    }
    assert all(row["thumb"] for row in above["examples"] if "left out later" not in row["detail"])
    assert len(told["kmeans"]["groups"]) == 3 and all(group["examples"] for group in told["kmeans"]["groups"])
    titles = [group["title"] for group in told["cluster_quota"]["groups"]]
    assert any(title.endswith("kept") for title in titles) and any(title.endswith("gone") for title in titles)


def test_what_an_evaluation_set_has_is_shown_beside_its_item(summary):
    told = {each["stage"]: each for each in summary["evidence"]}
    equal, near = told["decontaminate"]["groups"]
    assert [group["title"].split(",")[0] for group in (equal, near)] == ["tiny: bytes", "tiny: near"]
    for group, item, caption in ((equal, 0, "its caption"), (near, 1, "")):
        assert group["examples"]
        for row in group["examples"]:
            assert row["reason"] == group["title"].split(",")[0].removeprefix("tiny: ") and row["thumb"]
            assert row["beside"]["url"] == f"tiny/test/0.tar/s000000{item}" and row["beside"]["caption"] == caption
            body = base64.b64decode(row["beside"]["thumb"].partition(",")[2])
            assert Image.open(io.BytesIO(body)).size == ((72, 75) if item == 0 else (60, 61))


def test_who_opts_out_later_is_shown_nowhere(summary):
    gone = {row["uid"] for row in summary["drop_examples"]["opt_out.noai"]}
    rows = [row for each in summary["evidence"] for group in each["groups"] for row in group["examples"]]
    rows += [row for each in summary["evidence"] for row in each["changed"]]
    mine = [row for row in rows if row["uid"] in gone]
    assert mine and not any(row["thumb"] for row in mine)
    survivors = [group["survivor"] for group in summary["duplicate_groups"]]
    assert not any(row["thumb"] for row in survivors if row["uid"] in gone)


def test_detected_languages_are_those_seen_and_those_kept(summary):
    told = {each["stage"]: each for each in summary["evidence"]}
    [words] = told["language"]["words"]
    by_stage = {each["name"]: each for each in summary["stages"]}
    assert sum(seen for _, seen, _ in words["rows"]) == by_stage["language"]["captions_in"]
    assert sum(kept for _, _, kept in words["rows"]) == by_stage["emit"]["captions_out"]


def test_balance_says_what_was_to_be_expected(summary):
    [section] = [each for each in summary["sections"] if each["stage"] == "balance"]
    [[_, expected, deviation, actual, off]] = section["rows"]
    kept = {each["name"]: each for each in summary["stages"]}["balance"]["pairs_out"]
    assert actual == kept and abs(actual - expected) < 5 * deviation and abs(off) < 5 and deviation > 0


def test_a_group_says_how_many_copies_it_has(summary):
    groups = [group for group in summary["duplicate_groups"] if group["reason"].startswith("exact_duplicates.")]
    removed = {each["name"]: each for each in summary["stages"]}["exact_duplicates"]["drops"]["copy"]
    assert sum(group["count"] for group in groups) == removed  # fewer groups than are shown
    assert all(group["survivor"]["caption"] for group in groups)


def test_each_source_is_told_with_its_counts(summary):
    [source] = summary["sources"]
    assert source["kind"] == "warc" and source["parts"] == 1 and source["counts"]["pages"] == 20
    assert summary["download"] is None
