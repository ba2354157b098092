"""However much there is to show, the page stays under ten million bytes: pictures go first, and it says so."""

import json
import random
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from pipeline.report import write_report
from pipeline.report.limits import MAX_BYTES
from tests.helpers import fake_run
from tests.helpers.lanes import sampled

LONG = "<b>&\"' \u202e \u00e9\U0001f600 " * 40


def huge(summary: dict, stages: int, reasons: int, thumb: str) -> None:
    """Far more of everything than fits, every word long and hostile; the counts still add up."""
    rng = random.Random(1)
    names = [f"{LONG[: 40 + at % 90]}-{at}" for at in range(stages)]
    kinds = [f"{LONG[:60]}{at}" for at in range(reasons)]
    pairs, rows = stages * reasons + 10, []
    for name in names:
        drops = dict.fromkeys(kinds, 1)
        row = {"name": name, "kind": name, "pairs_in": pairs, "pairs_out": pairs - reasons, "drops": drops}
        rows.append(row | {"captions_in": pairs, "captions_out": pairs - reasons, "caption_drops": drops})
        pairs -= reasons
    some = [fake_run.example(rng) | {"thumb": thumb, "caption": LONG, "detail": LONG} for _ in range(12)]
    group = {"reason": f"{names[0]}.copy", "survivor": some[0], "removed": some, "count": 10**9}
    judged = [each | {"kept": True, "reason": LONG, "beside": each} for each in some]
    changed = [
        each | {"before": [{"text": LONG, "source": LONG}] * 20, "after": [{"text": LONG}] * 20} for each in some
    ]
    answered = [each | {"asked": LONG, "answers": [{"of": LONG, "text": "\u202e" * 500}] * 20} for each in some]
    [told] = [each for each in summary["evidence"] if each.get("scores")]
    shown = {
        "groups": [{"title": LONG, "examples": judged}] * 26,
        "changed": changed * 3,
        "scores": told["scores"] * 20,
        "answers": [{"reason": f"{LONG[:50]}{n}" if n else "", "examples": answered} for n in range(40)],
        "by": {"source": LONG, "model": LONG},
    }
    counts = {f"{LONG[:9]}{at}": 5 for at in range(300)}
    part = {"part": LONG, "path": LONG, "bytes": 1, "digest": "", "counts": counts}
    section = {"title": LONG, "text": LONG, "columns": [LONG] * 30, "rows": [[LONG[:300]] * 30] * 80}
    summary |= {
        "pairs_in": stages * reasons + 10, "pairs_kept": 10, "stages": rows, "kept_examples": some * 20,
        "drop_examples": {f"{name}.{kind}": some for name in names[:9] for kind in kinds[:9]},
        "duplicate_groups": [group] * 200,
        "evidence": [{"stage": name, "kind": LONG, **shown} for name in names[: min(6, stages // 10)]],
        "sections": [{"stage": name, **section} for name in names[:20] for _ in range(2)],
        "inputs": [part] * 50,
        "asked": [{"stage": name, "model": LONG, "is_server": True, "pool": {"failed": counts}} for name in names],
    }  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.parametrize(("stages", "reasons"), sampled([(30, 4), (500, 50)], 0))
def test_far_more_than_fits_makes_a_page_that_fits_and_says_what_is_left_off(tmp_path, stages, reasons):
    folders = fake_run.write_run(tmp_path)
    path = Path(folders["curate_output"]) / "summary.json"
    summary = json.loads(path.read_text())
    huge(summary, stages, reasons, fake_run.noise(200))
    path.write_text(json.dumps(summary))
    (Path(folders["curate_output"]) / "manifest.json").unlink()
    out = tmp_path / "report.html"
    write_report(str(out), **folders, name=LONG)
    page = out.read_bytes()
    assert len(page) <= MAX_BYTES == 10_000_000
    tree = LexborHTMLParser(page.decode())
    said = tree.body.text()
    assert "less is shown of everything" in said and "not shown" in said
    assert stages > 200 or "pictures are left off" in said
    assert "difference 0" in " ".join(tree.body.text().split())  # the funnel adds up, whatever is not listed
    assert not tree.css("script, link, iframe, object, b > b") and not tree.css("[onerror], [onload]")
    if stages > 200:
        assert (
            f"{stages - 200:,} more stages" in " ".join(tree.body.text().split()) or "more stages" in tree.body.text()
        )


def test_the_first_of_every_group_come_first(tmp_path):
    folders = fake_run.write_run(tmp_path)
    path, big = Path(folders["curate_output"]) / "summary.json", fake_run.noise(330)
    summary = json.loads(path.read_text())
    for examples in summary["drop_examples"].values():
        for item in examples:
            item["thumb"] = big
    path.write_text(json.dumps(summary))
    write_report(str(tmp_path / "report.html"), **folders, name="demo")
    tree = LexborHTMLParser((tmp_path / "report.html").read_text())
    grids = tree.css("#dropped .grid")
    assert len(grids) >= 15 and all(grid.css_first("figure img") for grid in grids)
    assert any("picture left off" in grid.text() for grid in grids)
