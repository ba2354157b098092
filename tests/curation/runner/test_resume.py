"""What a run goes on from is checked as strictly as what it publishes: damage is made again, or is one error."""

import logging
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.emit import book_tasks, shards, swap
from curation.runner import joined, tasks
from curation.runner.closing import grouping, measuring, reducing, shares
from curation.runner.driver import curate
from curation.runner.inputs import reading
from curation.settings import CurateSettings
from pipeline.errors import ClipmillError
from tests.helpers import small_crawl
from tests.helpers.lanes import sampled

# Where a run is cut off, and before which call of that function.
CUTS = [
    (reading, "ingest", 1), (joined, "run", 1), (joined, "join", 0), (joined, "join", 1),
    (tasks, "segment", 1), (measuring, "claim", 0), (shares, "share", 0), (measuring, "answer", 0),
    (grouping, "settle", 1), (grouping, "settle", 2), (reducing, "finish", 0), (tasks, "segment", 5),
    (shards, "emit_shard", 1), (book_tasks, "publish_book", 0), (swap, "_swap", 0),
]  # fmt: skip
JUNK = [b"", b"{", b"null", b"[" * 50_000, b"\xff\xfe\x00", b'{"files": {}, "check": "0"}', b'{"counts": 3}']


class Cut(BaseException):
    pass


def run(folder: Path, **more):
    plain = small_crawl.recipe([str(folder / "in" / "*.gz")], folder / "out", folder / "e.json", buckets=2, **more)
    return curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)


def cut_off(folder: Path, monkeypatch, home, name: str, calls: int) -> None:
    left, real = [calls], getattr(home, name)

    def dying(*args, **keywords):
        if not left[0]:
            raise Cut
        left[0] -= 1
        return real(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, dying)
        with pytest.raises(Cut):
            run(folder)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    small_crawl.write(folder / "in", small_crawl.records(36), 2)
    run(folder)
    return small_crawl.outcome(folder / "out")


def damaged(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    how = rng.choice(["flipped", "flipped", "cut", "gone", "junk"])
    if how == "flipped":
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:at])
    elif how == "junk":
        path.write_bytes(rng.choice(JUNK))
    else:
        path.unlink()
    return f"{path.name} {how} at {at}"


@pytest.mark.slow
@pytest.mark.parametrize("most", sampled([1, 9], 0))
@pytest.mark.parametrize(
    ("cut",), sampled([(cut,) for cut in CUTS], *range(0, len(CUTS), 2)), ids=lambda cut: f"{cut[1]}-{cut[2]}"
)
def test_damage_between_a_kill_and_the_resume_is_never_published(reference, tmp_path, monkeypatch, cut, most):
    small_crawl.write(tmp_path / "in", small_crawl.records(36), 2)
    cut_off(tmp_path, monkeypatch, *cut)
    shutil.copytree(tmp_path / "out", tmp_path / "kept")
    rng = random.Random(f"{cut[1]} {cut[2]} {most}")
    files = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for name in rng.sample(sorted(files), min(most, len(files))):
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "kept", tmp_path / "out")
        if not (tmp_path / "out" / name).stat().st_size:
            continue
        said = damaged(tmp_path / "out" / name, rng)
        try:
            run(tmp_path)
        except ClipmillError as error:  # the image itself: the same command reads that part again
            assert name.name == "images.tar" and error.hint.startswith("run the same command again"), said
            run(tmp_path)
        assert small_crawl.outcome(tmp_path / "out") == reference, said


@pytest.mark.parametrize("calls", sampled([1, 3, 6], 1))
def test_pairs_that_are_gone_from_a_segment_half_done_are_made_again(reference, tmp_path, monkeypatch, calls):
    small_crawl.write(tmp_path / "in", small_crawl.records(36), 2)
    cut_off(tmp_path, monkeypatch, tasks, "segment", calls)
    for path in (tmp_path / "out" / "_work").rglob("bucket-*[0-9].parquet"):
        path.unlink()
    run(tmp_path)
    assert small_crawl.outcome(tmp_path / "out") == reference


@pytest.mark.parametrize("junk", sampled(JUNK, 0, 3, 5), ids=range(len(JUNK)))
def test_a_damaged_state_file_of_any_kind_is_one_line_and_made_again(reference, tmp_path, monkeypatch, caplog, junk):
    caplog.set_level(logging.WARNING, "clipmill")
    small_crawl.write(tmp_path / "in", small_crawl.records(36), 2)
    cut_off(tmp_path, monkeypatch, swap, "_swap", 0)
    states = [path for path in (tmp_path / "out").rglob("*.json") if "emit-" not in str(path)]
    assert {path.name for path in states} >= {"part.json", "bucket-00000.json", "closed.json", "_clipmill.json"}
    for path in (tmp_path / "out").rglob("*.json"):
        path.write_bytes(junk)
    for path in (tmp_path / "out" / "_pool" / "columns").rglob("*.pack"):
        path.write_bytes(junk)
    run(tmp_path)
    assert small_crawl.outcome(tmp_path / "out") == reference
    said = [record.getMessage() for record in caplog.records]
    for path in states:
        folder, name = str(path.parent), path.name
        assert sum(line.startswith((f"{path}: ", f"{folder}: {name}: ")) for line in said) == 1, (path, said)
    assert sum("measured again" in line for line in said) > 0


def test_what_is_undamaged_is_not_done_again(tmp_path, monkeypatch):
    small_crawl.write(tmp_path / "in", small_crawl.records(36), 2)
    cut_off(tmp_path, monkeypatch, book_tasks, "publish_book", 0)
    done = []
    for home, name in (
        (tasks._Run, "__init__"),
        (tasks.parquet, "publish_rows"),
        (shares, "_measure"),
        (shards, "write_shard"),
    ):
        real = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *a, real=real, name=name, **k: done.append(name) or real(*a, **k))
    run(tmp_path)
    assert done == []


def test_a_late_table_has_no_squares_of_grey_and_a_reader_put_behind_has_them_again(tmp_path):
    small_crawl.write(tmp_path / "in", small_crawl.records(36), 2)
    paths, names = [str(tmp_path / "in" / "*.gz")], {}
    for name, more in {"once": [], "again": [{"kind": "perceptual_duplicates"}]}.items():
        plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "e.json", buckets=2)
        plain["stages"] += more
        near = {"kind": "perceptual_duplicates"}
        plain["stages"].insert(5, near)
        curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)
        tables = sorted((tmp_path / "out" / "_work").glob("[0-9]*/bucket-00000.parquet"))
        names[name] = [
            ("grey" in pq.read_schema(path).names, "tiny_rgb" in pq.read_schema(path).names) for path in tables
        ]
        assert {"width", "phash", "contrast"} <= set(pq.read_schema(tables[-1]).names)
        plain["output"] = str(tmp_path / f"fresh-{name}")
        curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)
        assert small_crawl.outcome(tmp_path / "out") == small_crawl.outcome(tmp_path / f"fresh-{name}")
    assert len(names["once"]) > 1 and not any(map(any, names["once"]))
    assert names["again"][-1] == (False, False) and (True, True) in names["again"][:-1]
