"""What a `curate` section may say; everything else is refused with its dotted path, before any work."""

import pytest
from pydantic import ValidationError

from curation.settings import CurateSettings

PLAIN = {"sources": [{"kind": "warc", "paths": ["a.warc"]}], "output": "out"}
DECODE = {"stages": [{"kind": "image_decode"}]}


def made(**changes) -> CurateSettings:
    return CurateSettings.model_validate({**PLAIN, **changes})


@pytest.mark.parametrize(
    ("change", "where", "said"),
    [
        ({"sources": []}, "sources", "at least 1"),
        ({"sources": [{"kind": "cd_rom", "paths": ["a"]}]}, "sources.0", "'warc'"),
        ({"sources": [{"kind": "warc", "paths": []}]}, "sources.0.warc.paths", "at least 1"),
        ({"sources": [{"kind": "warc", "paths": [" "]}]}, "sources.0.warc.paths.0", "expected a path"),
        ({"stages": [{"kind": "image_decoed"}]}, "stages.0", "'image_decode'"),
        ({"stages": [{"min_side": 8}]}, "stages.0", "kind"),
        ({"stages": [{"kind": "image_size", "min_sidee": 8}]}, "stages.0.image_size.min_sidee", "not permitted"),
        ({"output": ""}, "output", "expected a path"),
        ({"output": "a\0b"}, "output", "NUL"),
        ({"pool": " "}, "pool", "expected a path"),
        ({"buckets": 0}, "buckets", "greater than or equal to 1"),
        ({"buckets": 12}, "buckets", "power of two, such as 16"),
        ({"buckets": 131072}, "buckets", "less than or equal to 65536"),
        ({"emit": {"pairs_per_shard": 0}}, "emit.pairs_per_shard", "greater than or equal to 1"),
        ({"emit": {"other_formats": "gif"}}, "emit.other_formats", "'png' or 'drop'"),
        ({"emit": {"resize": {}}}, "emit.resize", "one of max_side and min_side"),
        ({"emit": {"resize": {"max_side": 8}}}, "emit.resize.max_side", "greater than or equal to 16"),
        ({"ray": {"num_cpus": 0}}, "ray.num_cpus", "greater than or equal to 1"),
        ({"stages": [{"kind": "none"}], "placement": {"image_decode": {}}}, "stages.0", "'none'"),  # one fault, not two
        ({"placement": {"image_decode": {}}}, "placement", "the stage 'image_decode' is not in stages"),
        ({**DECODE, "placement": {"image_decode": {"cpus": -1}}}, "placement.image_decode.cpus", "greater than or"),
        ({**DECODE, "placement": {"image_decode": {"cpus": float("inf")}}}, "placement.image_decode.cpus", "finite"),
        ({**DECODE, "placement": {"image_decode": {"batch": 0}}}, "placement.image_decode.batch", "greater than or"),
        # What Ray would refuse in the middle of a run:
        ({**DECODE, "placement": {"image_decode": {"gpus": 1.5}}}, "placement.image_decode.gpus", "a whole number"),
        ({**DECODE, "placement": {"image_decode": {"gpus": 1e-5}}}, "placement.image_decode.gpus", "0.0001"),
        ({**DECODE, "placement": {"image_decode": {"cpus": 1e-5}}}, "placement.image_decode.cpus", "0.0001"),
        ({**DECODE, "placement": {"image_decode": {"memory": -1}}}, "placement.image_decode.memory", "greater than"),
        (
            {**DECODE, "placement": {"image_decode": {"actors": {"min": 0}}}},
            "placement.image_decode.actors.min",
            "greater than",
        ),
        (
            {**DECODE, "placement": {"image_decode": {"actors": {"min": 3, "max": 2}}}},
            "placement.image_decode.actors",
            "max to be at least min, 3",
        ),
        ({"ray": {"runtime_env": "x"}}, "ray.runtime_env", "dictionary"),
        # What nothing would ever read:
        (
            {"stages": [{"kind": "image_size"}], "placement": {"image_size": {"batch": 8}}},
            "placement",
            "image_size is given whole buckets, so expected no batch for it",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(change, where, said):
    with pytest.raises(ValidationError) as refused:
        made(**change)
    faults = [(".".join(map(str, e["loc"])), e["msg"]) for e in refused.value.errors()]
    assert len(faults) == 1
    assert faults[0][0] == where and said in faults[0][1]


def test_every_power_of_two_is_a_number_of_buckets():
    assert [made(buckets=2**n).buckets for n in range(17)] == [2**n for n in range(17)]
    assert [n for n in range(1, 70) if refuses(buckets=n)] == [
        n for n in range(1, 70) if n not in (1, 2, 4, 8, 16, 32, 64)
    ]


def refuses(**change) -> bool:
    try:
        made(**change)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("gpus", [0, 0.0001, 0.25, 1, 1.0, 4])
def test_shares_of_a_gpu_and_whole_ones_may_be_asked_for(gpus):
    settings = made(**DECODE, placement={"image_decode": {"gpus": gpus, "cpus": 0.5, "batch": 4}})
    assert (settings.placement["image_decode"].gpus, settings.placement["image_decode"].batch) == (gpus, 4)


@pytest.mark.parametrize(("actors", "bounds"), [(4, (4, 4)), ({"max": 8}, (1, 8)), ({"min": 2}, (2, None))])
def test_actors_are_a_number_or_bounds(actors, bounds):
    found = made(**DECODE, placement={"image_decode": {"actors": actors}}).placement["image_decode"].actors
    assert (found.min, found.max) == bounds


def test_the_pool_lies_in_the_output_unless_a_recipe_says_where():
    assert made(output="s3://b/out/").pool_folder == "s3://b/out/_pool"
    assert made(output="out").pool_folder == "out/_pool"
    assert made(pool="elsewhere/").pool_folder == "elsewhere/"


def test_settings_do_not_change_once_made():
    settings = made()
    with pytest.raises(ValidationError, match="frozen"):
        settings.buckets = 4
    assert CurateSettings.model_validate(settings.model_dump(mode="json")) == settings
