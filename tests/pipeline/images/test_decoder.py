"""One decoder for all: hostile bytes are a reason, good ones the picture a person would see, pixel for pixel."""

import ast
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.costs import MAX_SCANS
from pipeline.images.decoder import FORMATS, Picture, Refused, decode
from tests.helpers.lanes import examples
from tests.helpers.places import ROOT


def photo(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def refused(body: bytes, **caps: int) -> str:
    with pytest.raises(Refused) as caught:
        decode(body, **caps)
    return caught.value.reason


def scans_repeated(body: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again before its end mark."""
    last = body.rindex(b"\xff\xda")
    return body[:last] + body[last:-2] * times + b"\xff\xd9"


def test_a_jpeg_of_thousands_of_scans_is_refused_before_a_pixel_is_decoded():
    body = encoded(photo(), "JPEG", progressive=True)
    assert refused(scans_repeated(body, 6000)) == "scan_cap"
    assert refused(scans_repeated(body, MAX_SCANS + 1)) == "scan_cap"
    decode(scans_repeated(body, 20))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 1}, {"restart_marker_blocks": 1}])
def test_jpegs_as_encoders_write_them_have_few_scans(options):
    decode(encoded(photo(300, 200), "JPEG", **options))


def test_what_stands_before_and_behind_the_picture_is_not_counted_as_scans():
    body = encoded(photo(), "JPEG", progressive=True)
    thumbnail = b"Exif\0\0" + b"\xff\xda" * 400  # a segment full of what look like scans
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    expected, _ = decode(body)
    for odd in (body[:2] + segment + body[2:], body + b"\xff\xda" * 400, body + body * 30):
        image, _ = decode(odd)
        assert image.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_decodable"),
        (b"<html>", "not_decodable"),
        (b"<svg xmlns='x'/>", "svg"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "format"),
        (encoded(photo(), "PNG")[:-300], "truncated"),
        (encoded(photo(), "WEBP")[:-300], "truncated"),
        (encoded(photo(), "BMP")[:-300], "truncated"),
    ],
)
def test_what_is_no_picture_has_a_reason(body, reason):
    assert refused(body) == reason


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_whose_data_ends_early_by_its_own_word_is_truncated(mode, interlaced):
    """Pillow leaves black what it lacks."""
    rows = png_rows(mode, interlaced)
    whole = b"".join(rows)
    assert Picture(png_of(mode, interlaced, whole + bytes(70_000))).rgb().size == (13, 11)
    zeros = b"".join(bytes(len(row)) for row in rows)
    assert Picture(png_of(mode, interlaced, zeros)).rgb().size == (13, 11)  # black, or clear, but all there
    for lacking in (1, 4, len(rows) - 1):
        assert refused(png_of(mode, interlaced, b"".join(rows[:-lacking]))) == "truncated"
        assert refused(png_of(mode, interlaced, b"".join(rows[:-lacking]), pieces=5)) == "truncated"


COLOURS = {"1": (1, 0, 1), "L": (8, 0, 1), "P": (4, 3, 1), "LA": (8, 4, 2), "RGB": (8, 2, 3), "RGBA": (8, 6, 4)}
COLOURS |= {"I;16": (16, 0, 1)}  # bits, colour type, samples


def png_rows(mode: str, interlaced: bool) -> list[bytes]:
    """The rows of a 13 x 11 picture, with their filter bytes; interlaced as the standard draws its passes: pixel by
    pixel, from its table of an 8 x 8 square."""
    bits, _, samples = COLOURS[mode]
    square = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    passes = [[(x, y) for y in range(11) for x in range(13) if not interlaced or square[y % 8][x % 8] == f"{n}"]
              for n in (range(1, 8) if interlaced else [0])]  # fmt: skip
    rows = []
    for drawn in passes:
        for y in sorted({y for _, y in drawn}):
            width = sum(1 for _, other in drawn if other == y)
            rows.append(b"\0" + b"\xa5" * -(-width * bits * samples // 8))
    return rows


def png_of(mode: str, interlaced: bool, data: bytes, pieces: int = 1) -> bytes:
    bits, colour, _ = COLOURS[mode]
    packed = zlib.compress(data)
    step = -(-len(packed) // pieces)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 13, 11, bits, colour, 0, 0, interlaced))]
    chunks += [(b"PLTE", bytes(range(48)))] if colour == 3 else []
    chunks += [(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step)]
    made = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in [*chunks, (b"IEND", b"")]]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def test_caps_are_read_from_the_header():
    huge = encoded(Image.new("1", (12_000, 12_000)), "PNG")
    assert refused(huge) == "pixel_cap" and refused(huge, max_side=11_999) == "side_cap"
    assert refused(encoded(photo(), "PNG"), max_pixels=60 * 40 - 1) == "pixel_cap"
    assert refused(encoded(Image.new("1", (30_000, 30_000)), "PNG"), max_side=30_000) == "pixel_cap"
    assert refused(encoded(photo(), "PNG"), max_side=59) == "side_cap"  # of its 40 rows none is too many
    assert decode(encoded(photo(), "PNG"), max_pixels=60 * 40, max_side=60)[0].size == (60, 40)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_picture_is_upright(turn, kind):
    marked = Image.new("RGB", (64, 32), "white")
    marked.paste((200, 0, 0), (0, 0, 32, 16))  # a red corner, top left as the sensor saw it
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = Picture(encoded(marked, kind, exif=exif.tobytes()))
    assert picture.size == ((32, 64) if turn >= 5 else (64, 32))
    pixels = np.asarray(picture.rgb()).astype(int)
    assert pixels.shape[:2] == picture.size[::-1]
    # where the corner is displayed, by the definition of the EXIF orientations
    row, column = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[turn]
    assert pixels[row, column, 1] < 80 and pixels[-1 - row, -1 - column, 1] > 180


@pytest.mark.parametrize("background", ["white", "black"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "LA", "RGBA"])
def test_every_mode_is_the_picture_on_its_background_to_the_level(mode, background):
    alpha = Image.fromarray((np.arange(60 * 40) % 256).astype(np.uint8).reshape(40, 60))
    source = photo().convert(mode)
    if mode in ("LA", "RGBA"):
        source.putalpha(alpha)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    body = encoded(source, kind, **({"transparency": 3} if mode == "P" else {}))
    pixels = np.asarray(Picture(body).rgb(background)).astype(int)
    with Image.open(io.BytesIO(body)) as plain:
        rgba = np.asarray(plain.convert("RGBA")).astype(float)
    share = rgba[..., 3:] / 255
    expected = rgba[..., :3] * share + (1 - share) * (255 if background == "white" else 0)
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_greys_keep_their_high_byte(kind):
    levels = np.linspace(0, 65535, 60 * 40).astype(np.uint16).reshape(40, 60)
    pixels = np.asarray(decode(encoded(Image.fromarray(levels), kind))[0])
    assert np.array_equal(pixels[..., 0], (levels >> 8).astype(np.uint8)) and pixels.shape == (40, 60, 3)


def test_only_the_first_frame_is_looked_at():
    frames = [photo().convert("P"), Image.new("P", (60, 40))]
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:] * 500)
    assert np.asarray(decode(body)[0]).std() > 10


def test_a_large_jpeg_is_decoded_smaller_when_less_would_do():
    body = encoded(photo(800, 400), "JPEG")
    assert Picture(body).rgb(spare=4.2).size == (200, 100) and Picture(body).rgb(spare=1.9).size == (800, 400)
    assert Picture(encoded(photo(800, 400), "PNG")).rgb(spare=9).size == (800, 400)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("spare", [1, 2, 4, 8])
def test_the_box_of_a_reduced_jpeg_holds_the_picture_and_nothing_else(orientation, spare):
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(photo(401, 203), "JPEG", quality=95, exif=exif.tobytes())
    picture = Picture(body)
    image, box = picture.reduced(spare)
    whole = Picture(body).rgb()
    assert picture.size == whole.size and max(image.size) == -(-401 // spare)
    assert np.allclose((box[2] - box[0], box[3] - box[1]), (whole.width / spare, whole.height / spare))
    one, other = (np.asarray(each.resize((8, 8), Image.Resampling.HAMMING, where)).astype(int)
                  for each, where in ((image, box), (whole, None)))  # fmt: skip
    assert np.abs(one - other).max() <= 3


def test_of_other_formats_all_pixels_are_decoded_and_the_box_is_all():
    image, box = Picture(encoded(photo(401, 203), "PNG")).reduced(8)
    assert image.size == (401, 203) and box == (0, 0, 401, 203)


KINDS: list[tuple[str, dict[str, object]]] = [
    ("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}),
    ("RGB", {"restart_marker_blocks": 5}), ("RGB", {"restart_marker_rows": 1, "progressive": True}),
    ("RGB", {"optimize": True, "quality": 30}),
]  # fmt: skip


def verdict(body: bytes, spare: float) -> object:
    try:
        picture = Picture(body)
        picture.reduced(spare)
        return picture.size
    except Refused as error:
        return error.reason


@examples(400)
@given(st.sampled_from(KINDS), st.data())
def test_damage_is_found_by_a_reduced_decoding_where_a_whole_one_finds_it(kind, data):
    mode, options = kind
    body = bytearray(encoded(photo(203, 101, mode), "JPEG", **options))
    place = st.integers(2, len(body) - 1)
    for _ in range(data.draw(st.integers(0, 20))):
        body[data.draw(place)] = data.draw(st.integers(0, 255))
    at, length = data.draw(place), data.draw(st.integers(0, 300))
    form = data.draw(st.sampled_from(["as it is", "cut", "a piece lost", "zeros", "doubled"]))
    if form == "cut":
        del body[at:]
    elif form == "a piece lost":
        del body[at : at + length]
    elif form == "zeros":
        body[at : at + length] = bytes(len(body[at : at + length]))
    elif form == "doubled":
        body[at:at] = body[at : at + length]
    expected = verdict(bytes(body), 1)
    assert [verdict(bytes(body), spare) for spare in (2, 4, 8)] == [expected] * 3


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_jpeg_cut_anywhere_is_truncated_however_small_it_is_decoded(kind):
    body = encoded(photo(203, 101, kind[0]), "JPEG", **kind[1])
    start = body.index(b"\xff\xda") + 20
    assert verdict(body, 8) == (203, 101)
    assert {verdict(body[:at], 8) for at in range(start, len(body) - 64, 7)} == {"truncated"}


@examples(300)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]), st.data())
def test_any_damage_is_pixels_or_a_reason(kind, data):
    body = bytearray(encoded(photo(30, 20), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    try:
        image, ext = decode(bytes(body[:cut]) if data.draw(st.booleans()) else bytes(body))
    except Refused as error:
        assert error.reason.replace("_", "").isalpha()
        return
    assert image.mode == "RGB" and ext in FORMATS


def test_threads_get_the_pixels_that_one_alone_gets():
    bodies = [encoded(photo(40 + n, 30), kind) for n in range(20) for kind in ("JPEG", "PNG", "WEBP")]
    alone = [decode(body)[0].tobytes() for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda body: decode(body)[0].tobytes(), bodies)) == alone


def test_nobody_else_opens_an_image():
    # The report reads the headers of thumbnails.
    allowed = {"pipeline/images/decoder.py", "pipeline/report/curated/thumbs.py"}
    for half in ("pipeline", "curation", "training"):
        for path in (ROOT / half).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                opens = isinstance(node, ast.Attribute) and node.attr == "open" and isinstance(node.value, ast.Name)
                if opens and node.value.id == "Image":
                    assert path.relative_to(ROOT).as_posix() in allowed, path
