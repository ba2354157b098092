"""The stage carries the matcher's lists into captions, and its digest follows what the list holds."""

import json
import logging
from pathlib import Path

import pytest

from curation.methods.concepts.matcher import entry_counts
from curation.methods.concepts.mentions import entry_totals, mentions
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


def test_counts_are_written_for_the_whole_list_in_its_order(entries):
    _, pairs = matched(entries, "word")
    written = entry_counts(json.loads(Path(entries).read_text()), *entry_totals(mentions(pairs)))
    assert list(written.items()) == [("dog", 2), ("St. Louis", 0), ("red", 1), ("ice cream", 1), ("zebra", 0)]


def test_entries_that_can_never_match_are_told(entries, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("clipmill"), "propagate", True)
    with caplog.at_level("INFO"):
        ConceptMatch(entries=entries, mode="word").check("curate.stages.4")
        assert caplog.text == ""
        ConceptMatch(entries=entries, mode="metaclip").check("curate.stages.4")
    assert "1 of 5 entries can match no text in mode metaclip, such as `St. Louis`" in caplog.text


def test_the_digest_follows_content_and_mode_not_the_path(tmp_path, entries):
    copy = tmp_path / "copy.json"
    copy.write_text(Path(entries).read_text())
    assert ConceptMatch(entries=entries).digest() == ConceptMatch(entries=str(copy)).digest()
    assert ConceptMatch(entries=entries).digest() != ConceptMatch(entries=entries, mode="metaclip").digest()
    copy.write_text('["dog"]')
    assert ConceptMatch(entries=entries).digest() != ConceptMatch(entries=str(copy)).digest()


def test_a_missing_list_is_found_before_any_work():
    with pytest.raises(RecipeError, match=r"curate\.stages\.4\.entries: cannot read nowhere\.json"):
        ConceptMatch(entries="nowhere.json").check("curate.stages.4")
    ConceptMatch().check("curate.stages.4")
