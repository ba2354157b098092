"""What the books say of concepts: distinct texts of each pair, before and after balancing."""

import json
import re

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import small_crawl


def told(folder, rows) -> tuple[dict[str, int], dict]:
    """(entry_counts.json, the report's concepts) of a crawl; caption_clean would drop a repeated text before."""
    plain = small_crawl.recipe(small_crawl.write(folder / "in", rows), folder / "out", folder / "entries.json")
    plain["stages"] = [stage for stage in plain["stages"] if stage["kind"] != "caption_clean"]
    curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    counts = json.loads((folder / "out" / "entry_counts.json").read_text())
    return counts, json.loads((folder / "out" / "summary.json").read_text())["concepts"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return told(tmp_path_factory.mktemp("plain"), small_crawl.records())


def test_a_text_that_is_alt_and_title_of_an_image_counts_once(plain, tmp_path):
    rows = [
        (
            url,
            status,
            kind,
            re.sub(rb'alt="([^"]*)"', rb'alt="\1" title="\1"', body) if kind == "text/html" else body,
            x,
        )
        for url, status, kind, body, x in small_crawl.records()
    ]
    assert b"title=" in rows[-1][3]
    assert told(tmp_path, rows) == plain


def test_a_title_of_another_text_counts_too(plain, tmp_path):
    rows = [
        (url, status, kind, re.sub(rb'alt="([^"]*)"', rb'alt="\1" title="\1 too"', body), x)
        for url, status, kind, body, x in small_crawl.records()
    ]
    counts, concepts = told(tmp_path, rows)
    assert all(counts[word] >= number for word, number in plain[0].items())
    assert sum(counts.values()) > sum(plain[0].values())
    assert all(each["after"] <= each["before"] == counts[each["entry"]] for each in concepts["head"])
