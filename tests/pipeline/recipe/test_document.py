"""Whatever bytes lie at a recipe's path: one RecipeError, in one line, and never a traceback or a wait."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe import load
from pipeline.recipe.document import MAX_BYTES, MAX_DEPTH, parsed


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "{b: " * 3000 + "1" + "}" * 3000,
        "seed: " + "9" * 5000,
        "seed: 1e" + "9" * 5000,
        "? [a]: b",
        "? {a: 1}\n: b",
        "seed: !!int abc",
        "a: !!float x",
        "a: !!binary aGk=",
        "a: !!timestamp 2001-01-01",
        "a: !!set {b}",
        "a: !!omap [b: 1]",
        "a: !!python/name:os.system",
        "a: !local b",
        "a: &x [1]\nb: *x",
        "a: 1\na: 2",
        "<<: {a: 1}\n<<: {b: 2}",
        "a: [",
        "\ta: 1",
        "%YAML 9.9\n---\na: 1",
        "--- a\n--- b",
        "",
        "null",
        "[]",
        "just words",
        "a: \x00",
        "a: \x07",
    ],
    ids=lambda text: text[:24],
)
def test_hostile_or_broken_yaml_is_one_recipe_error(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(RecipeError) as caught:
        load(str(path))
    assert len(str(caught.value)) < 1500 and str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfea\x00:\x00", b"name: \xe9", b"\x00" * 100, os.urandom(2000)])
def test_bytes_that_are_no_utf8_are_one_recipe_error(tmp_path, data):
    path = tmp_path / "r.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError):
        load(str(path))


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nseed: 3\r\n")
    assert (load(str(path)).name, load(str(path)).seed) == ("x", 3)


def test_what_is_no_regular_file_is_refused_without_being_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "loop", "/dev/zero", "", "x" * 5000):
        with pytest.raises(RecipeError) as caught:
            load(str(name))
        assert len(str(caught.value)) < 1500


def test_a_huge_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: 1\n" + b"#" * MAX_BYTES)
    with pytest.raises(RecipeError, match="larger than"):
        load(str(path))


def test_nesting_up_to_the_limit_is_read():
    depth = MAX_DEPTH - 2
    value = parsed("[" * depth + "]" * depth)
    for _ in range(depth - 1):
        (value,) = value
    assert value == []
    with pytest.raises(ValueError, match="nesting"):
        parsed("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_plain_data_or_a_value_error(text):
    try:
        value = parsed(text)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(value, (str, int, float, bool, list, dict, type(None)))
