"""What images are written as: sizes as asked, pixels as those of a whole decoding within a few levels."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from curation.emit.convert import convert, needs_conversion
from curation.settings import EmitSettings, ResizeSettings
from tests.helpers.pairs import encoded, grained, picture


def emit(**resize) -> EmitSettings:
    return EmitSettings(resize=ResizeSettings(**resize))


def shown(body: bytes, settings: EmitSettings) -> Image.Image:
    made, ext, width, height = convert(body, settings)
    image = Image.open(io.BytesIO(made))
    assert image.size == (width, height) and image.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[ext]
    return image


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 2000))
def test_sides_are_bounded_and_the_ratio_kept_within_half_a_pixel(width, height, most):
    for name, pick in (("max_side", max), ("min_side", min)):
        made = ResizeSettings(**{name: most}).size_of(width, height)
        assert min(made) >= 1 and pick(made) <= most or made == (width, height)
        assert all(new <= old for new, old in zip(made, (width, height), strict=True))
        if made != (width, height):
            scale = most / pick(width, height)
            assert all(abs(new - max(1, old * scale)) <= 0.5 for new, old in zip(made, (width, height), strict=True))


@pytest.mark.parametrize(("asked", "expected"), [
    ({"max_side": 256}, (256, 192)), ({"min_side": 256}, (341, 256)), ({"max_side": 2000}, (1024, 768)),
    ({"min_side": 800}, (1024, 768)),
])  # fmt: skip
@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_an_image_has_the_side_and_the_format_that_were_asked_for(asked, expected, form):
    assert shown(encoded(grained(0, (1024, 768)), "JPEG"), emit(**asked, format=form)).size == expected


@pytest.mark.parametrize("kind", ["lanczos", "hamming", "bicubic"])
@pytest.mark.parametrize("size", [(1024, 768), (767, 1023), (3000, 500)])
def test_a_jpeg_decoded_smaller_shows_what_a_whole_decoding_shows(kind, size):
    body = encoded(grained(0, size), "JPEG", quality=95)
    made = shown(body, emit(max_side=128, format="png", filter=kind))
    exact = Image.open(io.BytesIO(body)).resize(made.size, Image.Resampling[kind.upper()])
    apart = np.abs(np.asarray(made).astype(int) - np.asarray(exact).astype(int))
    assert np.percentile(apart, 99) <= 8 and apart.mean() < 1.5


def test_a_turned_jpeg_is_upright_before_its_sides_are_looked_at():
    image = grained(0, (800, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    made = shown(encoded(image, "JPEG", quality=95, exif=exif.tobytes()), emit(max_side=100, format="png"))
    expected = image.transpose(Image.Transpose.ROTATE_270).resize((50, 100), Image.Resampling.LANCZOS)
    assert made.size == (50, 100)
    assert np.abs(np.asarray(made).astype(int) - np.asarray(expected).astype(int)).mean() < 2


def test_small_images_keep_their_bytes_only_when_that_is_asked_for():
    small, large = (200, 100), (300, 100)
    assert needs_conversion("jpg", small, emit(max_side=256))
    assert not needs_conversion("jpg", small, emit(max_side=256, keep_small=True))
    assert needs_conversion("jpg", large, emit(max_side=256, keep_small=True))
    assert needs_conversion("gif", small, emit(max_side=256, keep_small=True))
    assert not needs_conversion("webp", large, EmitSettings()) and needs_conversion("bmp", large, EmitSettings())


def test_without_a_size_other_formats_become_png_pixel_for_pixel():
    image = picture(1)
    made = shown(encoded(image, "BMP"), EmitSettings())
    assert made.format == "PNG" and np.array_equal(np.asarray(made), np.asarray(image))


def test_the_same_bytes_come_out_every_time():
    body = encoded(grained(0, (640, 480)), "JPEG")
    for form in ("jpg", "png", "webp"):
        assert convert(body, emit(max_side=100, format=form)) == convert(body, emit(max_side=100, format=form))


@pytest.mark.parametrize("asked", [{}, {"max_side": 100, "min_side": 100}, {"max_side": 8}])
def test_one_side_is_to_be_named(asked):
    with pytest.raises(ValidationError):
        ResizeSettings(**asked)
