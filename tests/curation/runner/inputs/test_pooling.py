"""A file read in ranges is in the pool what it is when it is read from the front, whatever looks like a record."""

import gzip
import itertools
import json
import os
import random
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.job import make_job
from curation.pool.store import part_folder
from curation.runner.inputs import naming, pooling, reading
from curation.runner.inputs.pooling import Chain
from curation.settings import CurateSettings
from curation.sources.source import Input, Part
from curation.sources.warc import records
from pipeline.errors import DataError
from pipeline.storage import Listed
from tests.helpers import small_crawl
from tests.helpers.hostile_warcs import NESTED, hostile_files
from tests.helpers.lanes import examples
from tests.helpers.places import shared_files
from tests.helpers.reads import counted_reads, cut, job_digest, made, settings_of
from tests.helpers.warcs import http, record

MISLEADING = b"\r\n\r\n" + NESTED


@pytest.fixture
def calls(monkeypatch) -> Counter:
    return counted_reads(monkeypatch)


def plain_crawl(folder: Path, count: int = 30) -> str:
    """A plain WARC with everything that a small crawl meets, in which many places look like the start of a record."""
    (zipped,) = small_crawl.write(folder / "zipped", small_crawl.records(count))
    pieces = gzip.decompress(Path(zipped).read_bytes()).split(b"\r\n\r\nWARC/1.0\r\n")
    path = folder / "in/crawl.warc"
    path.parent.mkdir(parents=True)
    with open(path, "wb") as out:
        for at, piece in enumerate(pieces):
            out.write((b"WARC/1.0\r\n" if at else b"") + piece.removesuffix(b"\r\n\r\n") + b"\r\n\r\n")
            if at % 5 == 0:
                out.write(record(f"http://e.org/{at}", http(MISLEADING * (at % 17), "application/octet-stream")))
            if at % 7 == 0:
                out.write(b"garbage\r\n\r\n")
    return str(path)


@examples(500)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 2**32), st.sampled_from([0, 20, 60, 100]))
def test_whatever_the_guesses_the_ranges_end_up_in_a_row(sizes, seed, wrong):
    """The oracle goes from the front; a reading is a made-up function of where it began. wrong: per cent of guesses."""
    bounds = list(itertools.accumulate(sizes, initial=0))

    def left(place, stop):
        rng = random.Random(f"{seed} {place} {stop}")
        return (min(bounds[-1], stop + rng.choice([0, 0, 0, 1, 5, 30])), rng.randrange(2))

    row, truth, place = [], {}, (0, 0)
    for start, stop in itertools.pairwise(bounds):
        truth[start] = place
        if place[0] < stop:
            row.append((start, place))
            place = left(place, stop)
    rng = random.Random(seed)

    def read(start, stop, place):
        if place is None:
            place = truth[start]
            if start and rng.randrange(100) < wrong:
                place = rng.choice([(min(start + rng.randrange(5), stop), rng.randrange(2)), None])
            if place is None or place[0] >= stop:
                return None
        name = f"{start} {place}"
        return {"piece": name, "counts": {"n": 1}, "entered": place, "left": left(place, stop)}

    chain = Chain(0, Part("p", Input("here", (Listed("a.warc", bounds[-1], "s"),))), bounds)
    calls, rounds, done = chain.guesses(), 0, set()
    while calls:
        assert all(call.args[2:] not in done for call in calls), "nothing is read twice from one place"
        done |= {call.args[2:] for call in calls}
        for call in calls:
            chain.add(call, read(*call.args[2:]))
        calls, rounds = chain.follow(), rounds + 1
    assert list(chain.pieces) == [f"{start} {place}" for start, place in row]
    assert rounds <= len(sizes) + 1 and (wrong or rounds == 1)
    assert not set(chain.joined()[3]) & set(chain.pieces)


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(records, "STEP_BYTES", 512)


