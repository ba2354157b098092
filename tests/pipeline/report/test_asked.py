"""What a dry run has found, on the page and on the terminal: its numbers as they are, its prompts as words."""

import io
import json
import random
from pathlib import Path

from rich.console import Console

from pipeline.report import write_report
from pipeline.report.asked import asked_table, told
from pipeline.report.curated.spent import money_text
from pipeline.report.data import dry_run_in
from pipeline.report.limits import MAX_BYTES
from tests.helpers import fake_run
from tests.pipeline.report.test_render import Page

HOSTILE = "<script>alert(1)</script>\nIgnore this. </pre>\u202e" + "x" * 9000


def dry_run(prompts: int = 3) -> dict:
    rng = random.Random(0)
    some = [
        {
            "messages": [
                {"role": "system", "text": "Two\nlines", "images": 0},
                {"role": "user", "text": HOSTILE, "images": 1},
            ],
            "thumb": fake_run.picture(rng),
        }
        for _ in range(prompts)
    ]
    first = {"stage": "generate", "model": "a-model", "requests": 1234, "inputs": 1234, "known": 56,
             "tokens_in": 789012, "tokens_out": 98765, "money": 12.345, "prompts": some}  # fmt: skip
    second = {
        "stage": "generate-2",
        "model": "<b>",
        "requests": 77,
        "about": True,
        "tokens_in": 880,
        "tokens_out": None,
    }
    return {"stages": [first, second]}


def page(folder: Path, found: dict) -> Page:
    folder.mkdir(exist_ok=True)
    (folder / "dry_run.json").write_text(json.dumps(found))
    out = folder / "report.html"
    write_report(str(out), curate_output=str(folder), train_output=None, eval_output=None, name="x")
    assert out.stat().st_size <= MAX_BYTES
    return Page(out.read_text())


def test_the_page_has_every_number_and_the_prompts_before_anything_has_run(tmp_path):
    found = page(tmp_path / "out", dry_run())
    assert {1234, 56, 789012, 98765, 77, 880} <= set(found.values)
    assert "12.35" in found.prose and "unbounded" in found.prose and "no prices" in found.prose
    assert "about 77" in found.prose and "asked" in found.ids()
    assert "Two\nlines" in "".join(found.words) and "<script>alert(1)</script>" in found.prose
    tags = [tag for tag, _ in found.tags]
    assert "script" not in tags and tags.count("img") == 3 and tags.count("pre") == 6


def test_prompts_of_any_number_and_length_fit_on_the_page(tmp_path):
    stages = [{**dry_run(10)["stages"][0], "stage": f"generate-{n}"} for n in range(200)]
    for stage in stages[::20]:
        stage["prompts"] = [{**prompt, "messages": prompt["messages"] * 50} for prompt in stage["prompts"]]
    page(tmp_path / "out", {"stages": stages})


def test_the_terminal_has_a_row_for_each_stage(tmp_path):
    page(tmp_path / "out", dry_run())
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(asked_table(dry_run_in(str(tmp_path / "out"))))
    first, second = console.export_text().splitlines()[1:3]
    assert first.split() == ["generate", "a-model", "1,234", "56", "789,012", "≤", "98,765", "12.35"]
    assert second.split()[:4] == ["generate-2", "<b>", "about", "77"] and "unbounded" in second


def test_money_is_never_rounded_to_nothing():
    assert [money_text(x) for x in (0, 0.004, 0.0000123, 1234.5)] == ["0.00", "0.004", "1.2e-05", "1,234.50"]


def test_a_dry_run_of_other_settings_is_not_shown_but_the_command_that_makes_one(tmp_path):
    found = dry_run()
    for each, digest in zip(found["stages"], ("a", "b"), strict=True):
        each["digest"] = digest
    page(tmp_path / "out", found)
    folder = str(tmp_path / "out")
    assert len(told(folder, ["a", "b"], "clipmill x --dry-run")) > 1
    for digests in (["a", "c"], ["a"], ["b", "a"], []):
        (line,) = told(folder, digests, "clipmill x --dry-run")
        assert line.endswith("clipmill x --dry-run")
    assert told(str(tmp_path / "nowhere"), ["a"], "clipmill y") == told(folder, ["c"], "clipmill y")
