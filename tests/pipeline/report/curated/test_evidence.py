"""What stages show of themselves, as tiles of the page."""

import random

from pipeline.report.curated.evidence import told_by_stages
from pipeline.report.curated.thumbs import Album
from pipeline.report.limits import Limits
from pipeline.report.schemas import Summary
from tests.helpers import fake_run


def test_what_a_pair_was_held_against_stands_behind_it_with_its_own_picture():
    rng, thumb = random.Random(3), fake_run.noise(20)
    pair = fake_run.example(rng) | {"thumb": thumb, "kept": False, "reason": "near"}
    item = {"url": "imagenet/test/0.tar/s1", "caption": "a cat", "thumb": fake_run.noise(30)}
    groups = [{"title": "imagenet: near", "examples": [pair | {"beside": item}, pair]}]
    stage = {"stage": "decontaminate", "kind": "decontaminate", "groups": groups}
    album = Album()
    [told], _ = told_by_stages(Summary(pairs_in=2, pairs_kept=0, evidence=[stage]), album, Limits())
    assert album.settle(1_000_000) == 0
    [group] = told.groups
    assert [each.tag for each in group.tiles] == ["near", "held against", "near"]
    beside = group.tiles[1]
    assert (beside.url, beside.caption) == (item["url"], "a cat")
    assert beside.picture.width == 30 and group.tiles[0].picture.width == 20


def test_each_pair_is_told_with_what_became_of_it_and_what_is_not_shown_is_counted():
    fates = [{"kept": True}, {"kept": False}, {"kept": False, "reason": "too_near"}, {"kept": True, "reason": "near"}]
    group = {"title": "near", "examples": fates}
    words = {"column": "w", "rows": [("x", 2, 1)] * 6}
    scores = {"column": "score", "of": "texts", "none": 7, "low": [0, 1], "high": [1, 2], "before": [5, 4],
              "after": [2, 1]}  # fmt: skip
    shown = {"stage": "s", "groups": [group] * 3, "scores": [scores, {"column": "none"}], "changed": [{}] * 2,
             "words": [words]}  # fmt: skip
    section = {"stage": "s", "title": "t", "columns": ["a"], "rows": [["x"]] * 5}
    summary = Summary(pairs_in=2, pairs_kept=1, evidence=[shown, {"stage": "r"}], sections=[section])
    [told], more = told_by_stages(summary, Album(), Limits(stages=1, groups=2, rows=2, changed=1))
    assert more == 1 and told.more == (3 - 2) + (2 - 1) + (5 - 2) + (6 - 2)
    assert [each.tag for each in told.groups[0].tiles] == ["kept", "gone", "too near", "kept"]
    [score] = told.scores
    assert [(key.label, key.value) for key in score.chart.legend] == [("came in", "9"), ("kept", "3")]
    assert score.note == "7 texts have no number."
