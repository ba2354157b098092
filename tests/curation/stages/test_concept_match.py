"""The stage carries the matcher's lists into captions, and its digest follows what the list holds."""

import json

import pytest

from curation.concept_report import concept_report, count_concepts, entry_counts
from curation.stages.concept_match import ConceptMatch
from pipeline.errors import RecipeError
from tests.helpers.pairs import by_url, measured, pair, pairs_of


@pytest.fixture
def entries(tmp_path):
    path = tmp_path / "entries.json"
    path.write_text(json.dumps(["dog", "St. Louis", "red", "ice cream", "zebra"]))
    return str(path)


def matched(entries: str, mode: str):
    stage = ConceptMatch(entries=entries, mode=mode)
    pairs = pairs_of(pair("a", "Red Dog, red", "dog"), pair("b", "ice cream"), pair("c", "nothing"))
    return stage, measured(stage, pairs)


def test_each_caption_gets_its_own_list(entries):
    for mode, first in (("metaclip", [2]), ("word", [0, 2])):
        _, pairs = matched(entries, mode)
        lists = by_url(pairs, [[c["concepts"] for c in each] for each in pairs.column("captions").to_pylist()])
        assert lists == {"a": [first, [0]], "b": [[3]], "c": [[]]}
    assert pairs.column("captions").type.value_type.field("concepts").type == ConceptMatch.adds[0].type


def test_counts_and_report_speak_of_the_whole_list(entries):
    stage, pairs = matched(entries, "metaclip")
    counts = count_concepts(stage, [pairs.slice(0, 1), pairs.slice(1)])
    assert entry_counts(["dog", "St. Louis", "red", "ice cream", "zebra"], counts) == {
        "dog": 1, "St. Louis": 0, "red": 1, "ice cream": 1, "zebra": 0,
    }
    report = concept_report(stage, counts, counts // 2, 2.0)
    assert report["num_entries"] == 5 and report["num_matched_entries"] == 3
    assert report["unreachable"] == ["St. Louis"]
    assert report["head"][0] == {"entry": "dog", "before": 1, "after": 0} and len(report["head"]) == 3
    assert report["tail_share_before"] == 1.0 and report["tail_share_after"] == 0.0
    assert report["curve"]["rank"] == [1, 2, 3] and report["curve"]["before"] == [1, 1, 1]


def test_a_report_of_no_match_at_all_is_still_a_report(entries):
    stage, pairs = matched(entries, "word")
    empty = count_concepts(stage, [pairs.slice(0, 0)])
    report = concept_report(stage, empty, empty, None)
    assert report["num_matched_entries"] == 0 and report["head"] == [] and report["tail_share_before"] == 0.0


def test_the_digest_follows_content_and_mode_not_the_path(tmp_path, entries):
    copy = tmp_path / "copy.json"
    copy.write_text(open(entries).read())
    assert ConceptMatch(entries=entries).digest() == ConceptMatch(entries=str(copy)).digest()
    assert ConceptMatch(entries=entries).digest() != ConceptMatch(entries=entries, mode="metaclip").digest()
    copy.write_text('["dog"]')
    assert ConceptMatch(entries=entries).digest() != ConceptMatch(entries=str(copy)).digest()


def test_a_missing_list_is_found_before_any_work():
    with pytest.raises(RecipeError, match=r"curate\.stages\.4\.entries: cannot read nowhere\.json"):
        ConceptMatch(entries="nowhere.json").check("curate.stages.4")
    ConceptMatch().check("curate.stages.4")
