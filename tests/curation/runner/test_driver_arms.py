"""Arms: several recipes over one pool. What one has measured no other measures again, and it says so."""

import logging
from typing import Any

import pytest

from curation.runner import calls as runner_calls
from curation.runner.closing import shares
from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.manifest import Manifest
from tests.helpers import counted, small_crawl, tiny_clip, tiny_head

SAID = "measured nothing: all columns were there"


def measures(log: str) -> list[dict[str, Any]]:
    """Every sort of Measure: of pictures, texts, pairs; generated captions; vectors; what is computed inline."""

    def function(name: str, inputs: list[str], column: str) -> dict[str, Any]:
        named = {"function": f"tests.helpers.counted:{name}", "params": {"log": log}}
        return {"kind": "function", **named, "inputs": inputs, "columns": {column: "int32"}}

    return [
        {"kind": "image_decode"},
        {"kind": "caption_clean"},
        function("picture", ["image"], "bytes"),
        {
            "kind": "generate",
            "backend": {"kind": "function", "function": "tests.helpers.counted:caption", "params": {"log": log}},
            "name": "made",
        },
        function("text", ["captions.text"], "length"),
        function("pair", ["width", "captions.text"], "texts"),
        {"kind": "language"},
        {"kind": "clip_image_vector", **tiny_clip.kept()},
        {"kind": "clip_text_vector", **tiny_clip.kept()},
        {"kind": "clip_score"},
        {"kind": "head", "name": "nice", "weights": tiny_head.kept(16)},
    ]


ARMS: dict[str, list[dict[str, Any]]] = {
    "score": [{"kind": "top_fraction", "column": "captions.score", "fraction": 0.9}],
    "another fraction": [{"kind": "top_fraction", "column": "captions.score", "fraction": 0.8}],
    "a head": [{"kind": "top_fraction", "column": "nice", "fraction": 0.8}],
    "bounds": [{"kind": "threshold", "column": "bytes", "min": 400}, {"kind": "image_size", "min_side": 20}],
    "clusters": [{"kind": "kmeans", "k": 3, "rounds": 4}, {"kind": "semantic_duplicates", "eps": 0.001}],
    "chance": [],
}  # fmt: skip
BUDGET = 15


class Seen:
    """How often what could measure or read a picture was asked for, while an arm was made."""

    def __init__(self, monkeypatch, log: str) -> None:
        self.log, self.calls = log, []
        plain = runner_calls.Call.__init__

        def noted(call, function, *args, **named):
            self.calls.append(function)
            plain(call, function, *args, **named)

        monkeypatch.setattr(runner_calls.Call, "__init__", noted)
        self.before = counted.asked(log)

    def again(self) -> None:
        self.calls.clear()
        self.before = counted.asked(self.log)

    @property
    def measuring(self) -> int:
        """Tasks that measure, which alone read pictures before shards are written."""
        return sum(function is shares.share for function in self.calls)

    @property
    def inputs(self) -> dict[str, int]:
        now = counted.asked(self.log)
        return {word: now[word] - self.before.get(word, 0) for word in now if now[word] != self.before.get(word, 0)}


@pytest.mark.parametrize(
    ("address", "arms"),
    [("inline", list(ARMS)), pytest.param("local", ["score", "clusters"], marks=pytest.mark.exhaustive)],
)
def test_arms_of_one_pool_measure_nothing_twice_and_have_the_same_budget(tmp_path, monkeypatch, caplog, address, arms):
    caplog.set_level(logging.INFO)
    log = str(tmp_path / "asked")
    paths, seen = small_crawl.write(tmp_path / "crawl", small_crawl.records(48), files=2), Seen(monkeypatch, log)
    ray = {"address": address} | ({"num_cpus": 2, "temp_dir": "/tmp"} if address == "local" else {})

    def made(output: str, arm: str, **changed: Any) -> Manifest:
        seen.again(), caplog.clear()
        return curate(CurateSettings.model_validate({
            "sources": [{"kind": "warc", "paths": paths}], "output": str(tmp_path / output), "ray": ray, "buckets": 2,
            "stages": [*measures(log), *ARMS[arm], {"kind": "sample", "keep": BUDGET}], "pool": str(tmp_path / "pool"),
            **changed,
        }), name=arm, seed=0, quiet=True)  # fmt: skip

    first = made("score", "score")
    assert seen.measuring and set(seen.inputs) == {"picture", "text", "pair", "caption"} and SAID not in caplog.text
    digests = {first.digest()}
    for arm in arms[1:]:
        manifest = made(arm.replace(" ", "-"), arm)
        assert (seen.measuring, seen.inputs, caplog.text.count(SAID)) == (0, {}, 1), arm
        assert manifest.num_pairs == BUDGET
        digests.add(manifest.digest())
    assert first.num_pairs == BUDGET and len(digests) == len(arms)

    # the finished one itself, with another threshold alone; then with nothing changed
    changed = made("score", "another fraction")
    assert (seen.measuring, seen.inputs, caplog.text.count(SAID)) == (0, {}, 1)
    if address == "local":
        return
    assert changed.shards[0].sha256 == Manifest.load(str(tmp_path / "another-fraction")).shards[0].sha256
    made("score", "another fraction")
    assert SAID not in caplog.text and "nothing to do" in caplog.text and not seen.calls

    # what is not there is measured, and that alone
    (tmp_path / "pool" / "columns").rename(tmp_path / "gone")
    made("score", "score", fresh=True)
    assert seen.measuring and SAID not in caplog.text


def test_a_picture_read_for_nothing_would_be_seen(tmp_path, monkeypatch):
    """The counters themselves: a pool without its pictures' columns is measured again, and they say so."""
    log = str(tmp_path / "asked")
    paths, seen = small_crawl.write(tmp_path / "crawl", small_crawl.records(12)), Seen(monkeypatch, log)
    for output in ("one", "two"):
        seen.again()
        curate(CurateSettings.model_validate({
            "sources": [{"kind": "warc", "paths": paths}], "output": str(tmp_path / output),
            "stages": measures(log), "ray": {"address": "inline"},
        }), name="x", seed=0, quiet=True)  # fmt: skip
        assert seen.measuring and seen.inputs["picture"]  # each output has a pool of its own
