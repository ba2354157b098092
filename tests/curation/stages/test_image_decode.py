"""Every hostile or broken image ends in its reason, every honest one in the same figures whatever its container."""

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFile

from curation.stage import Context
from curation.stages.image_decode import ImageDecode
from tests.helpers.pairs import encoded, grained, picture


def opened(**settings):
    """Image bytes -> a table of columns and reasons."""
    function = ImageDecode(**settings).open(Context())
    return lambda bodies: function(
        pa.table({"image": pa.array(bodies, pa.large_binary()), "image_stored": [""] * len(bodies)})
    )


def measure(*bodies: bytes, **settings) -> list[dict]:
    return opened(**settings)(list(bodies)).to_pylist()


def reason(body: bytes, **settings) -> str | None:
    return measure(body, **settings)[0]["reason"]


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose data is a few zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_lossless_containers_agree_on_every_figure(form):
    image = picture(1).quantize(64).convert("RGB")
    options = {"lossless": True} if form == "WEBP" else {}
    one, other = measure(encoded(image), encoded(image, form, **options))
    assert one["format"] == "png" and other["format"] == form.lower()
    assert {k: v for k, v in one.items() if k != "format"} == {k: v for k, v in other.items() if k != "format"}
    assert (one["width"], one["height"], one["reason"]) == (96, 80, None)


@pytest.mark.parametrize(("form", "keep"), [("JPEG", 0.66), ("PNG", 0.66), ("WEBP", 0.66), ("GIF", 0.5), ("BMP", 0.66)])
def test_a_file_cut_short_is_truncated(form, keep):
    body = encoded(picture(2), form)
    assert reason(body) is None
    assert reason(body[: int(len(body) * keep)]) == "truncated"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/'/></svg>", "svg"),
        (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><svg>&e;</svg>", "svg"),
        (b"<html>image removed</html>", "not_decodable"),
        (b"", "not_decodable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not_decodable"),
        (b"8BPS" + bytes(40), "not_decodable"),
        (b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9", "not_decodable"),
        (png_header(32_000, 32_000), "pixel_cap"),
        (png_header(13_000, 13_000), "pixel_cap"),
        (png_header(60_000, 1), "side_cap"),
        (png_header(0, 0), "not_decodable"),
    ],
)
def test_what_is_no_usable_image_gets_its_reason(body, expected):
    assert reason(body) == expected


def test_a_bomb_is_refused_from_its_header_before_any_pixel(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("its pixels were asked for"))
    assert measure(png_header(19_999, 19_999))[0]["reason"] == "pixel_cap"


def test_a_text_chunk_that_swells_is_refused():
    body = encoded(picture(3))
    data = b"k\0\0" + zlib.compress(bytes(3_000_000))
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    assert reason(body[:33] + chunk + body[33:]) == "metadata_cap"


def test_a_format_that_was_not_asked_for_is_refused():
    assert reason(encoded(picture(4), "GIF"), formats=["jpg", "png"]) == "format"


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = picture(5)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    row = measure(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))[0]
    assert row["reason"] is None and row["width"] == 96
    if mode in ("L", "I;16"):
        assert row["phash"] == measure(encoded(picture(5)))[0]["phash"]


def test_transparency_is_seen_on_white():
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    clear.paste((200, 0, 0, 255), (5, 5, 20, 20))
    flat = Image.new("RGB", (40, 30), "white")
    flat.paste((200, 0, 0), (5, 5, 20, 20))
    one, other = measure(encoded(clear), encoded(flat))
    assert one["pixels"] == other["pixels"]


@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation_is_applied(orientation):
    image = picture(6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}
    upright = image
    for turn in turns.get(orientation, []):
        upright = upright.transpose(Image.Transpose(turn))
    one, other = measure(encoded(image, exif=exif), encoded(upright))
    assert one["pixels"] == other["pixels"] and one["width"] == (80 if orientation in (5, 6, 7, 8) else 96)


def test_only_the_first_frame_is_looked_at():
    frames = [picture(seed).quantize(16) for seed in range(3)]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    one, other = measure(animated, encoded(frames[0], "GIF"))
    assert one["pixels"] == other["pixels"]


@pytest.mark.parametrize("colour", ["black", "white", "#336699"])
def test_one_colour_is_blank_unless_wanted(colour):
    body = encoded(Image.new("RGB", (50, 50), colour), "JPEG")
    assert reason(body) == "blank"
    assert reason(body, blank_range=-1) is None
    assert reason(encoded(Image.new("RGBA", (50, 50), (255, 0, 0, 0)))) == "blank"


def test_one_changed_pixel_changes_the_digest_and_hardly_the_hash():
    image = picture(7)
    changed = image.copy()
    changed.putpixel((3, 3), (0, 255, 0))
    one, other = measure(encoded(image), encoded(changed))
    assert one["pixels"] != other["pixels"]
    assert (one["phash"] ^ other["phash"]).bit_count() <= 2


