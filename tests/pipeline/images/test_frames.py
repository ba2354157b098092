"""Frames are counted by the container alone, against Pillow, and on any bytes without an error."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.formats import image_format
from pipeline.images.frames import is_animated
from tests.helpers.pairs import picture

KINDS = {"gif": "GIF", "png": "PNG", "webp": "WEBP"}


def film(kind: str, frames: int, mode: str = "RGB", **options) -> bytes:
    images = [picture(number).convert(mode) for number in range(frames)]
    out = io.BytesIO()
    images[0].save(
        out, KINDS[kind], **({"save_all": True, "append_images": images[1:]} if frames > 1 else {}), **options
    )
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_more_than_one_frame_is_an_animation(kind, frames, mode):
    body = film(kind, frames, mode)
    assert getattr(Image.open(io.BytesIO(body)), "n_frames", 1) == frames
    assert is_animated(body, kind) == (frames > 1)


def test_a_gif_of_one_frame_with_comments_and_no_colour_table_does_not_move():
    body = film("gif", 1, comment=b"x" * 3000)
    assert not is_animated(body, "gif")
    assert is_animated(film("gif", 2, comment=b"," * 3000, loop=0), "gif")
    assert not is_animated(film("gif", 1, comment=b"," * 3000), "gif")  # a comma is what begins a frame


def test_a_still_png_that_says_so_does_not_move():
    out = io.BytesIO()
    picture(0).save(out, "PNG", save_all=True, append_images=[], default_image=False)
    assert not is_animated(out.getvalue(), "png")


def test_other_formats_do_not_move():
    assert not is_animated(b"\xff\xd8\xff\xe0", "jpg") and not is_animated(b"BM", "bmp")


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_damage_is_an_answer(kind, data):
    body = bytearray(film(kind, 2))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    assert is_animated(bytes(body), kind) in (True, False)
    assert image_format(bytes(body)) in ("", "svg", *KINDS, "jpg", "bmp") or len(body) > 0
    assert is_animated(np.random.default_rng(len(body)).bytes(99), kind) in (True, False)
