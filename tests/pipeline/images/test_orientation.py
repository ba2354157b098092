"""Which way a picture is turned, however a file says it, is what Pillow's own full reading of the block says."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.images.decoder import Picture
from pipeline.images.orientation import orientation, upright
from tests.helpers.pairs import encoded, picture


def block(number: int, order: str = "<", kind: int = 3, count: int = 1, before: int = 2, after: int = 2) -> bytes:
    """An EXIF block whose first directory holds other tags before and after the orientation."""
    form = {3: "HH", 4: "L", 8: "hH", 9: "l", 1: "B3x"}.get(kind, "L")
    field = struct.pack(order + form, *([number, 0][: len(form.replace("3x", ""))]))
    row = struct.pack(order + "HHL", 0x0112, kind, count) + field
    rows = [struct.pack(order + "HHLL", 0x0100 + n, 4, 1, n) for n in range(before)]
    rows += [row] + [struct.pack(order + "HHLL", 0x0200 + n, 4, 1, n) for n in range(after)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    return b"Exif\0\0" + head + struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4)


def by_pillow(exif: bytes) -> int:
    reader = Image.Exif()
    reader.load(exif)
    number = reader.get(0x0112, 1)
    return number if number in range(1, 9) else 1


@pytest.mark.parametrize("number", [*range(10), 65535])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4, 8, 9, 1, 99])
def test_it_is_what_a_full_reading_gives(number, order, kind):
    if kind in (1, 8) and number > 255:
        return
    exif = block(number, order, kind)
    assert orientation({"exif": exif}) == by_pillow(exif)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_broken_block_says_nothing(order):
    whole = block(6, order)
    assert orientation({"exif": b"Exif\0\0" + whole}) == 6  # some writers say it twice
    assert orientation({"exif": whole[6:]}) == 6  # or not at all
    for cut in range(len(whole)):
        assert orientation({"exif": whole[:cut]}) in (1, 6)
    assert orientation({"exif": whole[:30]}) == 1
    assert orientation({"exif": block(6, order, count=2)}) == 1
    assert orientation({"exif": whole[:6] + b"XX" + whole[8:]}) == 1
    assert orientation({"exif": b""}) == orientation({"exif": None}) == orientation({}) == 1


def test_a_directory_that_is_not_there_says_nothing():
    assert orientation({"exif": b"II*\0\xff\xff\xff\xff" + bytes(50)}) == 1


def test_the_text_of_a_png_and_xmp_are_asked_when_exif_is_silent():
    text = "\nexif\n     100\n" + block(8).hex()
    assert orientation({"Raw profile type exif": text}) == 8
    assert orientation({"Raw profile type exif": "\n\n\nno hex"}) == 1
    assert orientation({"XML:com.adobe.xmp": '<a tiff:Orientation="3"/>'}) == 3
    assert orientation({"xmp": b"<tiff:Orientation>5</tiff:Orientation>"}) == 5
    assert orientation({"xmp": b'tiff:Orientation="5"', "exif": block(2)}) == 2
    assert orientation({"xmp": b'tiff:Orientation="5"', "exif": block(0)}) == 1


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_size_and_pixels_are_those_of_the_picture_turned(number, form):
    image, exif = picture(3, (40, 24)), Image.Exif()
    exif[0x0112] = number
    body = encoded(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    seen = Picture(body)
    assert seen.size == ((24, 40) if number >= 5 else (40, 24))
    assert seen.rgb().size == seen.size
    if form != "JPEG":
        image.info["exif"] = exif.tobytes()
        assert np.array_equal(np.asarray(seen.rgb()), np.asarray(ImageOps.exif_transpose(image)))


def test_an_upright_picture_is_not_copied():
    image = picture(4)
    assert upright(image, 1) is image and upright(image, 9) is image
