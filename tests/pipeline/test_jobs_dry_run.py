"""`clipmill curate --dry-run` and `clipmill check`: what models would be asked, before and after it is known."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline import cli, jobs, reports
from pipeline.recipe import load
from tests.helpers import small_crawl

FUNCTION = {"kind": "function", "function": "tests.helpers.captioner:describe", "model": "a-model"}
CAPTION = {"kind": "generate", "backend": FUNCTION, "name": "x"}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(24))
    section = {
        "sources": [{"kind": "warc", "paths": paths}], "stages": [{"kind": "image_decode"}, CAPTION],
        "output": str(tmp_path / "out"), "ray": {"address": "inline"},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "r", "curate": section}))
    return tmp_path / "r.yaml"


def said(capsys, function, *words) -> str:
    function(load(str(words[0]), list(words[1:])))
    return capsys.readouterr().out


def test_check_says_how_to_know_then_what_is_known_and_not_of_another_recipe(recipe, capsys):
    how = f"clipmill curate {recipe} --dry-run"
    assert how in said(capsys, jobs.check, recipe)
    cli.app(["curate", str(recipe), "--dry-run"], standalone_mode=False)
    told = capsys.readouterr().out
    out = recipe.parent / "out"
    [stage] = json.loads((out / "dry_run.json").read_text())["stages"]
    row = next(line for line in told.splitlines() if "a-model" in line).split()
    assert row[:4] == ["generate", "a-model", str(stage["requests"]), "0"] and stage["requests"] > 5
    assert 'id="asked"' in (out / "report.html").read_text() and not (out / "manifest.json").exists()
    assert " ".join(row) in " ".join(said(capsys, jobs.check, recipe).split())
    assert how in said(capsys, jobs.check, recipe, "curate.stages.1.backend.model=another")


def test_the_run_that_asks_takes_the_dry_run_away_and_the_next_has_nothing_to_ask(recipe, capsys):
    jobs.dry_run(load(str(recipe), []))
    jobs.curate(load(str(recipe), []))
    out = recipe.parent / "out"
    assert not (out / "dry_run.json").exists() and 'id="asked"' not in (out / "report.html").read_text()
    capsys.readouterr()
    assert "nothing to ask" in said(capsys, jobs.dry_run, recipe)
    assert "no stage asks a model" in said(capsys, jobs.dry_run, recipe, "curate.stages=[{kind: image_decode}]")


def test_what_a_dry_run_left_has_a_report_of_its_own(recipe):
    jobs.dry_run(load(str(recipe), []))
    written = reports.report_at(str(recipe.parent / "out"), [], None, str(recipe.parent / "page.html"))
    assert 'id="asked"' in Path(written).read_text()
