"""A stage that decides is shown the columns that it declares, in memory and from files, and no others."""

from curation.runner import tasks
from curation.runner.closing.vectors import shown
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages.balance import Balance
from curation.stages.caption_frequency import CaptionFrequency
from curation.stages.exact_duplicates import ExactDuplicates
from curation.stages.image_size import ImageSize
from curation.stages.perceptual_duplicates import PerceptualDuplicates
from tests.helpers import small_crawl

METHODS = [
    (ImageSize, "open"), (CaptionFrequency, "survey"), (ExactDuplicates, "survey"), (ExactDuplicates, "judge"),
    (PerceptualDuplicates, "survey"), (PerceptualDuplicates, "judge"), (Balance, "map"), (Balance, "judge"),
]  # fmt: skip


def test_every_call_of_every_stage_sees_what_the_stage_reads(tmp_path, monkeypatch):
    seen: dict[tuple[str, str], set[tuple[str, ...]]] = {}

    def watched(kind, name):
        plain = getattr(kind, name)

        def look(stage, pairs, *more):
            seen.setdefault((kind.__name__, name), set()).add(tuple(pairs.schema.names))
            assert sorted(pairs.schema.names) == sorted(shown(stage))
            return plain(stage, pairs, *more)

        def opened(stage, ctx):
            function = plain(stage, ctx)
            return lambda pairs: (look_open(stage, pairs), function(pairs))[1]

        def look_open(stage, pairs):
            seen.setdefault((kind.__name__, name), set()).add(tuple(pairs.schema.names))
            assert sorted(pairs.schema.names) == sorted(shown(stage))

        monkeypatch.setattr(kind, name, opened if name == "open" else look)

    for kind, name in METHODS:
        watched(kind, name)
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24))
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json", buckets=4)
    at = [each["kind"] for each in plain["stages"]].index("exact_duplicates")
    plain["stages"].insert(at + 1, {"kind": "perceptual_duplicates"})
    tasks._rules.clear()  # what another test has opened
    curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
    assert set(seen) == {(kind.__name__, name) for kind, name in METHODS}
    assert {len(each) for each in seen.values()} == {1}  # the same in the first round and in those that read files
