"""Any picture on its background, against the definition: what is clear shows the ground, to the level."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images import background
from pipeline.images.background import BACKGROUNDS, opaque
from pipeline.images.decoder import Picture
from tests.helpers.pairs import picture

GROUNDS = {"white": 255, "black": 0}


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, bits: int, colour: int, row: bytes, clear: bytes) -> bytes:
    """One row, with a tRNS chunk, as the specification has it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0))
    pixels = chunk(b"tRNS", clear) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + header + pixels


def packed(levels: list[int], bits: int) -> bytes:
    text = "".join(f"{level:0{bits}b}" for level in levels)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_clear_level_of_a_grey_png_is_meant_on_the_scale_of_its_file(bits, ground):
    top = (1 << bits) - 1
    levels = sorted({0, 1, top // 3, top // 2, top - 1, top})
    for clear in [*levels, top + 1 if bits < 16 else top]:
        body = png(len(levels), bits, 0, packed(levels, bits), struct.pack(">H", clear))
        shown = [level >> 8 if bits == 16 else level * 255 // top for level in levels]
        if bits == 1 and clear > 1:
            continue  # Pillow reads it as 1
        expected = [GROUNDS[ground] if level == clear else grey for level, grey in zip(levels, shown, strict=True)]
        if max(expected) - min(expected) <= 8:  # what is drawn has the colour of the ground
            opposite = 255 - GROUNDS[ground]
            expected = [opposite if level == clear else grey for level, grey in zip(levels, shown, strict=True)]
        assert np.asarray(Picture(body).rgb(ground))[0, :, 1].tolist() == expected


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("bits", [8, 16])
def test_the_clear_colour_of_a_png_is_meant_on_the_scale_of_its_file(bits, ground):
    unit = 257 if bits == 16 else 1
    colours = [(0x12, 0x34, 0x56), (0x34, 0x56, 0x12), (0, 0, 0)]
    form = ">3H" if bits == 16 else "3B"
    row = b"".join(struct.pack(form, *(level * unit for level in colour)) for colour in colours)
    body = png(3, bits, 2, row, struct.pack(">3H", *(level * unit for level in colours[0])))
    expected = [(GROUNDS[ground],) * 3, *colours[1:]]
    seen = Picture(body)
    assert list(map(tuple, np.asarray(seen.rgb(ground))[0])) == expected
    assert list(map(tuple, np.asarray(seen.rgb(ground))[0])) == expected  # and again
    past = png(3, 8, 2, bytes(9), struct.pack(">3H", 256, 256, 256))  # no 8-bit colour is that
    assert not np.asarray(Picture(past).rgb("white")).any()


def test_sixteen_bit_colours_are_cleared_by_what_is_left_of_them():
    colours = [(0x1234, 0x5678, 0x9ABC), (0x3400, 0x7800, 0xBC00)]  # the second is the low bytes of the first
    row = b"".join(struct.pack(">3H", *colour) for colour in colours)
    body = png(2, 16, 2, row, struct.pack(">3H", *colours[0]))
    assert np.asarray(Picture(body).rgb("white"))[0].tolist() == [[255] * 3, [0x34, 0x78, 0xBC]]


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
@pytest.mark.parametrize("band", [1, 100, 1 << 22])
def test_bands_and_whole_pictures_are_the_same(monkeypatch, mode, ground, band):
    monkeypatch.setattr(background, "_BAND", band)
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (13, 30, 4), dtype=np.uint8)
    full = Image.fromarray(levels, "RGBA")
    first = full.convert("LA") if mode in ("LA", "PA") else full
    image = first.convert(mode)
    parts = np.asarray(image.convert("RGBA")).astype(float)
    share = parts[..., 3:] / 255
    expected = parts[..., :3] * share + (1 - share) * GROUNDS[ground]
    shown = np.asarray(opaque(image, BACKGROUNDS[ground])).astype(float)
    assert np.abs(shown - expected).max() <= 1


def test_an_opaque_picture_is_not_copied():
    image = picture(1)
    assert opaque(image, (0, 0, 0)) is image


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "F", "I", "HSV", "LAB"])
def test_every_opaque_mode_becomes_rgb(mode):
    image = picture(2).convert("RGB").convert("L" if mode in ("F", "I") else "RGB")
    if mode in ("F", "I"):
        levels = np.asarray(image).astype(np.float32 if mode == "F" else np.int32)
        image = Image.fromarray(levels * (257 if mode == "I" else 1))
        assert np.array_equal(np.asarray(opaque(image, (0, 0, 0)))[..., 0], levels.astype(np.uint8))
    else:
        converted = Image.new("LAB", (4, 4)) if mode == "LAB" else image.convert(mode)
        assert opaque(converted, (0, 0, 0)).mode == "RGB"


def test_levels_beyond_sixteen_bits_are_the_nearest_one():
    image = Image.fromarray(np.array([[-5, 0, 65535, 70000, 2**31 - 1]], np.int32))
    assert np.asarray(opaque(image, (9, 9, 9)))[0, :, 0].tolist() == [0, 0, 255, 255, 255]


@pytest.mark.parametrize(("ground", "level", "seen_on"), [
    ("white", 255, 0), ("white", 250, 0), ("white", 0, 255), ("black", 0, 255), ("black", 255, 0),
])  # fmt: skip
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_drawing_in_the_colour_of_the_ground_is_put_on_the_opposite(ground, level, seen_on, mode):
    levels = np.full((20, 30, 4), level, np.uint8)
    levels[..., 3] = 0
    levels[5:15, 10:20, 3] = 255
    shown = np.asarray(opaque(Image.fromarray(levels, "RGBA").convert(mode), BACKGROUNDS[ground]))
    expected = np.full((20, 30, 3), seen_on, np.uint8)
    expected[5:15, 10:20] = level
    assert np.array_equal(shown, expected)


def test_what_shows_nothing_on_any_ground_stays_on_its_own():
    for alpha in (0, 255):
        levels = np.full((20, 30, 4), 255, np.uint8)
        levels[..., 3] = alpha
        assert np.asarray(opaque(Image.fromarray(levels, "RGBA"), BACKGROUNDS["white"])).min() == 255


@pytest.mark.parametrize("band", [1, 100, 1 << 22])
def test_the_share_of_the_ground_is_the_mean_of_what_is_clear(monkeypatch, band):
    monkeypatch.setattr(background, "_BAND", band)
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 256, (13, 30, 4), dtype=np.uint8)
    expected = (255 - levels[..., 3].astype(float)).mean() / 255
    assert background.clear_share(Image.fromarray(levels, "RGBA")) == pytest.approx(expected, abs=1e-12)
    assert background.clear_share(Image.fromarray(levels[..., :3])) == 0
    palette = Image.fromarray(levels[..., :3]).quantize(4)
    palette.info["transparency"] = 2
    assert background.clear_share(palette) == pytest.approx((np.asarray(palette) == 2).mean())
    deep = Image.fromarray((levels[..., 0].astype(np.int32) % 4) * 257)
    deep.info["transparency"] = 257
    assert background.clear_share(deep, 16) == pytest.approx((levels[..., 0] % 4 == 1).mean())


def test_one_colour_is_told_from_one_odd_pixel():
    levels = np.full((300, 400, 3), 100, np.uint8)
    assert background.is_flat(Image.fromarray(levels))
    levels[299, 399, 1] = 109
    assert not background.is_flat(Image.fromarray(levels)) and background.is_flat(Image.fromarray(levels), 9)
