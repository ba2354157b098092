"""What is said of a recipe before a run."""

import pytest

from curation.runner import exchange
from curation.runner.closing import measuring
from curation.runner.costs.plan import plan
from curation.settings import CurateSettings
from curation.stages import STAGES
from tests.helpers import everything

SIZES = (10**8, 10**9, 10**10)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    found = everything.stages(folder / "lists")
    plain = everything.recipe([{"kind": "warc", "paths": ["x"]}], found, folder / "out")
    return CurateSettings.model_validate(plain).stages


def test_no_task_holds_more_of_a_larger_crawl(stages):
    assert {stage.kind for stage in stages} == set(STAGES)
    found = [plan(stages, pairs, pairs // 62_500) for pairs in SIZES]
    assert max(each.memory for each in found) < 2 << 30


def test_costs_grow_with_the_pairs(stages):
    found = [plan(stages, pairs, pairs // 62_500) for pairs in SIZES]
    for less, more in zip(found[:-1], found[1:], strict=True):
        assert 8 < more.core_s / less.core_s < 12 and 8 < more.bytes / less.bytes < 12
        assert 2 < more.cost.tasks / less.cost.tasks < 20 and 8 < more.cost.reads / less.cost.reads < 25


@pytest.mark.parametrize("pairs", SIZES)
def test_a_task_that_answers_holds_half_a_gibibyte_of_columns(stages, pairs):
    for stage in stages:
        width = measuring.row_bytes(stage)
        if width:
            runs = exchange.runs(65_536, pairs, measuring.RUN_ROWS, measuring.most_rows(stage))
            assert pairs / len(runs) * width < 600 << 20, stage.kind


def test_a_square_is_counted_in_the_segments_that_write_it():
    """Behind its last reader it costs nothing more; the stages themselves are the same."""
    decoded = STAGES["image_decode"]()
    near, capped = STAGES["perceptual_duplicates"](), [STAGES["caption_frequency"](max_pairs=n) for n in (1, 2, 3)]
    late, soon = plan([decoded, *capped, near], 10**8, 1600), plan([decoded, near, *capped], 10**8, 1600)
    width = sum(field.type.byte_width for field in decoded.adds if field.name in ("grey", "tiny_rgb"))
    assert late.cost.tasks == soon.cost.tasks
    assert late.bytes - soon.bytes == 10**8 * 3 * width
