"""What a body is, is read off its first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.formats import image_format
from tests.helpers.pairs import encoded, picture


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tiff"),
        ("ICO", "ico"),
    ]
    + [("AVIF", "avif")],
)
def test_what_an_encoder_writes_is_known(form, name):
    assert image_format(encoded(picture(1), form)) == name
    assert image_format(encoded(picture(1), form)[1:]) == ""


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(20), "heic"),
        (b"\0\0\0\x18ftypmif1" + bytes(20), "heic"),
        (b"\0\0\0\x18ftypavis" + bytes(20), "avif"),
        (b"\0\0\0\x18ftypisom" + bytes(20), ""),  # a video
        (b"\xff\x0a" + bytes(20), "jxl"),
        (b"II+\0" + bytes(20), "tiff"),
        (b"MM\0*" + bytes(20), "tiff"),
        (b"\xef\xbb\xbf\n <SVG xmlns='x'>", "svg"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg>", "svg"),
        (b"<!DOCTYPE svg PUBLIC 'x'><svg>", "svg"),
        (b"<?xml version='1.0'?><html>", ""),
        (b"<html><svg></svg>", ""),
        (b"<?xml?>" + b" " * 2000 + b"<svg>", ""),  # not in its first kilobyte
        (b"BM is how many an ordinary text begins", ""),
        (b"RIFF\0\0\0\0WAVEfmt ", ""),
        (b"GIF90a" + bytes(20), ""),
        (b"", ""),
    ],
)
def test_first_bytes_decide(body, name):
    assert image_format(body) == name


@given(st.binary(max_size=64))
def test_any_bytes_have_an_answer(body):
    assert isinstance(image_format(body), str)
