"""A job's names change exactly with what its results depend on."""

import pytest

from curation.job import make_job
from curation.settings import CurateSettings

PLAIN = {
    "sources": [{"kind": "warc", "paths": ["a.warc"]}],
    "stages": [
        {"kind": "opt_out"},
        {"kind": "image_decode"},
        {"kind": "exact_duplicates"},
        {"kind": "image_size", "min_side": 8},
        {"kind": "caption_frequency", "max_pairs": 3},
    ],
    "output": "out",
}


def job(parts=("a", "b"), seed=0, **changes):
    return make_job(CurateSettings.model_validate({**PLAIN, **changes}), seed, list(parts))


def test_row_wise_stages_share_a_segment_and_a_global_one_ends_it():
    segments = job().segments
    assert [(s.opener, s.rows, s.closer) for s in segments] == [(None, (0, 1), 2), (2, (3,), 4), (4, (), None)]
    assert [s.is_last for s in segments] == [False, False, True]


def test_stages_that_ask_for_other_resources_part_a_segment():
    segments = job(placement={"image_decode": {"gpus": 0.5}}).segments
    assert [(s.rows, s.gpus) for s in segments][:2] == [((0,), 0.0), ((1,), 0.5)]


def test_the_order_of_parts_and_the_number_of_buckets_do_not_name_a_run():
    assert job(("b", "a")).run_digest == job().run_digest == job(buckets=4).run_digest
    assert job(output="elsewhere").run_digest == job().run_digest


@pytest.mark.parametrize(
    "change",
    [
        {"parts": ("a",)},
        {"seed": 1},
        {"emit": {"pairs_per_shard": 7}},
        {"stages": PLAIN["stages"][:-1]},
        {"stages": [*PLAIN["stages"][:-1], {"kind": "caption_frequency", "max_pairs": 4}]},
    ],
)
def test_what_results_depend_on_names_a_run(change):
    assert job(**change).run_digest != job().run_digest


def test_a_changed_stage_names_its_segment_and_those_behind_it_anew_and_none_before():
    stages = [*PLAIN["stages"][:3], {"kind": "image_size", "min_side": 9}, PLAIN["stages"][4]]
    same = [a.digest == b.digest for a, b in zip(job().segments, job(stages=stages).segments, strict=True)]
    assert same == [True, False, False]
