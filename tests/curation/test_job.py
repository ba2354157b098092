"""A job's names change exactly with what its results depend on."""

import itertools

import pytest

from curation.job import ROWS_PER_BUCKET, buckets_for, cut_for, make_job
from curation.pool import join
from curation.settings import CurateSettings
from curation.stages.image_size import ImageSize
from curation.table.uids import Cut

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


def test_row_wise_stages_share_a_segment_and_one_that_asks_around_ends_it():
    segments = job().segments
    cuts = [(None, (0,), 1), (1, (), 2), (2, (3,), 4), (4, (), None)]
    assert [(s.opener, s.rows, s.closer) for s in segments] == cuts
    assert [s.is_last for s in segments] == [False, False, False, True]
    rows = [{"kind": "opt_out"}, {"kind": "image_decode"}, {"kind": "image_size"}, {"kind": "caption_clean"}]
    assert [s.rows for s in job(stages=rows).segments] == [(0,), (2, 3)]


def test_without_a_stage_that_measures_images_the_probe_is_the_last_closer():
    segments = job(stages=[{"kind": "opt_out"}]).segments
    assert [(s.opener, s.rows, s.closer) for s in segments] == [(None, (0,), 1), (1, (), None)]
    assert job(stages=[{"kind": "opt_out"}]).stage(1).adds[0].name == "width"


def test_stages_that_ask_for_other_resources_part_a_segment():
    stages = [{"kind": "image_decode"}, {"kind": "image_size"}, {"kind": "caption_clean"}]
    segments = job(stages=stages, placement={"caption_clean": {"gpus": 0.5}}).segments
    assert [(s.rows, s.gpus) for s in segments] == [((), 0.0), ((1,), 0.0), ((2,), 0.5)]
    segments = job(stages=stages, placement={"caption_clean": {"memory": 1 << 30, "actors": 2}}).segments
    assert [(s.rows, s.memory, bool(s.actors)) for s in segments][1:] == [((1,), 0, False), ((2,), 1 << 30, True)]


def test_the_order_of_parts_and_the_number_of_buckets_do_not_name_a_run():
    assert job(("b", "a")).digest == job().digest == job(buckets=4).digest
    assert job(output="elsewhere").digest == job().digest


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
    assert job(**change).digest != job().digest


@pytest.mark.parametrize(
    ("at", "change", "expected"),
    [
        (3, {"min_side": 9}, [True, True, False, False]),
        # What it was first asked with does not look at this setting: the notes serve, the settling is done anew.
        (2, {"merge_captions": False}, [True, True, False, False]),
        # One that does: the segment before the one it judges in is made again, too.
        (4, {"max_pairs": 4}, [True, True, False, False]),
    ],
)
def test_a_changed_stage_names_its_segments_and_those_behind_them_anew_and_none_before(at, change, expected):
    stages = [stage | (change if number == at else {}) for number, stage in enumerate(PLAIN["stages"])]
    same = [a.digest == b.digest for a, b in zip(job().segments, job(stages=stages).segments, strict=True)]
    assert same == expected


def test_a_setting_of_the_settling_alone_names_what_is_settled_and_not_what_was_asked():
    stages = [stage | ({"merge_captions": False} if n == 2 else {}) for n, stage in enumerate(PLAIN["stages"])]
    first, second = job().segments, job(stages=stages).segments
    assert first[1].digest == second[1].digest and first[1].closing != second[1].closing
    assert first[0].closing == second[0].closing


def test_every_stage_is_done_once_and_in_order():
    kinds = ["opt_out", "image_size", "caption_clean", "image_decode", "exact_duplicates", "caption_frequency"]
    for count in range(5):
        for chosen in itertools.product(kinds, repeat=count):
            plain = [{"kind": kind} | ({"max_pairs": 3} if kind == "caption_frequency" else {}) for kind in chosen]
            made = job(stages=plain, placement={"opt_out": {"cpus": 2}} if "opt_out" in chosen else {})
            judged = [at for s in made.segments for at in ([s.opener] if s.opener is not None else []) + list(s.rows)]
            probe = [] if "image_decode" in chosen else [count]
            assert judged == [*range(count), *probe]
            asked = [s.closer for s in made.segments if s.closer is not None]
            assert asked == [*(at for at, kind in enumerate(chosen) if kind in kinds[3:]), *probe]
            for before, after in itertools.pairwise(made.segments):
                assert before.closer == after.opener  # None in both where only the resources differ
                asks = {chosen[at] == "opt_out" for at in (*before.rows[-1:], *after.rows[:1])}
                assert after.opener is not None or len(asks) == 2
            assert [s.index for s in made.segments] == list(range(len(made.segments)))
            assert [s.is_last for s in made.segments] == [False] * (len(made.segments) - 1) + [True]


def test_a_segment_asks_for_what_its_row_wise_stages_ask_for():
    """What ends it asks in tasks of its own (tests/curation/runner/test_driver.py)."""
    placed = {"exact_duplicates": {"cpus": 3}, "image_size": {"gpus": 0.25}}
    asks = [(s.cpus, s.gpus) for s in job(placement=placed).segments]
    assert asks == [(1.0, 0.0), (1.0, 0.0), (1.0, 0.25), (1.0, 0.0)]
    assert job(placement={"opt_out": {"cpus": 0.5}}).segments[0].cpus == 0.5


def test_where_work_runs_names_nothing():
    for change in (
        {"ray": {"address": "inline", "num_cpus": 1}},
        {"pool": "elsewhere"},
        {"placement": {"image_decode": {"batch": 2}}},
        {"fresh": True},
    ):
        made = job(**change)
        assert (made.digest, made.segments) == (job().digest, job().segments), change


