"""Negatives go beside the captions into KEY.json, and nothing else of a run can be told from one without them."""

import json
import tarfile

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.dataset import open_dataset
from pipeline.contract.manifest import Manifest
from pipeline.contract.shards import write_shard
from tests.helpers import small_crawl
from tests.helpers.datasets import make_pair
from tests.helpers.tars import tar_bytes

CONTRADICT = {
    "kind": "generate",
    "backend": {"kind": "function", "function": "tests.helpers.captioner:contradict", "reads": ["text"]},
    "name": "n",
    "role": "negative",
}
STAGES = [
    {"kind": "image_decode"},
    {"kind": "caption_clean"},
    {"kind": "language"},
    {"kind": "text_statistics"},
    {"kind": "site_boilerplate", "min_pairs": 20},
    {"kind": "caption_rules", "deny": ["^no ", "seven"]},
    {"kind": "exact_duplicates"},
    {"kind": "perceptual_duplicates"},
    {"kind": "caption_frequency", "max_pairs": 2},
    {"kind": "caption_minhash", "threshold": 0.6},
    {"kind": "top_fraction", "column": "captions.words", "fraction": 0.9},
    {"kind": "concept_match"},
    {"kind": "balance", "t": 6},
]


def run(folder, sources, stages):
    plain = {
        "sources": sources,
        "stages": stages,
        "output": str(folder / "out"),
        "pool": str(folder.parent / "pool"),
        "ray": {"address": "inline"},
    }
    curate(CurateSettings.model_validate(plain), name="x", seed=4, quiet=True)
    summary = json.loads((folder / "out/summary.json").read_text())
    assert any(each["groups"] for each in summary["evidence"] if each["stage"] == "generate") == (
        CONTRADICT["kind"] in str(stages)
    )
    return pairs_in(folder / "out"), [each for each in summary["stages"] if each["kind"] != "generate"]


def pairs_in(folder):
    dataset = open_dataset(str(folder))
    rows = [dataset.read_pair(at, row) for at, shard in enumerate(dataset.shards) for row in range(shard.num_pairs)]
    return {row.uid: row.meta for row in rows}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("negatives")
    paths = small_crawl.write(folder / "crawl", small_crawl.records(96))
    sources = [{"kind": "warc", "paths": paths}]
    asked = {**CONTRADICT, "backend": CONTRADICT["backend"] | {"model": "m"}}
    return folder, run(folder / "with", sources, [asked, *STAGES]), run(folder / "without", sources, STAGES)


def test_no_stage_sees_a_negative(runs):
    _, (pairs, stages), (plain, expected) = runs
    without = {uid: {k: v for k, v in meta.items() if k != "negatives"} for uid, meta in pairs.items()}
    assert without == plain and len(plain) > 20
    assert stages == expected


def test_each_negative_says_what_it_contradicts_and_is_no_caption(runs):
    folder, (pairs, _), _ = runs
    dogs = 0
    for meta in pairs.values():
        own = {each["text"] for each in meta["captions"]}
        for each in meta["negatives"]:
            assert each["source"] == "negative:n" and each["model"] == "m" and each["text"] not in own
            assert each["text"] == f"no {each['of']}" or each["text"] == "a dog of seven heads"
            dogs += each["text"] == "a dog of seven heads"
        assert own & {each["of"] for each in meta["negatives"]}  # captions of copies came later, without theirs
    assert dogs == len(pairs)
    for path in sorted((folder / "with/out").glob("*.tar")):
        with tarfile.open(path) as tar:  # what readers that know no negatives read
            texts = [tar.extractfile(member).read().decode() for member in tar if member.name.endswith(".txt")]
        assert texts and not [text for text in texts if text.startswith("no ") or "seven" in text]
    assert "negatives" in Manifest.load(str(folder / "with/out")).columns


@pytest.mark.parametrize("field", ["5", '"a text"', "[1]", '[{"text": "", "source": "x"}]', '{"text": "a"}'])
def test_a_field_of_the_input_that_only_has_the_name_is_left_out(tmp_path, field):
    table = json.dumps({"url": "http://x.test/1.jpg", "caption": "a cat", "negatives": json.loads(field)}).encode()
    body = small_crawl.picture(1, "JPEG")
    (tmp_path / "in.tar").write_bytes(tar_bytes([("a.jpg", body), ("a.json", table), ("a.txt", b"a cat")]))
    pairs, _ = run(tmp_path / "out", [{"kind": "shards", "paths": [str(tmp_path / "in.tar")]}], [])
    assert ["negatives" in meta for meta in pairs.values()] == [False]


def test_a_dataset_that_is_curated_again_keeps_its_negatives(tmp_path):
    ours = [{"text": text, "source": "negative:old", "of": "caption 0 é"} for text in ("no caption", "no title 0")]
    entries = [write_shard(str(tmp_path / "old"), 0, [make_pair(0, negatives=ours), make_pair(1)])]
    Manifest(name="x", num_pairs=2, shards=entries).save(str(tmp_path / "old"))
    sources = [{"kind": "shards", "paths": [str(tmp_path / "old/*.tar")]}]
    asked = CONTRADICT
    again, _ = run(tmp_path / "again", sources, [asked])
    texts = {meta["captions"][0]["text"]: [n["text"] for n in meta["negatives"]] for meta in again.values()}
    first = ["no caption", "no title 0", "no caption 0 é", "a dog of seven heads"]
    assert texts == {"caption 0 é": first, "caption 1 é": ["no caption 1 é", "a dog of seven heads", "no title 1"]}