def test_random_damage_never_raises():
    rng = np.random.default_rng(0)
    bodies = []
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        clean = np.frombuffer(encoded(picture(8), form), np.uint8)
        for _ in range(60):
            body = clean.copy()
            body[rng.integers(0, len(body), 6)] = rng.integers(0, 256, 6)
            bodies.append(body.tobytes())
    table = opened()(bodies)
    assert table.num_rows == 300
    known = {None, "format", "side_cap", "pixel_cap", "metadata_cap", "truncated", "not_decodable", "blank", "svg"}
    assert set(table.column("reason").to_pylist()) <= known


def test_a_white_drawing_on_a_clear_ground_is_a_picture_and_a_clear_ground_alone_is_none():
    levels = np.full((80, 90, 4), 255, np.uint8)
    levels[..., 3] = 0
    empty = encoded(Image.fromarray(levels, "RGBA"))
    levels[20:60, 30:50, 3] = 255
    drawing, nothing = measure(encoded(Image.fromarray(levels, "RGBA")), empty)
    assert drawing["reason"] is None and drawing["contrast"] > 30
    assert drawing["transparency"] == pytest.approx(1 - 40 * 20 / (80 * 90))
    assert nothing["reason"] == "blank" and nothing["transparency"] == 1
    assert measure(encoded(picture(1)))[0]["transparency"] == 0


def test_what_moves_is_said_and_dropped_on_demand():
    film = encoded(picture(1), "GIF", save_all=True, append_images=[picture(2)])
    still = encoded(picture(1), "GIF")
    assert [row["animated"] for row in measure(film, still)] == [True, False]
    assert [row["reason"] for row in measure(film, still, drop_animated=True)] == ["animated", None]


def jpeg(image: Image.Image, **options) -> bytes:
    return encoded(image, "JPEG", quality=90, **options)


@pytest.mark.parametrize("size", [(192, 192), (640, 480), (1023, 769), (800, 1601)])
def test_a_large_jpeg_has_its_true_size_and_the_figures_of_all_its_pixels_nearly(size):
    body = jpeg(grained(3, size))
    whole = encoded(Image.open(io.BytesIO(body)).convert("RGB"))  # the same pixels, all of which are looked at
    one, other = measure(body, whole)
    assert (one["width"], one["height"], one["format"]) == (*size, "jpg")
    for name in ("grey", "tiny_rgb"):
        apart = np.abs(np.frombuffer(one[name], np.uint8).astype(int) - np.frombuffer(other[name], np.uint8))
        assert apart.max() <= 4 and apart.mean() < 0.6
    assert (one["phash"] ^ other["phash"]).bit_count() <= 2
    assert one["contrast"] == pytest.approx(other["contrast"], abs=0.5)
    assert one["colour_entropy"] == pytest.approx(other["colour_entropy"], abs=0.1)
    assert one["flatness"] == pytest.approx(other["flatness"], abs=0.02)


def test_pixels_of_a_jpeg_are_those_of_its_picture_and_not_of_its_file():
    image, other = grained(4, (700, 500)), np.asarray(grained(4, (700, 500))).copy()
    other[200:204, 300:304] = 255 - other[200:204, 300:304]  # a speck
    exif = Image.Exif()
    exif[0x010E] = "words"
    bodies = [jpeg(image), jpeg(image, exif=exif.tobytes()), jpeg(image, optimize=True), jpeg(image, progressive=True),
              jpeg(Image.fromarray(other)), encoded(image, "JPEG", quality=89)]  # fmt: skip
    pixels = [row["pixels"] for row in measure(*bodies)]
    assert len(set(bodies[:4])) == 4 and len(set(pixels[:4])) == 1
    assert len({pixels[0], *pixels[4:]}) == 3


@pytest.mark.parametrize("size", [(300, 200), (1200, 900)])
def test_a_thin_line_that_no_mean_shows_is_no_blank_picture(size):
    levels = np.full((size[1], size[0]), 250, np.uint8)
    levels[size[1] // 2, ::97] -= 60
    assert reason(encoded(Image.fromarray(levels), "JPEG", quality=98)) is None
    assert reason(encoded(Image.new("L", size, 250), "JPEG", quality=98)) == "blank"


def test_what_is_of_one_colour_is_told_as_by_all_pixels():
    rng = np.random.default_rng(1)
    for most in range(1, 14):
        for _ in range(4):
            levels = 120 + rng.integers(0, most + 1, (400, 400, 3))
            body = encoded(Image.fromarray(levels.astype(np.uint8)), "JPEG", quality=97, subsampling=0)
            seen = np.asarray(Image.open(io.BytesIO(body))).astype(int)
            is_blank = np.ptp(seen.reshape(-1, 3), axis=0).max() <= 8
            assert (reason(body) == "blank") is bool(is_blank)
