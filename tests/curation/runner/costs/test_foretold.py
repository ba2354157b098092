"""A curation on a cluster: the counts are those of the core's table, the hours those of its nodes."""

from dataclasses import replace
from pathlib import Path

import pytest

from curation.runner.costs.foretold import foretell
from curation.runner.costs.plan import plan
from curation.settings import CurateSettings
from pipeline.errors import RecipeError
from pipeline.plan.devices import cluster_of
from pipeline.plan.found import CurationPlan, Note
from tests.curation.runner.costs.test_counted import tables

PLAIN = [{"kind": "caption_rules"}, {"kind": "exact_duplicates"}, {"kind": "caption_frequency", "max_pairs": 10}]


def settings_of(tmp_path: Path, sources: list, stages: list = PLAIN, **more: object) -> CurateSettings:
    return CurateSettings.model_validate(
        {"sources": sources, "stages": stages, "output": str(tmp_path / "out"), **more}
    )


def test_counts_are_those_of_the_core(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, [{"kind": "warc", "paths": ["gone/*.warc.gz"]}], [{"kind": "image_decode"}, *PLAIN]
    )
    found = foretell(settings, cluster_of("h100", 10, 8, cores=64), 10**9)
    assert isinstance(found, CurationPlan)
    said = plan(settings.stages, 10**9, 16_000)
    assert found.cost == {**said.cost._asdict(), "reads": said.cost.reads}
    assert (found.parts, found.buckets, found.bytes, found.memory) == (16_000, said.buckets, said.bytes, said.memory)
    assert found.hours == pytest.approx(max(said.core_s / 640, said.cost.reads / 50_000) / 3600)
    busy = replace(said, core_s=7 * 3600.0 * 10 * 64)  # so much to compute that reading is waited for no more
    assert (busy.hours(10, 64), busy.hours(10, 32)) == pytest.approx((7.0, 14.0))
    assert any("image_decode" in note.found for note in found.notes)


def test_a_stage_more_costs_more(tmp_path: Path) -> None:
    sources = [{"kind": "warc", "paths": ["gone"]}]
    less, more = (
        foretell(settings_of(tmp_path, sources, stages), cluster_of(), 10**8)
        for stages in (PLAIN[:1], [*PLAIN, {"kind": "site_boilerplate"}])
    )
    assert isinstance(less, CurationPlan) and isinstance(more, CurationPlan)
    assert more.cost["tasks"] > less.cost["tasks"] and more.hours > less.hours


def test_inputs_that_tell_are_counted(tmp_path: Path) -> None:
    found = foretell(settings_of(tmp_path, [tables(tmp_path / "t", 400, 300)]), cluster_of())
    assert isinstance(found, CurationPlan)
    assert (found.pairs, found.parts, found.counted) == (700, 2, "footers of 2 tables")
    assert any("download" in note.found for note in found.notes)


def test_inputs_that_do_not_tell_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"x")
    found = foretell(settings_of(tmp_path, [{"kind": "warc", "paths": [str(tmp_path / "a.warc.gz")]}]), cluster_of())
    assert isinstance(found, Note) and found.fix == "--pairs 1e8"


def test_inputs_that_are_not_there_need_a_number(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing at"):
        foretell(settings_of(tmp_path, [{"kind": "warc", "paths": [str(tmp_path / "gone.warc")]}]), cluster_of())
