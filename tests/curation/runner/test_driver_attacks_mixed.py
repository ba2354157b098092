"""Good pairs among attacks in inputs of every kind: all of them are kept, as they are, and all else is told once."""

import csv
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.dataset import verify
from tests.helpers import attack_inputs
from tests.helpers.attack_inputs import GOOD, SITE, good, pictures, texts
from tests.helpers.lanes import sampled
from tests.helpers.places import ROOT
from tests.helpers.small_crawl import picture
from tests.helpers.tars import tar_bytes
from tests.helpers.warcs import http, record, zipped

STAGES = "opt_out image_decode caption_clean text_statistics site_boilerplate exact_duplicates perceptual_duplicates"
MEMORY = 900 << 10  # KiB: of a process that takes 160 MB before it has read anything
# Not ru_maxrss, which may be the peak of the process that started it.
CHILD = """
import json, re, sys
from curation.runner.driver import curate
from curation.settings import CurateSettings
curate(CurateSettings.model_validate(json.loads(sys.stdin.read())), name="t", seed=0, quiet=True)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def recipe(sources: list[dict], out: Path) -> dict:
    stages = [*({"kind": kind} for kind in STAGES.split()), {"kind": "caption_minhash", "max_pairs": 1000}]
    return {"sources": sources, "stages": stages, "output": str(out), "fetch": False, "ray": {"address": "inline"}}


def outcomes(out: Path) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """(url -> captions of what was kept, url -> reason of what was not); each uid is in one of them, once."""
    dropped = pq.read_table(out / "verdicts").to_pylist()
    uids, kept = [row["uid"] for row in dropped], {}
    for path in sorted(out.glob("shard-*.tar")):
        with tarfile.open(path) as tar:
            metas = [json.loads(tar.extractfile(name).read()) for name in tar.getnames() if name.endswith(".json")]
        uids += [meta["uid"] for meta in metas]
        kept |= {meta["url"] or meta["uid"]: meta["captions"] for meta in metas}
    told = json.loads((out / "summary.json").read_text())
    assert len(uids) == len(set(uids)) == told["pairs_in"]
    assert verify(str(out)).problems == []
    return kept, {row["url"]: row["reason"] for row in dropped}


@pytest.fixture(scope="module", params=sampled([5 << 20, 100 << 20], 0))
def made(request, tmp_path_factory):
    """(kept, dropped, KiB of memory at most); the longest cell of a table takes so many bytes."""
    folder = tmp_path_factory.mktemp("mixed")
    plain = recipe(attack_inputs.write(folder / "in", request.param), folder / "out")
    options = {"input": json.dumps(plain), "text": True, "capture_output": True, "cwd": ROOT, "timeout": 600}
    child = subprocess.run([sys.executable, "-c", CHILD], check=False, **options)
    assert child.returncode == 0, child.stderr[-3000:]
    return *outcomes(folder / "out"), int(child.stdout.split()[-1])


def test_every_good_pair_is_kept_with_its_words(made):
    kept, _, _ = made
    assert {number: [each["text"] for each in kept.get(good(number), [])] for number in GOOD} == {
        number: [text] for number, text in GOOD.items()
    }


def test_every_picture_has_its_own_outcome(made):
    kept, dropped, _ = made
    found = {name: "" if f"{SITE}/p/{name}" in kept else dropped.get(f"{SITE}/p/{name}", "lost") for name in pictures()}
    assert found == {name: reason for name, (_, reason) in pictures().items()}
    assert {dropped.get(f"{SITE}/t/{at}.png", "") for at in range(len(texts()))} <= {"", "empty", "no_caption"}


def test_no_text_breaks_what_reads_it(made):
    kept, _, memory = made
    for captions in kept.values():
        for caption in captions:
            assert caption["text"].encode() and "\0" not in caption["text"] and len(caption["text"]) <= 8192
    assert memory < MEMORY


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.text(st.characters()), st.text()), min_size=1, max_size=8))
def test_any_texts_and_fields_in_any_input_cost_no_good_pair(tmp_path_factory, odd):
    """Surrogates and all: in a page, a csv, a JSON line and a sample of a shard."""
    folder = tmp_path_factory.mktemp("any")
    page = "".join(f"<img src='/x{at}.png' alt='{text}' {more}>" for at, (text, more) in enumerate(odd))
    page = page.encode("utf-8", "surrogatepass") + b"<p '\"></p><img src=/good/0.png alt='good picture number 0'>"
    records = [record(f"{SITE}/a.html", http(b"<img src=/good/1.png alt='good picture number 1'>", "text/html"))]
    records += [record(f"{SITE}/b.html", http(page, "text/html"))]
    records += [record(good(at), http(picture(at))) for at in range(4)]
    (folder / "a.warc.gz").write_bytes(zipped(*records))
    rows = [{"url": f"{SITE}/y{at}.png", "caption": text, more or "x": text} for at, (text, more) in enumerate(odd)]
    rows.append({"url": good(2), "caption": "good picture number 2"})
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = io.StringIO(newline="")
    lines = [["url", "caption"], *([f"{SITE}/z{at}.png", text] for at, (_, text) in enumerate(odd))]
    csv.writer(out).writerows([*lines, [good(3), "good picture number 3"]])
    (folder / "c.csv").write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
    fields = [(f"{at}.json", json.dumps({"caption": text, more: text}).encode()) for at, (text, more) in enumerate(odd)]
    images = [(f"{at}.png", picture(100 + at)) for at in range(len(odd))]
    last = [("good.png", picture(4)), ("good.txt", b"good picture number 4")]
    (folder / "d.tar").write_bytes(tar_bytes([*images, *fields, *last]))
    names = {"warc": ["a.warc.gz"], "table": ["b.jsonl", "c.csv"], "shards": ["d.tar"]}
    sources = [{"kind": kind, "paths": [str(folder / name) for name in some]} for kind, some in names.items()]
    curate(CurateSettings.model_validate(recipe(sources, folder / "out")), name="t", seed=0, quiet=True)
    kept, _ = outcomes(folder / "out")
    said = {text for captions in kept.values() for text in (each["text"] for each in captions)}
    assert said >= {f"good picture number {at}" for at in range(1, 5)}
