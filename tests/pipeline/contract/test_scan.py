"""What is too large in a plain tar is left out by reason, and never read."""

import os

from pipeline.contract import scan
from pipeline.contract.scan import scan_tar
from tests.helpers.tars import header, packed, summed


def test_members_of_gigabytes_are_left_out_unread(tmp_path, monkeypatch):
    """Holes of 3 GB in a file: an image, a caption, and a film between the members of a third pair."""
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:
        for name, after in ((b"1.jpg", b"1.txt"), (b"2.txt", b"2.jpg"), (b"3.mp4", b"3.txt")):
            if name == b"3.mp4":
                file.write(packed(b"3.jpg", b"i"))
            block = header(name, 0)
            block[124:136] = b"%011o\0" % (3 << 30)
            file.write(summed(block))
            file.seek(3 << 30, os.SEEK_CUR)
            file.write(packed(after, b"t"))
        file.write(packed(b"4.jpg", b"i") + packed(b"4.txt", b"t") + bytes(1024))
    sizes = []
    exactly = scan.Window.exactly
    monkeypatch.setattr(scan.Window, "exactly", lambda self, at, n: sizes.append(n) or exactly(self, at, n))
    found = scan_tar(str(path))
    assert found.incomplete == [(key, "too_big") for key in "123"] and found.table["key"].to_pylist() == ["4"]
    assert max(sizes) <= 4 << 20


def test_a_field_twice_and_numbers_that_json_has_not_are_reasons(tmp_path):
    metas = {"a": b'{"x": 1, "x": 2}', "b": b'{"x": 1e999}', "c": b"{}"}
    pairs = [
        packed(f"{k}.jpg".encode(), b"i") + packed(f"{k}.txt".encode(), b"t") + packed(f"{k}.json".encode(), m)
        for k, m in metas.items()
    ]
    (tmp_path / "a.tar").write_bytes(b"".join(pairs) + bytes(1024))
    found = scan_tar(str(tmp_path / "a.tar"))
    assert found.incomplete == [("a", "dup_field"), ("b", "bad_meta")]


def test_tables_of_many_flushes_are_one(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_FLUSH_ROWS", 4)
    monkeypatch.setattr(scan, "MAX_PER_NAME", 10)
    blocks = [packed(b"%d.jpg" % n, b"i") + packed(b"%d.txt" % n, b"t") for n in range(10)]
    (tmp_path / "a.tar").write_bytes(b"".join(blocks) + bytes(1024))
    assert scan_tar(str(tmp_path / "a.tar")).table["row"].to_pylist() == list(range(10))
