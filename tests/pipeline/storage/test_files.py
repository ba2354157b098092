"""Files appear whole or not at all, on full disks, after kills and on remote stores."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import storage
from pipeline.contract.dataset import open_dataset, verify
from pipeline.contract.manifest import MANIFEST
from pipeline.contract.shards import write_shard
from pipeline.errors import DataError, StorageError
from pipeline.storage import files
from tests.helpers.datasets import make_dataset, make_pair


@pytest.fixture(params=["local", "memory"])
def base(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "data")
        return
    yield f"memory://{tmp_path.name}/data"
    fs = fsspec.filesystem("memory")
    fs.rm("/", recursive=True)


def test_a_dataset_lives_as_well_on_a_remote_store(base, tmp_path):
    manifest = make_dataset(base, 2, 5)
    dataset = open_dataset(base)
    assert dataset.digest == manifest.digest() == make_dataset(str(tmp_path / "other"), 2, 5).digest()
    assert [pair.text for pair in dataset.read_many(1, [4, 0])] == [make_pair(9).text, make_pair(5).text]
    assert verify(base).ok and verify(base).pairs == 10
    assert open_dataset(f"{base}/*.tar", cache=f"{base}/cache").read_pair(1, 2) == dataset.read_pair(1, 2)


def test_publish_shows_nothing_until_it_is_whole_and_replaces_whole(base):
    url = storage.join(base, "deep/er/file.bin")
    for data in (b"first", b"second, longer"):
        with storage.publish(url) as path:
            before = storage.read_bytes(url) if storage.exists(url) else None
            path.write_bytes(data)
            assert storage.list_names(storage.join(base, "deep/er")) == ([] if before is None else ["file.bin"])
        assert storage.read_bytes(url) == data and storage.size(url) == len(data)
    with pytest.raises(RuntimeError), storage.publish(url) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert storage.read_bytes(url) == b"second, longer"
    assert list(storage.list_sizes(storage.join(base, "deep/er"))) == ["file.bin"]


def test_reading_by_range_and_listing_and_removing(base):
    for name in ("b", "a"):
        storage.publish_bytes(storage.join(base, name), b"0123456789")
    assert storage.list_names(base) == ["a", "b"] and storage.list_names(storage.join(base, "none")) == []
    assert storage.read_bytes(storage.join(base, "a"), 2, 5) == b"234"
    assert storage.read_bytes(storage.join(base, "a"), 7) == b"789"
    with pytest.raises(DataError, match=r"at byte 8: 2 bytes; 12 bytes: the file is cut"):
        storage.read_bytes(storage.join(base, "a"), 8, 20)
    with pytest.raises(StorageError, match="no such file"):
        storage.read_bytes(storage.join(base, "none"))
    with pytest.raises(StorageError, match="no such file"):
        storage.size(storage.join(base, "none"))
    storage.remove(storage.join(base, "none"))
    storage.remove(storage.join(base, "a"))
    assert storage.list_names(base) == ["b"]
    storage.remove(base, recursive=True)
    assert not storage.exists(storage.join(base, "b"))


def test_a_file_renamed_while_its_folder_is_listed_hides_no_other(tmp_path, monkeypatch):
    storage.publish_bytes(str(tmp_path / "kept"), b"1")
    monkeypatch.setattr(os, "listdir", lambda _: [".tmp-renamed-since", "kept"])
    assert storage.list_sizes(str(tmp_path)) == {"kept": 1}


def test_a_pattern_below_a_folder_with_brackets_in_its_name(tmp_path):
    folder = str(tmp_path / "run[1]")
    make_dataset(folder, 2, 2)
    assert storage.glob(f"{folder}/shard-*.tar") == [f"{folder}/shard-00000{n}.tar" for n in range(2)]


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def big_pairs():
    return (make_pair(n, image=os.urandom(20_000)) for n in range(50))


def test_a_full_disk_is_named_and_costs_no_finished_work(tiny_disk):
    done = write_shard(str(tiny_disk), 0, [make_pair(0)])
    for write in (
        lambda: write_shard(str(tiny_disk), 1, big_pairs()),
        lambda: storage.publish_parquet(str(tiny_disk / "t.parquet"), pa.table({"x": [os.urandom(400_000)]})),
    ):
        with pytest.raises(StorageError, match="ENOSPC") as caught:
            write()
        assert str(tiny_disk) in caught.value.where and "free space and run the same command again" in caught.value.hint
    assert sorted(storage.list_sizes(str(tiny_disk))) == ["shard-000000.tar"]  # no temporary file either
    assert storage.sha256_of(str(tiny_disk / "shard-000000.tar")) == done.sha256
    assert write_shard(str(tiny_disk), 1, [make_pair(1)]).pairs == 1  # after freeing space, the same call works


def test_a_file_size_limit_is_named_like_a_full_disk(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="EFBIG"):
            write_shard(str(tmp_path), 0, big_pairs())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_an_error_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch, step, code):
    url = str(tmp_path / "file")
    storage.publish_bytes(url, b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError, match=errno.errorcode[code]):
        storage.publish_bytes(url, b"new")
    monkeypatch.undo()
    assert storage.read_bytes(url) == b"old" and os.listdir(tmp_path) == ["file"]


KILLED = """
import sys
from pipeline.contract.shards import write_shard
from tests.helpers.datasets import make_pair

def pairs():
    for n in range(10**6):
        yield make_pair(n, image=b"x" * 5000)
        if n == 300:
            print("go", flush=True)

