"""Opening and reading: any order, any thread, any process; and what verify reports."""

import json
import logging
import multiprocessing
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import storage
from pipeline.contract import dataset as dataset_module
from pipeline.contract.dataset import open_dataset, verify
from pipeline.contract.index import read_index
from pipeline.contract.manifest import MANIFEST, InputPart, Manifest, StageCounts
from pipeline.errors import DataError
from tests.helpers.datasets import make_dataset, make_pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("dataset"))
    make_dataset(path, 3, 40)
    return path


def expected(shard, row):
    return make_pair(shard * 40 + row).text


def test_many_rows_come_in_the_order_asked_repeats_included(folder):
    dataset = open_dataset(folder)
    rows = [39, 0, 17, 17, 3, 0]
    assert [pair.text for pair in dataset.read_many(2, rows)] == [expected(2, row) for row in rows]
    assert dataset.read_many(2, []) == []
    assert dataset.num_pairs == 120 and [shard.num_pairs for shard in dataset.shards] == [40] * 3


def test_neighbours_are_read_together(folder, monkeypatch):
    reads = []
    read = storage.RangeReader.read
    monkeypatch.setattr(storage.RangeReader, "read", lambda self, a, b: reads.append((a, b)) or read(self, a, b))
    dataset = open_dataset(folder)
    dataset.read_pair(0, 0)  # loads the index
    reads.clear()
    dataset.read_many(0, range(40))
    assert len(reads) == 1
    monkeypatch.setattr(dataset_module, "MERGE_MAX", 5000)
    monkeypatch.setattr(dataset_module, "MERGE_GAP", 0)
    reads.clear()
    assert [pair.text for pair in dataset.read_many(0, range(40))] == [expected(0, row) for row in range(40)]
    assert len(reads) > 5 and all(end - start <= 5000 for start, end in reads)


@pytest.mark.parametrize("row", [-1, 40])
def test_a_row_that_is_not_there_is_an_index_error(folder, row):
    with pytest.raises(IndexError, match="shard-000001.tar"):
        open_dataset(folder).read_pair(1, row)


def _read_all(dataset, seed):
    order = [(shard, row) for shard in range(3) for row in range(40)]
    random.Random(seed).shuffle(order)
    return all(dataset.read_pair(shard, row).text == expected(shard, row) for shard, row in order)


def test_threads_share_a_dataset_while_its_files_are_closed_and_reopened(folder, monkeypatch):
    monkeypatch.setattr(dataset_module, "OPEN_FILES", 1)
    monkeypatch.setattr(dataset_module, "OPEN_TABLES", 1)
    dataset = open_dataset(folder)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda seed: _read_all(dataset, seed), range(8)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_a_dataset(folder, method):
    dataset = open_dataset(folder)
    assert _read_all(dataset, 0)  # files and tables are open before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert all(pool.starmap(_read_all, [(dataset, seed) for seed in range(4)]))


def test_a_pickled_dataset_reads_on(folder):
    copy = pickle.loads(pickle.dumps(open_dataset(folder)))
    assert copy.digest == open_dataset(folder).digest and copy.read_pair(1, 1).text == expected(1, 1)


def test_an_unfinished_folder_says_so(tmp_path):
    with pytest.raises(DataError, match="no manifest.json") as caught:
        Manifest.load(str(tmp_path))
    assert "resumes" in caught.value.hint
    with pytest.raises(DataError, match="no manifest.json and no .tar files"):
        open_dataset(str(tmp_path / "absent"))


