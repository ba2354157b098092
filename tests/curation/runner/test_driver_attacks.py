"""A crawl of attacks through the whole of curation: each ends in its own outcome, and costs no other pair anything."""

import json
import tarfile

import pyarrow.parquet as pq
import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.dataset import verify
from tests.helpers import attack_corpus
from tests.helpers.attack_corpus import MARKUP, TEXTS, address, pictures, sent

STAGES = "opt_out image_decode caption_clean exact_duplicates perceptual_duplicates".split()


@pytest.fixture(scope="module", params=[1, 5])
def made(request, tmp_path_factory):
    """(output, manifest), of so many files."""
    folder = tmp_path_factory.mktemp(f"attacks{request.param}")
    (folder / "in").mkdir()
    for number, data in enumerate(attack_corpus.crawl(request.param)):
        (folder / "in" / f"{number}.warc.gz").write_bytes(data)
    source = {"kind": "warc", "paths": [str(folder / "in")]}
    plain = {"sources": [source], "stages": [{"kind": kind} for kind in STAGES], "output": str(folder / "out")}
    settings = CurateSettings.model_validate({**plain, "ray": {"address": "inline"}})
    return folder / "out", curate(settings, name="t", seed=0, quiet=True)


def captions(out, manifest):
    """url -> its texts."""
    found = {}
    for shard in manifest.shards:
        with tarfile.open(out / shard.name) as tar:
            metas = [json.loads(tar.extractfile(name).read()) for name in tar.getnames() if name.endswith(".json")]
        found |= {meta["url"]: [each["text"] for each in meta["captions"]] for meta in metas}
    return found


def test_every_attack_has_its_own_outcome(made):
    out, manifest = made
    reasons = {row["url"]: row["reason"] for row in pq.read_table(out / "verdicts").to_pylist()}
    kept = captions(out, manifest)
    fates = {name: fate for name, (_, fate) in pictures().items()} | {name: fate for name, (*_, fate) in sent().items()}
    assert {name: reasons.get(address(name), "" if address(name) in kept else "lost") for name in fates} == fates
    texts = {name: kept.get(address(f"text/{name}.png"), [""]) for name in TEXTS}
    assert texts == {name: [text] for name, (_, text) in TEXTS.items()}
    assert verify(str(out)).problems == []


def test_nothing_is_asked_of_addresses_that_are_none(made):
    """Of those in pages only a few could be asked for at all."""
    out, manifest = made
    urls = {row["url"] for row in pq.read_table(out / "verdicts").to_pylist()} | set(captions(out, manifest))
    assert all(url.startswith("http://") and len(url) < 5000 for url in urls)
    elsewhere = {url for url in urls if not url.startswith(attack_corpus.SITE)}
    assert elsewhere <= {"http://e.test/z.png", "http://e.test/a.png"}


def test_pages_that_cost_a_parser_dear_are_read_to_their_end(made):
    out, manifest = made
    texts = captions(out, manifest)[address("good.jpg")]
    late = {"a picture under very many elements", "a picture in very many tables", "a late caption"}
    assert late <= set(texts) and len(MARKUP) > 10
    pages = sum(part.counts["pages"] for part in manifest.inputs)
    assert pages == len(MARKUP) + 1  # that with all pictures


def test_the_cut_does_not_show(made, digests=set()):  # noqa: B006 (of both cuts)
    digests.add(made[1].digest())
    assert len(digests) == 1