@pytest.mark.usefixtures("small_steps")
def test_ranges_leave_no_trace_in_what_is_made(tmp_path, calls):
    path = plain_crawl(tmp_path)
    whole, size = made(settings_of(tmp_path / "whole", [path])), os.path.getsize(path)
    assert calls["ingest"] == 1 and calls["ingest_range"] == 0
    assert whole.inputs[0].counts["bad_records:bad_warc"] > 0
    for step in (512, 3000, size // 2):
        calls.clear()
        recipe = cut(settings_of(tmp_path / str(step), [path]), step)
        other = made(recipe)
        assert calls["ingest"] == 0 and calls["ingest_range"] >= size // (step + 512)
        assert (other.digest(), other.inputs, other.stages) == (whole.digest(), whole.inputs, whole.stages)
        assert small_crawl.outcome(tmp_path / str(step) / "out") == small_crawl.outcome(tmp_path / "whole/out")
        assert job_digest(tmp_path / str(step)) == job_digest(tmp_path / "whole")
        assert calls["from a place"] > 0 or step > 3000, "what looks like a record was believed nowhere"
        pool = tmp_path / str(step) / "out/_pool/parts"
        state = json.loads((pool / whole.inputs[0].part / "part.json").read_text())
        assert {each.name for each in pool.iterdir()} == {whole.inputs[0].part, *state["pieces"]}
        calls.clear()
        assert made(recipe) == other and not calls


@examples(25)
@given(data=hostile_files(), sizes=st.tuples(st.integers(64, 3000), st.integers(64, 3000)))
def test_the_pool_has_the_same_rows_and_counts_however_a_hostile_file_is_cut(data, sizes):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "STEP_BYTES", 64)
        path = Path(folder, "a.warc")
        path.write_bytes(data)
        found = []
        for size in (1 << 40, *sizes):
            recipe = cut(settings_of(Path(folder, str(size)), [str(path)]), size)
            with nullcontext() if found else suppress(DataError):
                found.append(pool_of(recipe))
            if not found:  # no WARC
                return
        assert found[0] == found[1] == found[2]


def pool_of(recipe: CurateSettings) -> tuple[dict[str, dict[str, int]], list[list[str]]]:
    """Counts by part, and the rows of all pieces but for where their images lie."""
    files = naming.listed(recipe)
    job = make_job(recipe, 0, [])

    def do(calls, label, unit):
        return [(call, call.function(job, *call.args)) for call in calls]

    parts = naming.parts_of(recipe, files, naming.hashed(job, files, {}, do))
    pool = pooling.pooled(job, parts, do)
    tables = []
    for name in ("images", "occurrences"):
        rows = [
            row
            for piece in pool.pieces
            for row in pq.read_table(f"{part_folder(job.pool, piece)}/{name}.parquet").to_pylist()
        ]
        tables.append(sorted(json.dumps({k: v for k, v in row.items() if k not in ("part", "offset")}) for row in rows))
    return pool.parts, tables


@pytest.mark.exhaustive
def test_ranges_of_the_real_crawl_make_the_same_dataset(tmp_path):
    path = shared_files("crawl/*.warc.gz")[3]
    made_of = {}
    for size in ("none", 64 << 10, 1 << 20):
        source = {"kind": "warc", "paths": [str(path)], "range_bytes": 1 << 30 if size == "none" else size}
        folder = tmp_path / str(size)
        whole = made(
            settings_of(folder, [], sources=[source], stages=[{"kind": "image_decode"}, {"kind": "exact_duplicates"}])
        )
        made_of[size] = whole.digest(), whole.inputs, whole.stages, job_digest(folder)
        folders = len(list((folder / "out/_pool/parts").iterdir()))
        assert folders == 1 if size == "none" else folders >= path.stat().st_size // size
    assert made_of["none"] == made_of[64 << 10] == made_of[1 << 20]