write_shard(sys.argv[1], 0, pairs())
"""


def test_what_is_published_is_on_the_disk_before_it_has_its_name_and_scratch_alone_is_not_waited_for(
    tmp_path, monkeypatch
):
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda source, target: (done.append("named"), replace(source, target)))
    storage.publish_json(str(tmp_path / "kept.json"), {})
    first, *rest = done
    assert os.path.basename(first).startswith(".tmp-") and rest == ["named", str(tmp_path)]
    done.clear()
    storage.publish_state(storage.Scratch(tmp_path / "scratch.json"), {"a": 1})
    assert done == ["named"] and storage.read_state(str(tmp_path / "scratch.json")) == {"a": 1, "files": {}}


def test_a_killed_writer_leaves_nothing_under_a_final_name(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=os.getcwd())
    assert child.stdout.readline() == b"go\n"
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert storage.list_names(str(tmp_path)) == [] and len(os.listdir(tmp_path)) == 1
    assert storage.sweep_temps(str(tmp_path)) == 1 and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "pipe:cat /etc/passwd",
        "pipe://cat",
        "|cmd",
        "-",
        "",
        "a\0b",
        "ssh://h/x",
        "s3:bucket",
        "zip::s3://b/x",
        "s3://b/x::zip://y",
    ],
)
def test_an_address_that_could_run_or_chain_something_is_refused_unopened(url):
    for act in (storage.read_bytes, storage.exists, storage.list_names, open_dataset):
        with pytest.raises(StorageError, match="not an address"):
            act(url)


def test_a_web_address_is_read_only():
    with pytest.raises(StorageError, match="cannot be written"):
        storage.publish_bytes("https://example.org/x", b"")


def test_secrets_in_an_address_never_reach_a_message():
    assert storage.shown("s3://key:secret@bucket/a/b?token=secret#secret") == "s3://bucket/a/b"
    with pytest.raises(StorageError) as caught:
        storage.publish_bytes("https://user:secret@example.org/x?sig=secret", b"")
    assert "secret" not in str(caught.value)


class Flaky(MemoryFileSystem):
    """Fails a number of times before it answers."""

    failures = 0
    error: BaseException = ConnectionResetError("peer secret-token gone")

    def cat_file(self, *args, **options):
        if Flaky.failures:
            Flaky.failures -= 1
            raise Flaky.error
        return super().cat_file(*args, **options)


def test_a_remote_error_that_passes_is_retried_and_one_that_stays_is_named(monkeypatch):
    storage.publish_bytes("memory://flaky/a", b"data")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (Flaky(), "/flaky/a"))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    Flaky.failures = files.ATTEMPTS - 1
    assert storage.read_bytes("memory://flaky/a", 1, 3) == b"at"
    Flaky.failures = files.ATTEMPTS
    with pytest.raises(StorageError, match="memory://flaky/a: ConnectionResetError"):
        storage.read_bytes("memory://flaky/a", 1, 3)
    Flaky.failures = 0


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)])
def test_the_end_of_the_process_is_no_error_that_passes(monkeypatch, end):
    storage.publish_bytes("memory://flaky/a", b"data")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (Flaky(), "/flaky/a"))
    monkeypatch.setattr(Flaky, "error", end)
    monkeypatch.setattr(Flaky, "failures", 1)
    with pytest.raises(type(end)):
        storage.read_bytes("memory://flaky/a", 1, 3)


def footer_start(parquet: bytes) -> int:
    """Pages carry checksums, the footer does not: what must not change there is kept by a sha256 elsewhere."""
    return len(parquet) - 8 - int.from_bytes(parquet[-8:-4], "little")


def test_a_table_gives_the_same_bytes_however_it_is_chunked_and_flips_are_found(tmp_path):
    table = pa.table({"x": list(range(1000)), "s": [f"row {n}" for n in range(1000)]})
    chunked = pa.concat_tables([table.slice(0, 10), table.slice(10, 700), table.slice(710)])
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    storage.publish_parquet(str(one), table)
    storage.publish_parquet(str(two), chunked)
    whole = one.read_bytes()
    assert whole == two.read_bytes() and storage.read_parquet(str(one), ["s"]) == table.select(["s"])
    found, tries = 0, range(4, footer_start(whole), 13)
    for at in tries:
        one.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            assert storage.read_parquet(str(one)) == table  # the bit had no meaning
        except DataError as error:
            found += "one.parquet" in error.where
    assert found > 0.95 * len(tries)
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        one.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="one.parquet: not readable as parquet"):
            storage.read_parquet(str(one))
    with pytest.raises(DataError, match="also y"):
        storage.read_parquet(str(two), ["x", "y"])
    with pytest.raises(StorageError, match="no such file"):
        storage.read_parquet(str(tmp_path / "none.parquet"))


def test_json_is_canonical_and_ends_in_a_newline(tmp_path):
    storage.publish_json(str(tmp_path / "a.json"), {"b": 1, "a": ["é"]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  "é"\n ],\n "b": 1\n}\n'


def test_file_urls_and_joins():
    assert storage.join("a/b/", "c", "d") == "a/b/c/d" and storage.join("/", "c") == "/c"
    assert storage.join("memory://", "c") == "memory://c" and storage.join("", "c") == "c"
    assert storage.basename("s3://bucket/a/b.tar") == "b.tar"


def test_a_file_url_is_the_local_path(tmp_path):
    make_dataset(str(tmp_path), 1, 2)
    assert open_dataset(f"file://{tmp_path}").read_pair(0, 1) == open_dataset(str(tmp_path)).read_pair(0, 1)
    assert storage.exists(f"file://{tmp_path}/{MANIFEST}")


def test_a_pipe_or_device_is_never_waited_for_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(StorageError, match="a folder, pipe or device"):
            storage.read_bytes(str(path))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "good").write_bytes(b"x")
    assert storage.list_sizes(str(tmp_path)) == {"good": 1}
    assert storage.list_folder(str(tmp_path)).others == [f"{tmp_path}/loop", f"{tmp_path}/pipe"]
