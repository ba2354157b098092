"""What the pool knows of input files: by place, size and stamp, all of them, and never a wrong one."""

import random

import pytest

from curation.pool import names
from pipeline.storage import Listed


def file(path: str, size: int = 3, stamp: str = "1") -> Listed:
    return Listed(path, size, stamp)


def test_a_file_is_known_as_it_was_listed_and_not_otherwise(tmp_path, monkeypatch):
    pool, mine = str(tmp_path / "pool"), file("s3://bucket/a?token=secret")
    assert names.known(pool, [mine]) == {}
    names.remember(pool, {mine: "ab"})
    others = [file(mine.url, size=4), file(mine.url, stamp="2"), file("s3://bucket/b"), file(mine.url, stamp="")]
    assert names.known(pool, [mine, *others]) == {mine: "ab"}
    assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "pool").rglob("*.json"))

    monkeypatch.chdir(tmp_path)
    names.remember(pool, {file("a.warc"): "cd"})
    for spelt in (f"{tmp_path}/a.warc", f"file://{tmp_path}/a.warc", "./a.warc"):
        assert list(names.known(pool, [file(spelt)]).values()) == ["cd"], spelt
    monkeypatch.chdir("/")
    assert names.known(pool, [file("a.warc")]) == {}


def test_what_has_no_stamp_is_asked_anew(tmp_path):
    names.remember(str(tmp_path), {file("http://e.org/a", stamp=""): "ab"})
    assert names.known(str(tmp_path), [file("http://e.org/a", stamp="")]) == {} and not list(tmp_path.iterdir())


def test_nothing_is_lost_however_often_something_is_added_and_few_files_are_read(tmp_path):
    rng, all_of = random.Random(1), {}
    for at in range(70):
        some = {file(f"/in/{rng.randrange(300)}", stamp=str(at)): f"{rng.getrandbits(64):x}" for _ in range(4)}
        names.remember(str(tmp_path), some)
        all_of |= some
        assert len(list((tmp_path / "inputs").iterdir())) <= 16
    assert names.known(str(tmp_path), all_of) == all_of


@pytest.mark.parametrize("content", [b"", b"{", b'{"names": {}, "files": {}, "check": "0"}', b"[" * 50_000])
def test_a_damaged_file_costs_what_it_knew_and_no_more(tmp_path, content):
    one, two = file("/in/1"), file("/in/2")
    names.remember(str(tmp_path), {one: "ab"})
    (damaged,) = (tmp_path / "inputs").iterdir()
    names.remember(str(tmp_path), {two: "cd"})
    damaged.write_bytes(content)
    assert names.known(str(tmp_path), [one, two]) == {two: "cd"}
    names.remember(str(tmp_path), {one: "ab"})
    assert names.known(str(tmp_path), [one, two]) == {one: "ab", two: "cd"}
