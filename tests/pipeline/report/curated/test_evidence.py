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
