"""Sets of every layout give their images and captions; what is no set is one error."""

import json

import pytest

from curation.methods.references.items import images_at, items, listed_files, places
from pipeline.errors import DataError, RecipeError
from tests.helpers.tars import tar_bytes


def read(path):
    return [(each.name, each.image, each.captions) for each in items(str(path), "x")]


def test_tars_at_any_depth_with_captions_a_line_or_in_json(tmp_path):
    (tmp_path / "val").mkdir()
    meta = {"caption": "c", "captions": [{"text": "d", "source": "alt"}, "e", {"no": 1}]}
    members = [("a.jpg", b"A"), ("a.txt", b"one\n\n two\n"), ("b.png", b"B"), ("b.cls", b"7"), ("c.webp", b"C")]
    (tmp_path / "val/0.tar").write_bytes(tar_bytes([*members, ("c.json", json.dumps(meta).encode())]))
    (tmp_path / "classnames.txt").write_text("a class")
    assert read(tmp_path) == [
        ("val/0.tar/a", b"A", ["one", "two"]), ("val/0.tar/b", b"B", []), ("val/0.tar/c", b"C", ["c", "d", "e"])
    ]  # fmt: skip
    assert read(tmp_path / "val/0.tar")[0][0] == "0.tar/a"


def test_plain_folders_of_images(tmp_path):
    (tmp_path / "dogs").mkdir()
    for name, data in {"dogs/1.jpg": b"A", "dogs/1.txt": b"a dog", "2.PNG": b"B"}.items():
        (tmp_path / name).write_bytes(data)
    assert read(tmp_path) == [("2.PNG", b"B", []), ("dogs/1.jpg", b"A", ["a dog"])]


@pytest.mark.parametrize("step", [1, -1])
def test_the_image_at_a_place_is_that_of_its_item_in_whatever_file_and_order(tmp_path, step):
    for number in range(2):  # of one layout: the same bytes of another tar are another image
        members = [(f"{key}.jpg", f"{number}{key}".encode()) for key in "ab"]
        (tmp_path / f"{number}.tar").write_bytes(tar_bytes([*members, ("c.txt", b"no image")]))
    found = dict(zip(wanted := list(places(str(tmp_path), "x"))[::step], images_at(wanted), strict=True))
    assert {place.name: image for place, image in found.items()} == {
        "0.tar/a": b"0a", "0.tar/b": b"0b", "0.tar/c": b"", "1.tar/a": b"1a", "1.tar/b": b"1b", "1.tar/c": b""
    }  # fmt: skip


def test_a_set_in_a_store(tmp_path):
    import fsspec

    with fsspec.open("memory://sets/one/test/0.tar", "wb") as file:
        file.write(tar_bytes([("a.jpg", b"A"), ("a.txt", b"one")]))
    assert read("memory://sets/one") == [("test/0.tar/a", b"A", ["one"])]


def test_what_is_no_set_is_an_error_and_a_damaged_one_is_named(tmp_path):
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(RecipeError, match=r"x: .* holds neither tars nor images, but 1 other files"):
        listed_files(str(tmp_path), "x")
    with pytest.raises(RecipeError, match=r"x: nothing at .*nowhere; expected an evaluation set\nhint: correct x"):
        listed_files(str(tmp_path / "nowhere"), "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="neither tars nor images, but 0"):
        listed_files(str(tmp_path / "empty"), "x")
    (tmp_path / "0.tar").write_bytes(tar_bytes([("a.jpg", b"A" * 5000)])[:3000])
    with pytest.raises(DataError, match=r"0\.tar"):
        read(tmp_path)
