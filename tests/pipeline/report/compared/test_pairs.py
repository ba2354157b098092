"""Pairs that only one has: counted by what the other did, and shown by their rows in the shards."""

import shutil
from types import SimpleNamespace

import numpy as np

from pipeline.contract.dataset import open_dataset
from pipeline.report.compared import pairs
from pipeline.report.compared import uids as lists
from pipeline.report.compared.pairs import NOT_THERE, OTHER, UNKNOWN, Only, shared
from tests.pipeline.report.test_comparison import made, uids


def narrowed(stages):
    return [*stages[:2], {"kind": "threshold", "column": "height", "min": 75}, *stages[3:]]


def test_fates_add_up_and_samples_are_the_pairs_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "SAMPLES", 3)
    monkeypatch.setattr(lists, "PIECE", 5)
    one, two = made(tmp_path, "one", lambda s: s), made(tmp_path, "two", narrowed)
    found, mine, theirs = shared(one, two), uids(one), uids(two)
    assert found.both == len(mine.keys() & theirs) > 5
    for side, own, other in ((found.only_a, mine, theirs), (found.only_b, theirs, mine)):
        assert side.number == len(own.keys() - other) == sum(side.fates.values())
        assert UNKNOWN not in side.fates and NOT_THERE not in side.fates
        for label, some in side.shown.items():
            assert len(some) == min(3, side.fates[label])
            assert all(own[each.uid] == each.caption and each.uid not in other and each.thumb for each in some)
    shutil.rmtree(tmp_path / "two" / "verdicts")
    assert set(shared(one, two).only_a.fates) == {UNKNOWN}
    (tmp_path / "two" / "subset.npy").unlink()
    assert shared(one, two) is None


def test_of_other_inputs_pairs_are_not_there_and_a_damaged_shard_is_no_end(tmp_path):
    one, two = made(tmp_path, "one", lambda s: s), made(tmp_path, "two", narrowed)
    for path in (tmp_path / "two" / "verdicts").iterdir():
        path.with_name("bucket-99999.parquet").write_bytes(path.read_bytes())
        break
    [first] = open_dataset(one).shards[:1]
    body = bytearray((tmp_path / "one" / first.name).read_bytes())
    body[1500:] = bytes(len(body) - 1500)
    (tmp_path / "one" / first.name).write_bytes(body)
    found = shared(one, two)
    captions = [each.caption for some in found.only_a.shown.values() for each in some]
    assert "(this pair cannot be read)" in captions and len(captions) == len([c for c in captions if c])


def test_reasons_beyond_so_many_are_told_as_others_and_samples_are_a_draw_that_no_piece_changes(monkeypatch):
    monkeypatch.setattr(pairs, "MOST_FATES", 2)
    monkeypatch.setattr(pairs, "SAMPLES", 4)
    labels = np.array(["a.x", "b.x", "c.x", "d.x", "a.x", None] * 20, object)
    rows, uids = np.arange(120), np.random.default_rng(3).integers(0, 256, (120, 16), np.uint8).view("S16").ravel()
    found = []
    for size in (120, 50, 7, 1):
        only = Only()
        for at in range(0, 120, size):
            fates = SimpleNamespace(are_known=True, of=lambda _, at=at, size=size: labels[at : at + size])
            only.add(uids[at : at + size], rows[at : at + size], fates)
        assert only.number == sum(only.fates.values()) == 120
        found.append(only)
    assert found[-1].fates == {"a.x": 40, "b.x": 20, OTHER: 60}
    assert [only.samples["a.x"] for only in found] == [found[0].samples["a.x"]] * 4
    drawn = [row for _, row in found[0].samples["a.x"]]
    assert len(drawn) == 4 and set(labels[drawn]) == {"a.x"} and drawn != sorted(drawn)
