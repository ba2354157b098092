"""The command as a user meets it: exit codes, two plain lines for an error, nothing done before a fault is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import fake_run
from tests.helpers.datasets import make_dataset
from tests.helpers.lanes import sampled

CLIPMILL = str(Path(sys.executable).with_name("clipmill"))
RECIPE = """
name: tiny
curate:
  sources:
    - {kind: warc, paths: [crawl.warc.gz]}
  stages:
    - {kind: image_decode}
    - {kind: image_size, min_side: 24}
  output: out
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "crawl.warc.gz").write_bytes(b"this is no gzip file, and no WARC either")
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def clipmill(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "CLIPART"}
    return subprocess.run([CLIPMILL, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "path", "hint"),
    sampled(
        [
            (["r.yaml", "curate.stages.1.min_sid=3"], "curate.stages.1.min_sid", "did you mean `min_side`?"),
            (["r.yaml", "curate.fetch.timeout=3"], "curate.fetch.timeout: unknown key", "did you mean `timeout_s`?"),
            (["r.yaml", "curate.stages.1.min_side=small"], "curate.stages.1.min_side", "found 'small'"),
            (["r.yaml", "curate.stages.1.kind=image_sise"], "curate.stages.1.kind", "did you mean `image_size`?"),
            (["r.yaml", "curate.sources.0.kind=warcs"], "curate.sources.0.kind", "did you mean `warc`?"),
            (["r.yaml", "curate.sources.0.paths=[gone.warc.gz]"], "curate.sources.0.paths.0", "gone.warc.gz"),
            (["nothing.yaml"], "nothing.yaml", "clipmill recipes"),
            (["clipart"], "curate.sources.0.paths.0", "export CLIPART="),
        ],
        0,
        5,
        7,
    ),
)
def test_a_fault_of_the_recipe_is_one_error_before_any_work(folder, words, path, hint):
    done = clipmill(folder, "curate", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and path in done.stderr and hint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()


def test_input_that_is_no_crawl_is_bad_data(folder):
    done = clipmill(folder, "curate", "r.yaml", "curate.ray.address=inline")
    assert done.returncode == 78
    assert "crawl.warc.gz" in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "out/manifest.json").exists()


def test_an_unknown_command_or_option_is_bad_usage(folder):
    assert clipmill(folder, "curated", "r.yaml").returncode == 2
    assert clipmill(folder, "curate").returncode == 2
    assert clipmill(folder, "curate", "r.yaml", "not an override").returncode == 2


def test_a_section_that_is_not_there_is_named(folder):
    done = clipmill(folder, "train", "r.yaml")
    assert done.returncode == 2 and "has no section `train`" in done.stderr


def test_recipes_are_listed_with_what_they_do(folder):
    done = clipmill(folder, "recipes")
    assert done.returncode == 0
    for name in ("demo", "crawl", "clipart"):
        assert name in done.stdout


def test_the_schema_describes_every_section_and_kind(folder):
    schema = json.loads(clipmill(folder, "schema").stdout)
    sections = {"curate", "head", "metadata", "reinforce", "train", "eval"}
    assert set(schema["properties"]) == {"base", "name", "seed", "launch", *sections}
    for model in ("WarcSource", "Balance", "PerceptualDuplicates", "EngineSettings", "Retrieval"):
        assert model in schema["$defs"], model


def test_verify_finds_a_flipped_byte_of_a_dataset(folder):
    data = folder / "data"
    make_dataset(str(data))
    assert clipmill(folder, "data", "verify", "data").returncode == 0
    shard = data / "shard-000000.tar"
    damaged = bytearray(shard.read_bytes())
    damaged[700] ^= 1
    shard.write_bytes(damaged)
    done = clipmill(folder, "data", "verify", "data")
    assert done.returncode == 78 and "shard-000000.tar" in done.stdout


def test_a_report_of_nothing_says_what_to_run(folder):
    done = clipmill(folder, "report", "r.yaml")
    assert done.returncode == 78 and "hint: clipmill run r.yaml" in done.stderr


def test_a_report_is_made_again_of_a_folder_and_two_are_compared(tmp_path):
    fake_run.write_run(tmp_path / "one")
    fake_run.write_run(tmp_path / "two")
    done = clipmill(tmp_path, "report", "one")
    assert (done.returncode, done.stdout.strip()) == (0, "one/curate/report.html")
    first = (tmp_path / "one/curate/report.html").read_bytes()
    assert b"4,123" in first and (tmp_path / "one/curate/DATA_CARD.md").exists()
    assert clipmill(tmp_path, "report", "one/curate", "--out", "page.html").returncode == 0
    assert (tmp_path / "page.html").read_bytes() != first  # of the curated set alone
    done = clipmill(tmp_path, "report", "one", "--against", "two")
    assert (done.returncode, done.stdout.strip()) == (0, "one/curate/comparison.html")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    sampled(
        [
            (["nowhere", "--against", "nowhere"], 2, "clipmill recipes"),
            (["empty"], 78, "nothing that a run has left"),
            (["one", "--against", "empty"], 78, "nothing that a run has left"),
            (["one", "curate.output=x"], 2, "takes no overrides"),
            (["demo", "--against", "one"], 78, "nothing has run yet"),
        ],
        0,
        2,
    ),
)
def test_what_cannot_be_reported_is_one_error(tmp_path, words, code, told):
    fake_run.write_run(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    done = clipmill(tmp_path, "report", *words)
    assert done.returncode == code and told in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.html"))
