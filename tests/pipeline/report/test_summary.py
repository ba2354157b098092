"""What `clipmill run` prints at its end: the numbers of the page, and words as words."""

import json
from pathlib import Path

import pytest

from tests.helpers import fake_run
from tests.helpers.fake_run import printed


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    return fake_run.write_run(tmp_path)


def test_the_terminal_table_says_the_same_as_the_page(folders):
    text = printed(folders)
    for words in ("12,000", "4,123", "−1,204", "image size: too small", "5.550 → 3.067", "0.026 → 0.340", "5 shards"):
        assert words in text
    assert "MISCOUNT" not in text


def test_markup_in_names_stays_words_on_the_terminal(folders):
    path = Path(folders["curate_output"]) / "summary.json"
    summary = json.loads(path.read_text())
    summary["stages"][0]["name"] = "[red]x[/]"
    path.write_text(json.dumps(summary))
    assert "[red]x[/]" in printed(folders)
