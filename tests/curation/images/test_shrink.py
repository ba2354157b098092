"""What is made smaller on its way into the pool, and what stays as it is, each byte."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from curation.images.shrink import ShrinkSettings, named_by, shrunk
from tests.helpers.pairs import encoded, grained, picture

SMALL = ShrinkSettings(max_side=128)


def drawing(mode: str) -> Image.Image:
    image = grained(1, (500, 400)).convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.arange(500) > 30, (400, 1)).astype(np.uint8) * 255))
    return image.convert(mode)


STEPS = Image.fromarray(np.arange(256, dtype=np.uint8)[:, None] * np.ones(256, np.uint8))

LEFT = {
    "small enough": encoded(grained(0, (128, 90)), "JPEG"),
    "a drawing on a clear ground": encoded(drawing("RGBA")),
    "one that moves": encoded(grained(1, (300, 300)), "GIF", save_all=True, append_images=[grained(2, (300, 300))]),
    "one colour": encoded(Image.new("RGB", (500, 500), "red"), "PNG"),
    "nearly one colour": encoded(Image.fromarray(np.tile(np.arange(400, dtype=np.uint8) // 8, (400, 1))), "PNG"),
    "cut short": encoded(grained(3, (500, 400)), "JPEG")[:-3000],
    "no picture": b"\xff\xd8\xff\xe0" + bytes(100),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "fewer bytes than its smaller self": encoded(STEPS),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_is_better_left_alone_stays_as_it_is(name):
    assert shrunk(LEFT[name], SMALL) is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("ext", ["jpg", "png", "webp"])
def test_what_is_larger_is_made_smaller_with_the_size_of_the_original_beside(form, ext):
    options = {"lossless": True} if form == "WEBP" else {}
    made = shrunk(
        encoded(grained(1, (500, 380)), form, **options), ShrinkSettings(max_side=100, format=ext, filter="box")
    )
    image = Image.open(io.BytesIO(made.body))
    assert (made.ext, made.size) == (ext, (500, 380)) and image.size == (100, 76)
    exact = grained(1, (500, 380)).resize((100, 76), Image.Resampling.BOX)
    apart = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(exact).astype(int)).mean()
    assert apart < (9 if form == "GIF" else 5)


def test_a_turned_picture_is_upright_in_the_pool_and_carries_no_metadata():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where it was taken"
    made = shrunk(encoded(grained(1, (500, 380)), "JPEG", exif=exif.tobytes()), SMALL)
    image = Image.open(io.BytesIO(made.body))
    assert made.size == (380, 500) and image.size == (97, 128) and not image.getexif()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_left_for_the_decoder_to_find(data):
    body = bytearray(encoded(picture(1, (300, 200)), data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))))
    for _ in range(data.draw(st.integers(0, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(body[: data.draw(st.integers(1, len(body)))])
    made = shrunk(body, ShrinkSettings(min_side=50))
    try:
        whole = Image.open(io.BytesIO(body))
        whole.load()
    except Exception:
        assert made is None


def test_settings_name_the_bytes_and_one_side_is_to_be_given():
    assert named_by(None) is None
    assert (
        named_by(SMALL) != named_by(ShrinkSettings(max_side=128, quality=94)) != named_by(ShrinkSettings(min_side=128))
    )
    with pytest.raises(ValidationError):
        ShrinkSettings()
    with pytest.raises(ValidationError):
        ShrinkSettings(max_side=100, keep_small=True)
