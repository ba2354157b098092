"""`clipmill plan` as a user types it."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import RecipeError, UsageError
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import write_recipe


def plan(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["plan", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_training_is_foretold_and_nothing_is_left_behind(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    there = sorted(tmp_path.rglob("*"))
    text = plan(str(recipe), "--nodes", "2", "--gpus-per-node", "4", "--device", "a100", "--price-per-gpu-hour", "2")
    assert "2 nodes of 4 x a100" in text and "an hour" in text and "of the manifest" in text
    assert sorted(tmp_path.rglob("*")) == there


def test_machines_get_json_with_overrides_applied(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    found = json.loads(
        plan(str(recipe), "train.engine.zero_stage=2", "--json", "--device", "cpu", "--gpus-per-node", "2")
    )
    (stage,) = found["training"]["stages"]
    assert (stage["zero_stage"], found["cluster"]["device"], found["training"]["data_pairs"]) == (2, "cpu", 96)
    assert found["fits"] is True and found["money"] is None


def test_a_curation_that_is_not_there_is_foretold_by_a_number_of_pairs(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    sources = [{"kind": "warc", "paths": [str(tmp_path / "gone.warc.gz")]}]
    recipe.write_text(yaml.safe_dump({"curate": {"sources": sources, "output": str(tmp_path / "out")}}))
    found = json.loads(plan(str(recipe), "--json", "--pairs", "1e8", "--nodes", "10"))
    assert found["curation"]["pairs"] == 10**8 and found["curation"]["counted"] == "as given"
    with pytest.raises(RecipeError, match="gone.warc.gz"):
        plan(str(recipe))


def test_an_unknown_device_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tpu"):
        plan(str(write_recipe(tmp_path)), "--device", "tpu")


def test_the_readme_shows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fits on eight H100. Of figures the first of each line, about: another torch may move their last digit."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "140")
    shown = (ROOT / "README.md").read_text().split("vit-b-32 on 8 x h100\n")[1].split("```")[0].splitlines()
    assert shown and not any(line.startswith("does not work") for line in shown)
    said = plan("examples/vit-b-32.yaml", "--price-per-gpu-hour", "2.5").splitlines()[1:]
    assert [line.split()[:2] for line in said] == [line.split()[:2] for line in shown]
    for one, other in zip(said, shown, strict=True):
        numbers = [re.findall(r"[\d.,]*\d", line)[:1] for line in (one, other)]
        first, second = ([float(number.replace(",", "")) for number in each] for each in numbers)
        assert first == pytest.approx(second, rel=0.03), one
