"""A file is named by its content, a folder by the names and contents of all files in it, wherever it lies."""

import os

import fsspec
import pytest

from curation.table.file_digests import file_digest, files_in
from pipeline.errors import RecipeError


def written(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


FILES = {"a": b"1", "sub/b": b"2", "sub/deep/c": b"3"}


def test_a_folder_is_its_names_and_contents_at_any_depth_here_and_in_a_store(tmp_path):
    one = file_digest(written(tmp_path / "one", FILES), "x")
    assert one == file_digest(written(tmp_path / "two", FILES), "x")
    for name, data in FILES.items():
        with fsspec.open(f"memory://digests/{name}", "wb") as file:
            file.write(data)
    assert file_digest("memory://digests", "x") == one
    assert [name for name, _ in files_in("memory://digests")] == sorted(FILES)
    for number, other in enumerate(
        [FILES | {"a": b"2"}, FILES | {"d": b""}, {"a": b"1", "b": b"2", "sub/deep/c": b"3"}]
    ):
        assert file_digest(written(tmp_path / f"other{number}", other), "x") != one


def test_a_change_is_seen(tmp_path):
    folder = written(tmp_path / "one", FILES)
    before = file_digest(folder, "x")
    (tmp_path / "one/sub/b").write_bytes(b"22")
    assert file_digest(folder, "x") != before


def test_a_link_that_leads_back_is_an_error(tmp_path):
    folder = written(tmp_path / "one", FILES)
    os.symlink(folder, f"{folder}/sub/back")
    with pytest.raises(RecipeError, match="a link that leads back"):
        file_digest(folder, "x")


def test_what_is_not_there_is_an_error_naming_it():
    with pytest.raises(RecipeError, match="x: cannot read /no/such"):
        file_digest("/no/such", "x")
