"""Sizes and stamps of many files at once: the same as those of each, another stamp when a file was written to."""

import os
import time

import fsspec
import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.storage import Listed, listing


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def write(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)


def test_a_folder_a_pattern_and_a_file_tell_the_same(folder):
    for name in ("b.x", "a.x", "c.y", ".tmp-000000000000-d.x"):
        write(f"{folder}/{name}", name.encode() * 3)
    write(f"{folder}/inner/e.x", b"")
    whole = storage.list_folder(folder)
    assert [(file.url, file.bytes, file.is_link) for file in whole.files] == [
        (f"{folder}/{name}", 9, False) for name in ("a.x", "b.x", "c.y")
    ]
    assert whole.others == [f"{folder}/inner"]
    matches = storage.list_matches(f"{folder}/[ab].x").files
    assert [storage.basename(file.url) for file in matches] == ["a.x", "b.x"]
    for file, match in zip(whole.files, matches, strict=False):
        one = storage.listed(file.url)
        assert one == file and (match.bytes, match.stamp) == (file.bytes, file.stamp) and file.stamp


def test_a_tree_is_all_files_below_but_hidden_ones(folder):
    for name in ("b/c.x", "a.x", "b/a/b.x", "b.x", ".h.x", "b/.h/d.x", "z/[1].x"):
        write(f"{folder}/{name}", name.encode())
    found = storage.list_tree(folder)
    names = ["a.x", "b.x", "b/a/b.x", "b/c.x", "z/[1].x"]
    assert [file.url for file in found] == [f"{folder}/{name}" for name in names]
    assert [file.bytes for file in found] == [len(name) for name in names] and all(file.stamp for file in found)
    assert [one.url for one in storage.list_tree(f"{folder}/b")] == [f"{folder}/b/a/b.x", f"{folder}/b/c.x"]


def test_a_folder_reached_by_several_links_is_looked_through_once(tmp_path):
    write(f"{tmp_path}/a/deep/x", b"x")
    os.symlink(tmp_path, tmp_path / "a/deep/up")
    os.symlink(tmp_path / "a/deep", tmp_path / "again")
    os.symlink(tmp_path / "nowhere", tmp_path / "lost")
    assert [file.url for file in storage.list_tree(str(tmp_path))] == [f"{tmp_path}/a/deep/x"]


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    write(f"{tmp_path}/a/x", b"x")

    def refused(path):
        raise PermissionError(13, "not permitted", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StorageError, match=str(tmp_path)):
        storage.list_tree(str(tmp_path))


def test_a_file_written_to_has_another_stamp_also_when_its_size_is_the_same(folder):
    write(f"{folder}/a", b"one")
    before = storage.list_folder(folder).files
    time.sleep(0.02)  # as fine as the clocks of file systems are
    write(f"{folder}/a", b"two")
    (after,) = storage.list_folder(folder).files
    assert after == storage.listed(f"{folder}/a") and after.bytes == 3 and after.stamp != before[0].stamp


def test_what_is_absent_or_no_file(folder, tmp_path):
    assert storage.list_folder(f"{folder}/nothing") == ([], [])
    assert storage.list_matches(f"{folder}/*.x") == ([], [])
    write(f"{folder}/inner/e.x", b"")
    for name in ("nothing", "inner"):
        with pytest.raises(StorageError):
            storage.listed(f"{folder}/{name}")


def test_links_are_told_and_stand_for_what_they_lead_to(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dead").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (one, link), others = storage.list_folder(str(tmp_path))
    assert (one.is_link, link.is_link) == (False, True) and one[1:3] == link[1:3]
    assert [storage.basename(name) for name in others] == ["dead", "loop", "pipe"]


@pytest.mark.parametrize(
    ("row", "stamp"),
    [
        ({"ETag": '"ab"', "LastModified": "x"}, '3-"ab"'),
        ({"etag": "cd", "mtime": 3.5}, "3-cd"),
        ({"mtime": 3.5}, "3-3.500000"),
        ({}, ""),
    ],
)
def test_the_tag_of_a_store_comes_before_its_time(row, stamp):
    assert listing._remote_file("s3://b/a", {"type": "file", "size": 3, **row}) == Listed("s3://b/a", 3, stamp)