def test_the_cut_into_buckets_names_files_but_not_the_run():
    digests = {made.segments[0].digest for made in (job(buckets=1), job(buckets=4), job(buckets=8))}
    assert len(digests) == 3 and job(buckets=4).digest == job().digest


def test_buckets_are_few_for_a_small_crawl_and_bounded_in_rows_for_a_large_one():
    assert [buckets_for(rows) for rows in (0, 1, 15_999, 32_000, 80_000, 400_000)] == [1, 1, 1, 2, 8, 16]
    for rows in (10**exponent for exponent in range(6, 11)):
        buckets = buckets_for(rows)
        assert buckets & (buckets - 1) == 0 and 16 <= buckets <= 65536
        assert (
            (rows / buckets <= ROWS_PER_BUCKET or buckets == 65536)
            and rows / buckets > ROWS_PER_BUCKET / 4
            or buckets == 16
        )
    assert buckets_for(10**12) == 65536


def test_the_cut_that_is_made_when_the_parts_are_read_names_files_but_not_the_run():
    first = job(buckets=4)
    cuts = [Cut.even(4), Cut.even(8), Cut.at_quantiles(["0" * 32, "7" * 32], 4)]
    cut = [cut_for(first, each, 1000) for each in cuts]
    assert [each.buckets for each in cut] == [4, 8, 4] and {each.digest for each in cut} == {first.digest}
    for folders in zip(*((each.joined_folder, each.runs_folder, each.segments[0].folder) for each in cut), strict=True):
        assert len(set(folders)) == 3


def test_what_is_joined_is_named_by_parts_and_cut_alone(monkeypatch):
    first = job()
    assert job(stages=[]).joined_folder == first.joined_folder == job(emit={"pairs_per_shard": 7}).joined_folder
    assert job(("a",)).joined_folder != first.joined_folder
    monkeypatch.setattr(join, "VERSION", join.VERSION + 1)
    assert job().joined_folder != first.joined_folder and job().segments[0].digest != first.segments[0].digest


def test_how_pairs_are_written_is_the_last_segments_business():
    """Else another shard size would run every stage a second time."""
    same = [
        a.digest == b.digest for a, b in zip(job().segments, job(emit={"pairs_per_shard": 7}).segments, strict=True)
    ]
    assert same == [True, True, True, False] and job(emit={"pairs_per_shard": 7}).digest != job().digest


def test_the_order_of_stages_and_the_version_of_their_code_name_a_run(monkeypatch):
    first = job()
    assert job(stages=[PLAIN["stages"][1], PLAIN["stages"][0], *PLAIN["stages"][2:]]).digest != first.digest
    monkeypatch.setattr(ImageSize, "version", ImageSize.version + 1)
    same = [a.digest == b.digest for a, b in zip(first.segments, job().segments, strict=True)]
    assert same == [True, True, False, False] and job().digest != first.digest


def test_a_list_is_named_by_its_content_not_by_its_place(tmp_path):
    def made(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return job(stages=[{"kind": "concept_match", "entries": str(path)}]).digest

    assert made("a.json", '["cat"]') == made("b.json", '["cat"]')
    assert made("a.json", '["cat", "dog"]') != made("b.json", '["cat"]')


def test_files_of_a_job_lie_apart():
    made = job(output="out/", buckets=2)
    names = [
        made.file(segment, bucket, suffix)
        for segment in made.segments
        for bucket in range(2)
        for suffix in (".parquet", ".ledger.parquet", ".closing.parquet", ".closing.pack", ".json")
    ]
    names += [made.closing_file(segment, name) for segment in made.segments[:-1] for name in ("closed.json", "x.json")]
    names += [made.emit_folder, made.pool]
    assert len(set(names)) == len(names)
    assert all(name.startswith("out/_work/") for name in names[:-1]) and made.pool == "out/_pool"


def test_stages_of_one_kind_have_names_of_their_own():
    stages = [{"kind": "opt_out"}, {"kind": "image_decode"}, {"kind": "image_size"}, {"kind": "image_size"}]
    assert job(stages=stages).names == ("opt_out", "image_decode", "image_size", "image_size-2", "emit")


LONG = [
    {"kind": "image_decode"},
    {"kind": "exact_duplicates"},
    {"kind": "perceptual_duplicates"},
    {"kind": "image_size", "min_side": 8},
    {"kind": "caption_frequency", "max_pairs": 3},
    {"kind": "sample", "fraction": 0.9},
]


def test_squares_of_grey_are_left_out_behind_their_last_reader():
    made = [(each.closer, each.leaves) for each in job(stages=LONG).segments]
    squares = ("grey", "tiny_rgb")
    assert made == [(0, ()), (1, ()), (2, ()), (4, squares), (5, squares), (None, squares)]
    unread = [each.leaves for each in job(stages=[LONG[0], *LONG[3:]]).segments]
    assert unread == [(), squares, squares, squares]


def test_a_reader_put_behind_makes_new_names_from_where_they_were_left_out_and_a_threshold_does_not():
    before = job(stages=LONG).segments
    other = job(stages=[*LONG[:5], {"kind": "sample", "fraction": 0.8}]).segments
    assert [each.folder for each in other][:5] == [each.folder for each in before][:5]
    more = job(stages=[*LONG, {"kind": "perceptual_duplicates"}]).segments
    same = [mine.folder == theirs.folder for mine, theirs in zip(before, more, strict=False)]
    assert same == [True, True, True, False, False, False] and not any(each.leaves for each in more[:6])
