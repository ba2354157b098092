"""Whether two addresses meet, by what the file system says or by name."""

import os

import pytest

from pipeline.storage import first_meeting


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("s3://bucket/a", "S3://bucket/a/", "is"),
        ("s3://bucket/a//b", "s3://bucket/a/b", "is"),
        ("s3://bucket/a/../b", "s3://bucket/b", "is"),
        ("s3://key:secret@bucket/a", "s3://bucket/a", "is"),
        ("s3://bucket/a%20b", "s3://bucket/a b", "is"),
        ("gcs://bucket/a", "gs://bucket/a/b", "contains"),
        ("abfs://box@account.dfs.core.windows.net/a", "az://box/a", "is"),
        ("hf://datasets/u/r@main/a", "hf://datasets/u/r/a", "is"),
        ("s3://bucket/ab", "s3://bucket/a", None),
        ("s3://bucket/a", "gs://bucket/a", None),
        ("s3://bucket", "s3://bucket/a", "contains"),
        ("s3://other/a", "s3://bucket/a", None),
        ("bucket/a", "s3://bucket/a", None),
    ],
)
def test_urls_meet_by_name(one, other, how):
    found = first_meeting([one], other)
    assert (found and found[1]) == how


def test_local_paths_meet_by_what_is_there(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "far" / "c").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "c")
    monkeypatch.chdir(tmp_path)
    assert first_meeting(["a/b"], "a") == ("a/b", "lies in")
    assert first_meeting(["a"], f"file://{tmp_path}/a/b/new/deep") == ("a", "contains")
    assert first_meeting(["a/b", "link"], str(tmp_path / "far")) == ("link", "lies in")
    assert first_meeting(["link"], ".") == ("link", "lies in")
    assert first_meeting(["link/../c"], "far/c") == ("link/../c", "is")  # not <tmp_path>/c
    assert first_meeting(["link/../c"], "c") is None
    assert first_meeting(["new/One"], "new/one/x") == ("new/One", "contains")  # one folder where case is not told apart
    assert first_meeting(["ab"], "a") is None
    (tmp_path / "a" / "away").symlink_to(tmp_path / "far")
    assert first_meeting(["a/away"], "a") == ("a/away", "lies in")  # the link itself does
    assert first_meeting([os.fspath(tmp_path / "a")], "/") == (str(tmp_path / "a"), "lies in")
