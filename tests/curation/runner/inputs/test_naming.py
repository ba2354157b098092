"""Inputs: listed by the driver, hashed by tasks once, known by their content whatever their place and time."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from curation.pool import names
from curation.runner import cluster, driver
from curation.runner.driver import finished
from curation.runner.inputs import naming, reading
from pipeline import storage
from pipeline.errors import DataError, RecipeError
from tests.helpers import small_crawl
from tests.helpers.reads import counted_reads, job_digest, made, settings_of
from tests.helpers.tars import tar_bytes
from tests.helpers.warcs import http, record


@pytest.fixture
def calls(monkeypatch) -> Counter:
    return counted_reads(monkeypatch)


class Watch:
    """What this process does to the files in one folder outside of tasks. stats, listings, opens: how often."""

    now: "Watch | None" = None

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.stats, self.listings, self.opens, self._in_task = str(folder), 0, 0, 0, False
        for name in ("stat", "lstat"):
            patch.setattr(os, name, self.counted(getattr(os, name)))
        plain = cluster.Inline.run

        def run(place, tasks_, *more):
            results = plain(place, tasks_, *more)
            while True:
                self._in_task = True
                try:
                    each = next(results)
                except StopIteration:
                    return
                finally:
                    self._in_task = False
                yield each

        patch.setattr(cluster.Inline, "run", run)
        patch.setattr(Watch, "now", self)

    def counted(self, real):
        def look(path, *args, **more):
            self.stats += self.is_mine(path)
            return real(path, *args, **more)

        return look

    def is_mine(self, path: object) -> bool:
        return not self._in_task and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def heard(self, event: str, args: tuple) -> None:
        if event in ("os.listdir", "os.scandir") and self.is_mine(args[0]):
            self.listings += 1
        if event == "open" and self.is_mine(args[0]):
            self.opens += 1


sys.addaudithook(lambda event, args: Watch.now.heard(event, args) if Watch.now else None)


def sources(folder: Path, kind: str, count: int) -> list[dict]:
    folder.mkdir(parents=True)
    good = record("http://e.org/0.png", http(small_crawl.picture(1)))
    page = record("http://e.org/", http(b"<img src=0.png alt='a cat'>", "text/html"))
    for at in range(count):
        if kind == "shards":
            members = [(f"{at}.jpg", small_crawl.picture(at, "JPEG")), (f"{at}.txt", b"a cat")]
            (folder / f"{at:03d}.tar").write_bytes(tar_bytes(members))
        else:
            (folder / f"{at:03d}.warc").write_bytes(good + page + record(f"http://e.org/{at}", http(b"x")))
    paths = {"shards": str(folder), "warc": str(folder), "glob": f"{folder}/*.warc"}
    return [{"kind": kind.replace("glob", "warc"), "paths": [paths[kind]]}]


@pytest.mark.parametrize(("kind", "looks"), [("warc", 1), ("glob", 1), ("shards", 2)])
def test_the_driver_looks_once_at_each_input_and_opens_none(tmp_path, kind, looks):
    """looks: stats a file; of a tar also where its table would lie."""
    stats = {}
    for count in (3, 30):
        folder = tmp_path / str(count)
        plain = {"sources": sources(folder / "in", kind, count), "stages": []}
        settings = settings_of(folder, [], **plain)
        for start in ("first", "again"):
            with pytest.MonkeyPatch.context() as patch:
                watch = Watch(folder / "in", patch)
                made(settings) if start == "first" else finished(settings, seed=3)
            assert watch.opens == 0 and watch.listings <= 1
            stats[start, count] = watch.stats
    for start in ("first", "again"):
        assert stats[start, 30] - stats[start, 3] == 27 * looks


def test_the_watch_sees_what_it_is_to_see(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(tmp_path, patch)
        storage.list_folder(str(tmp_path))
        storage.RangeReader(f"{tmp_path}/a").read(0, 1)
    assert (watch.stats, watch.listings, watch.opens) == (1, 1, 1)


def test_every_file_is_hashed_once_and_what_is_known_needs_no_task(tmp_path, calls, monkeypatch):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 3)
    settings = settings_of(tmp_path, paths)
    assert finished(settings, seed=3) is None
    whole = made(settings)
    assert calls["hash_pieces"] == 1 and calls["ingest"] == 3
    monkeypatch.setattr(driver, "cluster", None)  # no work may even be tried
    assert made(settings) == whole == finished(settings, seed=3)


def test_a_file_written_anew_or_moved_is_hashed_again_and_not_read_again(tmp_path, calls, caplog):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 3)
    whole = made(settings_of(tmp_path, paths))
    os.utime(paths[0], ns=(1, 1))
    os.rename(paths[1], f"{tmp_path}/in/zzz.warc.gz")
    moved = settings_of(tmp_path, [f"{tmp_path}/in/*.gz"])
    calls.clear()
    assert finished(moved, seed=3) is None  # as far as can be told without reading
    caplog.set_level("INFO", "clipmill")
    assert made(moved) == whole == finished(moved, seed=3)
    assert calls == {"hash_pieces": 1, "from a place": 0}
    assert "finished before, nothing to do" in caplog.text


@pytest.mark.parametrize("gone", ["inputs", "."])
def test_without_the_pool_a_finished_dataset_is_recognised_by_hashing_alone(tmp_path, calls, gone):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 3)
    settings = settings_of(tmp_path, paths)
    whole = made(settings)
    before = small_crawl.outcome(tmp_path / "out")
    shutil.rmtree(tmp_path / "out/_pool" / gone)
    calls.clear()
    assert finished(settings, seed=3) is None
    assert made(settings) == whole == finished(settings, seed=3)
    assert calls == {"hash_pieces": 1, "from a place": 0} and small_crawl.outcome(tmp_path / "out") == before
    assert not list((tmp_path / "out").glob("_work/emit-*"))


def test_one_content_is_one_input_wherever_it_lies_and_whatever_the_pool_has_seen(tmp_path, calls):
    rows = small_crawl.records(24)
    one, two = small_crawl.write(tmp_path / "in", rows, 2)
    for name in ("a", "z"):
        shutil.copy(one, f"{tmp_path}/in/{name}.warc.gz")
    everything = [one, two, f"{tmp_path}/in/a.warc.gz", f"{tmp_path}/in/z.warc.gz"]
    whole = made(settings_of(tmp_path, everything))
    assert calls["ingest"] == 2
    assert sorted(each.counts.get("copies", 0) for each in whole.inputs) == [0, 2]
    alone = made(settings_of(tmp_path / "alone", [one, two]))
    assert alone.digest() == whole.digest()
    for folder, pool in (("other", None), ("shared", str(tmp_path / "out/_pool"))):
        again = made(settings_of(tmp_path / folder, everything[::-1], pool=pool))
        assert again.inputs == whole.inputs and again.digest() == whole.digest()
        assert job_digest(tmp_path / folder) == job_digest(tmp_path) == job_digest(tmp_path / "alone")
    assert calls["ingest"] == 6  # none for a pool that has both


def test_another_content_of_the_same_size_and_time_is_not_noticed_but_by_fresh(tmp_path):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 2)
    settings = settings_of(tmp_path, paths)
    whole = made(settings)
    status, data = os.stat(paths[0]), bytearray(Path(paths[0]).read_bytes())
    data[len(data) // 2] ^= 1  # one record fewer
    Path(paths[0]).write_bytes(data)
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert made(settings) == whole
    other = made(settings.model_copy(update={"fresh": True}))
    assert sum(each.counts.get("bad_records:damaged_record", 0) for each in other.inputs) == 1
    assert [each.part for each in other.inputs] != [each.part for each in whole.inputs]


@pytest.mark.parametrize("task", ["hash_pieces", "ingest"])
def test_a_file_that_changes_while_it_is_read_is_an_error_and_leaves_nothing_under_a_wrong_name(
    tmp_path, monkeypatch, task
):
    (path,) = small_crawl.write(tmp_path / "in", small_crawl.records(24))
    other = small_crawl.write(tmp_path / "other", small_crawl.records(30))[0]
    settings = settings_of(tmp_path, [path])
    read = storage.RangeReader.read

    def changing(self, start, end):
        data = read(self, start, end)
        if self.url == path:
            shutil.copy(other, path)
        return data

    real = getattr(reading, task)

    def during(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage.RangeReader, "read", changing)
            return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(reading, task, during)
        with pytest.raises(
            DataError, match=r"crawl-0.warc.gz.*: (it was written to while|\d+ bytes; \d+ bytes: the file)"
        ):
            made(settings)
    assert not list((tmp_path / "out/_pool").glob("parts/*/part.json"))
    whole = made(settings)
    assert whole.inputs == made(settings_of(tmp_path / "apart", [other])).inputs


def test_what_cannot_be_read_is_refused_with_its_path_before_any_part_is_read(tmp_path, calls, monkeypatch):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 3)
    settings = settings_of(tmp_path, paths)
    monkeypatch.setattr(driver, "preflight", lambda *args, **named: os.remove(paths[1]))
    with pytest.raises(RecipeError, match=r"curate\.sources\.0\.paths\.1: .*crawl-1.warc.gz: no such file"):
        made(settings)
    assert calls["ingest"] == 0


def test_large_files_are_hashed_in_pieces_and_small_ones_together(tmp_path, calls, monkeypatch):
    monkeypatch.setattr("pipeline.storage.hashed.PIECE_BYTES", 5000)
    monkeypatch.setattr(naming, "_HASHED_BYTES", 5000)
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 2)
    for at in range(20):
        (tmp_path / f"in/{at:02d}.warc").write_bytes(record(f"http://e.org/{at}", http(b"x")))
    made(settings_of(tmp_path, [str(tmp_path / "in")]))
    pieces = sum(-(-os.path.getsize(path) // 5000) for path in paths)
    assert pieces > 4 and pieces <= calls["hash_pieces"] <= pieces + 3
    known = names.known(str(tmp_path / "out/_pool"), storage.list_folder(str(tmp_path / "in")).files)
    assert len(set(known.values())) == 22


def test_names_learnt_before_a_kill_are_kept(tmp_path, calls, monkeypatch):
    monkeypatch.setattr(naming, "_HASHED_BYTES", 1)
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), 5)
    settings = settings_of(tmp_path, paths)
    with monkeypatch.context() as patch:
        real, left = reading.hash_pieces, [3]

        def dying(*args):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*args)

        patch.setattr(reading, "hash_pieces", dying)
        with pytest.raises(KeyboardInterrupt):
            made(settings)
    calls.clear()
    made(settings)
    assert calls["hash_pieces"] == 2


def test_names_of_many_files_are_written_a_few_times(tmp_path, monkeypatch):
    """As many as there are powers of 9 / 8, not one for each so many files."""
    monkeypatch.setattr(naming, "_HASHED_BYTES", 1)
    monkeypatch.setattr(naming, "_WRITTEN_FILES", 4)
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(150), 150)
    settings = settings_of(tmp_path, paths)
    written = []
    real = names.remember
    monkeypatch.setattr(names, "remember", lambda pool, found: written.append(len(found)) or real(pool, found))
    made(settings)
    assert sum(written) == 150 and len(written) < 25
    assert len(names.known(str(tmp_path / "out/_pool"), storage.list_folder(str(tmp_path / "in")).files)) == 150