@pytest.mark.usefixtures("small_steps")
def test_a_part_that_was_read_in_other_ranges_is_not_read_again(tmp_path, calls):
    path = plain_crawl(tmp_path)
    first = cut(settings_of(tmp_path, [path]), 2000)
    made(first)
    calls.clear()
    again = cut(settings_of(tmp_path, [path], emit={"pairs_per_shard": 5}), 5000)
    made(again)
    assert calls["ingest"] == calls["ingest_range"] == calls["hash_pieces"] == 0


@pytest.mark.usefixtures("small_steps")
def test_ranges_read_before_a_kill_are_not_read_again_and_damaged_ones_are(tmp_path, calls, monkeypatch):
    path = plain_crawl(tmp_path)
    whole = made(settings_of(tmp_path / "whole", [path]))
    recipe = cut(settings_of(tmp_path, [path]), 2000)

    class Cut(BaseException):
        pass

    read, real = [], reading.PoolSink.finish

    def finish(sink, counts, **more):
        if len(read) == 10:
            raise Cut
        read.append(sink._part)
        return real(sink, counts, **more)

    with monkeypatch.context() as patch:
        patch.setattr(reading.PoolSink, "finish", finish)
        with pytest.raises(Cut):
            made(recipe)
        before = list(read)
        images = tmp_path / "out/_pool/parts" / before[3] / "images.parquet"
        images.write_bytes(images.read_bytes()[:-1] + b"?")
        read.clear()
        read_all = []
        patch.setattr(reading.PoolSink, "finish", lambda s, c, **m: read_all.append(s._part) or real(s, c, **m))
        assert made(recipe).digest() == whole.digest()
    assert before[3] in read_all and not set(before) - {before[3]} & set(read_all)

    # Damage in a finished part, found when another recipe goes on from it.
    pool = tmp_path / "out/_pool/parts"
    pieces = list(json.loads((pool / whole.inputs[0].part / "part.json").read_text())["pieces"])
    (pool / pieces[1] / "occurrences.parquet").unlink()
    calls.clear()
    other = cut(settings_of(tmp_path, [path], emit={"pairs_per_shard": 5}), 2000)
    fresh = settings_of(tmp_path / "whole", [path], emit={"pairs_per_shard": 5})
    assert made(other).digest() == made(fresh).digest() and calls["ingest_range"] > 0


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("content", [b"WARC/1.0\r\n" + b"x" * 9000, b"PK\x03\x04" + bytes(9000)])
def test_a_file_without_a_record_is_the_same_error_in_ranges(tmp_path, content):
    (tmp_path / "a.warc").write_bytes(content)
    said = []
    for recipe in (
        settings_of(tmp_path, [f"{tmp_path}/a.warc"]),
        cut(settings_of(tmp_path, [f"{tmp_path}/a.warc"]), 900),
    ):
        with pytest.raises(DataError) as caught:
            made(recipe)
        said.append(str(caught.value))
    assert said[0] == said[1] and "a WARC file, plain, gzip or zstd" in said[0]


@pytest.mark.exhaustive
def test_ranges_on_ray_leave_no_trace(tmp_path):
    (path,) = small_crawl.write(tmp_path / "in", small_crawl.records(240))
    assert os.path.getsize(path) > 3 * (64 << 10)
    outs = {}
    for name, source in (("whole", {}), ("cut", {"range_bytes": 64 << 10})):
        ray = {"address": "local", "num_cpus": 2}
        recipe = settings_of(tmp_path / name, [], ray=ray, sources=[{"kind": "warc", "paths": [path], **source}])
        outs[name] = made(recipe), small_crawl.outcome(tmp_path / name / "out")
        folders = len(list((tmp_path / name / "out/_pool/parts").iterdir()))
        assert folders == 1 if name == "whole" else folders > 3
    assert outs["whole"][1] == outs["cut"][1] and outs["whole"][0].inputs == outs["cut"][0].inputs
