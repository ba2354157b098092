"""Packed tars hold what plain ones hold; those that are cut say so, and bombs are refused by name."""

import bz2
import gzip
import lzma
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources.shards.unpacked import sidecar_of
from pipeline.errors import DataError
from tests.curation.sources.shards.test_shards import Ingested, sample, tar
from tests.helpers.warcs import framed

PACKS = {
    "00000.tar.gz": gzip.compress,
    "00000.tgz": lambda data: gzip.compress(data[:900]) + gzip.compress(data[900:]),
    "00000.tar.zst": lambda data: framed(data[:900]) + framed(data[900:]),
    "00000.tar.bz2": bz2.compress,
    "00000.tar": gzip.compress,  # whatever its name says
}


def whole() -> bytes:
    return tar(*[member for number in range(30) for member in sample(number)])


@pytest.mark.parametrize("name", PACKS)
def test_a_packed_tar_gives_what_the_plain_one_gives(tmp_path, name):
    for folder, data, file in (("plain", whole(), "00000.tar"), ("packed", PACKS[name](whole()), name)):
        (tmp_path / folder).mkdir()
        got = Ingested(tmp_path / folder, data, file)
        if folder == "plain":
            plain = got
    assert got.counts == plain.counts and got.captions == plain.captions
    assert {uid: got.body(uid) for uid in got.images} == {uid: plain.body(uid) for uid in plain.images}


def test_the_table_beside_a_packed_tar_is_found(tmp_path):
    pq.write_table(pa.table({"key": ["a"], "url": ["http://e.org/a"]}), tmp_path / "00000.parquet")
    got = Ingested(tmp_path, gzip.compress(tar(("a.png", sample(0)[0][1]), ("a.txt", b"x"))), "00000.tar.gz")
    assert [row["url"] for row in got.images.values()] == ["http://e.org/a"]
    assert [sidecar_of(f"s/0.1{end}", "") for end in (".tar", ".tar.gz", ".tgz", ".tar.zst", ".x")] == ["s/0.1"] * 4 + [
        "s/0.1.x"
    ]


@pytest.mark.parametrize("name", ["00000.tar.gz", "00000.tar.zst"])
def test_a_packed_tar_cut_short_keeps_samples_and_counts_the_damage(tmp_path, name, caplog, monkeypatch):
    monkeypatch.setattr("curation.sources.table.streams.BLOCK", 4096)
    noise = [(f"{n}.bin", bytes((n * i * i) % 251 for i in range(9000))) for n in range(40)]
    data = PACKS[name](tar(*sample(0), *sample(1), *noise, *sample(2)))
    got = Ingested(tmp_path, data[: len(data) * 2 // 3], name)
    assert got.counts["images"] == 2 and got.counts["bad_records:damaged_shard"] >= 1
    assert name in caplog.text


def test_a_packing_that_is_not_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"00000\.tar: a tar packed by xz; one packed by gzip"):
        Ingested(tmp_path, lzma.compress(whole()), "00000.tar")


def test_what_unpacks_to_no_tar_or_without_end_is_an_error_naming_the_file(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"00000\.tar\.gz, unpacked at byte \d+"):
        Ingested(tmp_path, gzip.compress(b"no tar" * 500), "00000.tar.gz")
    with pytest.raises(DataError, match=r"00000\.tar\.gz: unpacks to more than 67108864 bytes, 100 times its size"):
        Ingested(tmp_path, gzip.compress(bytes(200 << 20)), "00000.tar.gz")


def test_what_swells_behind_some_samples_costs_none_of_them(tmp_path, caplog):
    """A member of 200 MiB of zeros, that is 200 kB in the file."""
    data = tar(*sample(0), *sample(1), ("000000002.jpg", bytes(200 << 20)), *sample(3))
    got = Ingested(tmp_path, gzip.compress(data), "00000.tar.gz")
    assert {text for found in got.captions.values() for _, text in found} == {"cat 0", "cat 1"}
    assert got.counts["bad_records:damaged_shard"] == 1 and got.counts["bytes_skipped"] > 60 << 20
    assert "00000.tar.gz: unpacks to more than 67108864 bytes" in caplog.text


def test_nothing_is_left_of_the_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    Ingested(tmp_path, gzip.compress(whole()), "00000.tar.gz")
    assert list((tmp_path / "tmp").iterdir()) == []