def test_an_edited_a_newer_and_a_wrong_manifest_are_refused(tmp_path):
    make_dataset(str(tmp_path), 1, 2)
    path = tmp_path / MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "name": "other"}))
    with pytest.raises(DataError, match="damaged or edited"):
        Manifest.load(str(tmp_path))
    path.write_text(json.dumps({**content, "format_version": 2}))
    with pytest.raises(DataError, match="format version 2; at most 1"):
        Manifest.load(str(tmp_path))
    for text in ("[]", "{", "null", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(DataError, match="not a JSON object"):
            Manifest.load(str(tmp_path))


def test_a_manifest_keeps_its_history_and_adds_up(tmp_path):
    manifest = make_dataset(str(tmp_path), 2, 3).model_copy(
        update={
            "stages": [
                StageCounts(name="size", kind="image_size", pairs_in=9, pairs_out=6, drops={"image_size.small": 3})
            ],
            "inputs": [InputPart(part="0" * 16, path="a.warc.gz", bytes=7, digest="d", counts={"records": 9})],
            "columns": ["uid"],
        }
    )
    manifest.save(str(tmp_path))
    assert Manifest.load(str(tmp_path)) == manifest
    with pytest.raises(ValueError, match="num_pairs is 5, the shards hold 6"):
        Manifest(name="x", num_pairs=5, shards=manifest.shards)
    with pytest.raises(ValueError, match="sorted and unique"):
        Manifest(name="x", num_pairs=6, shards=manifest.shards[::-1])


def test_verify_lists_every_problem_at_once(tmp_path):
    make_dataset(str(tmp_path), 5, 4)
    (tmp_path / "shard-000009.tar").write_bytes(b"")
    (tmp_path / "index/old.parquet").write_bytes(b"")
    (tmp_path / ".tmp-0123-shard-000001.tar").write_bytes(b"")
    (tmp_path / "subset.npy").write_bytes(b"")  # not ours to judge
    (tmp_path / "shard-000001.tar").unlink()
    (tmp_path / "index/shard-000002.parquet").unlink()
    tar = tmp_path / "shard-000003.tar"
    data = bytearray(tar.read_bytes())
    rows = read_index(str(tmp_path), Manifest.load(str(tmp_path)).shards[3]).to_pylist()
    for row in (1, 3):
        data[rows[row]["image_offset"]] ^= 1
    tar.write_bytes(data)
    seen = []
    report = verify(str(tmp_path), seen.append)
    words = "\n".join(map(str, report.problems))
    for name in (
        "shard-000009.tar",
        "index/old.parquet",
        ".tmp-0123",
        "shard-000001.tar: no such file",
        "index/shard-000002.parquet",
    ):
        assert name in words
    for row in (1, 3):
        assert f"shard-000003.tar at byte {rows[row]['offset']} (pair 000003-00000{row}): row checksum" in words
    assert len(report.problems) == 8 and not report.ok and seen == [4] * 5


def test_plain_tars_warn_and_their_scan_is_kept_until_the_tar_changes(tmp_path, caplog, monkeypatch):
    make_dataset(str(tmp_path / "data"), 2, 3)
    (tmp_path / "data" / MANIFEST).unlink()
    cache = str(tmp_path / "cache")
    with caplog.at_level(logging.WARNING, logger="clipmill.contract"):
        first = open_dataset(str(tmp_path / "data"), cache)
    assert "no manifest, so 2 plain tars are scanned" in caplog.text
    scans = []
    scan = dataset_module.scan_tar
    monkeypatch.setattr(dataset_module, "scan_tar", lambda url: scans.append(url) or scan(url))
    second = open_dataset(str(tmp_path / "data"), cache)
    assert scans == [] and second.digest == first.digest and second.read_pair(1, 2).text == make_pair(5).text
    tar = tmp_path / "data/shard-000001.tar"
    status = tar.stat()
    os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    open_dataset(str(tmp_path / "data"), cache)
    assert scans == [str(tar)]


@pytest.mark.parametrize("changed", ["a pixel", "a text", "the name of a tar"])
def test_plain_tars_with_other_bytes_are_another_dataset(tmp_path, changed):
    """A run that was begun on the old ones is not to go on with these."""
    digests = []
    for number in range(3):
        folder = tmp_path / str(number)
        make_dataset(str(folder), 1, 3)
        (folder / MANIFEST).unlink()
        tar = folder / "shard-000000.tar"
        if number == 2 and changed == "the name of a tar":
            tar.rename(folder / "shard-000001.tar")
        elif number == 2:
            data, pair = tar.read_bytes(), open_dataset(str(folder), str(tmp_path / "look")).read_pair(0, 1)
            old = pair.image if changed == "a pixel" else pair.text.encode()
            new = old[:-3] + bytes([old[-3] ^ 1]) + old[-2:]
            assert data.count(old) >= 1
            tar.write_bytes(data.replace(old, new))
        digests.append(open_dataset(str(folder), str(tmp_path / f"cache-{number}")).digest)
    assert digests[0] == digests[1] != digests[2]
