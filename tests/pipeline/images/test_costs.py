"""Small files within the caps of size that hold a decoder for seconds or hours are refused, odd honest ones not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images.decoder import Refused, decode
from tests.helpers.pairs import encoded, picture

SMALL = Image.new("RGB", (16, 16), (10, 200, 30))
JPEG, GIF = encoded(SMALL, "JPEG"), encoded(SMALL.quantize(4), "GIF")
FRAME = GIF.index(b",", 13 + 3 * 4)  # of the GIF: where its first frame begins


def reason(body: bytes) -> str | None:
    try:
        decode(body)
    except Refused as refused:
        return refused.reason
    return None


def segment(kind: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(before: bytes = b"", cut: list[bytes] | None = None, after: bytes = b"") -> bytes:
    """16 x 16 grey; `cut`: what comes between the two halves of its pixel data."""
    data = zlib.compress(bytes(16 * 17))
    pixels = chunk(b"IDAT", data[:5]) + b"".join(cut or []) + chunk(b"IDAT", data[5:])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND")


def tiff(*more: tuple[int, int, int, int], drop: tuple[int, ...] = (), data: bytes = bytes(256)) -> bytes:
    """16 x 16 grey, uncompressed, unless the tags in `more` say otherwise. Behind the directory: `data`."""
    plain = {256: (4, 16), 257: (4, 16), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1), 278: (4, 16)}
    entries = {tag: (kind, 1, value) for tag, (kind, value) in plain.items() if tag not in drop}
    entries |= {tag: (kind, count, value) for tag, kind, count, value in more}
    rows = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4) + data


def strips(count: int) -> bytes:
    """As many strips as wanted that all point at the same bytes, each of nearly the whole picture."""
    return tiff((273, 4, count, behind(8)), (278, 4, 1, 15), data=struct.pack("<I", 8) * count + bytes(256))


def big_tiff(numbers: int) -> bytes:
    plain = {256: (4, 16), 257: (4, 16), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 16), 277: (3, 1), 278: (4, 16)}
    rows = b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, (kind, value) in plain.items())
    rows += struct.pack("<HHQQ", 40000, 4, numbers, 16 + 8 + 9 * 20 + 8)
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 9) + rows + bytes(8) + bytes(4 * numbers)


def behind(tags: int) -> int:
    """Where the data of such a TIFF of `tags` tags begins."""
    return 8 + 2 + 12 * tags + 4


def passes(side: int, count: int, frame: int = 0xCA, parts: int = 3) -> bytes:
    """A JPEG of `count` scans without a byte of data: arithmetic coding reads zeros for ever."""
    layers = b"".join(bytes([n + 1, 0x11, 0]) for n in range(parts))
    body = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    body += segment(frame, struct.pack(">BHHB", 8, side, side, parts) + layers)
    for n in range(count):
        which = b"".join(bytes([part + 1, 0]) for part in range(parts))
        body += segment(0xDA, bytes([parts]) + which + (b"\0\0\1" if n == 0 else b"\0\0\x10"))
    if frame == 0xCA:  # coarse scans alone are a picture that was cut
        body += segment(0xDA, bytes([1, 1, 0, 1, 63, 0]))
    return body + b"\xff\xd9"


def rle_bmp(side: int, codes: bytes) -> bytes:
    start = 14 + 40 + 1024
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(codes), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(codes), 0, 0, start) + head + bytes(1024) + codes


SWELLING = zlib.compress(bytes(1 << 20), 9)
COMMAS = b"GIF89a\x10\0\x10\0\xf7\0\0" + b"," * 768  # "," also begins a frame
NUMBERS = 400_000

FORGED = {
    # before: minutes, quadratic in the number of segments
    "exif in many segments": (JPEG[:2] + segment(0xE1, b"Exif\0\0M") * 5000 + JPEG[2:], "metadata_cap"),
    "exif of 20 segments": (JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 20 + JPEG[2:], "metadata_cap"),
    "empty segments": (JPEG[:2] + segment(0xFE) * 5000 + JPEG[2:], "metadata_cap"),
    "end marks before the picture": (JPEG[:2] + b"\xff\xd9" * 5000 + JPEG[2:], "metadata_cap"),
    "bytes between segments": (JPEG[:20] + bytes(100_000) + JPEG[20:], "metadata_cap"),
    "fill bytes": (JPEG[:20] + b"\xff" * 100_000 + JPEG[20:], "metadata_cap"),
    # 8.4 s of 1.5 kB
    "100 scans of 64 megapixels": (passes(8000, 100), "scan_cap"),
    "30 scans of 64 megapixels": (passes(8000, 30), "scan_cap"),
    # 43 s and more for 20 MB
    "profiles that swell": (png(chunk(b"iCCP", b"k\0\0" + SWELLING) * 300), "metadata_cap"),
    "texts that swell": (png(after=chunk(b"zTXt", b"\0\0" + SWELLING) * 300), "metadata_cap"),
    "texts no one can read": (png(after=chunk(b"iTXt", b"k\0\1\0\xff\0\0" + SWELLING) * 300), "metadata_cap"),
    "private chunks": (png(chunk(b"abCd") * 120_000), "metadata_cap"),
    "empty pixel data": (png(cut=[chunk(b"IDAT") * 120_000]), "metadata_cap"),
    "pieces of a comment": (GIF[:FRAME] + b"!\xfe" + b"\1a" * 120_000 + b"\0" + GIF[FRAME:], "metadata_cap"),
    "comments": (GIF[:FRAME] + b"!\xfe\1a\0" * 60_000 + GIF[FRAME:], "metadata_cap"),
    "a comment behind a table of commas": (COMMAS + b"!\xfe" + b"\1a" * 120_000 + b"\0" + GIF[FRAME:], "metadata_cap"),
    "bytes between blocks": (GIF[:FRAME] + b"\1" * 120_000 + GIF[FRAME:], "metadata_cap"),
    # 30 s and more: every strip draws the picture again
    "strips over each other": (strips(1000), "pixel_cap"),
    "very many strips over each other": (strips(140_000), "pixel_cap"),
    "numbers in a BigTIFF": (big_tiff(NUMBERS), "metadata_cap"),
    "numbers": (tiff((40000, 5, NUMBERS, behind(9)), data=b"\1\0\0\0\3\0\0\0" * NUMBERS), "metadata_cap"),
    "numbers in EXIF": (
        tiff(
            (34665, 4, 1, behind(9)),
            data=struct.pack("<HHHIII", 1, 40000, 5, NUMBERS, behind(9) + 18, 0) + b"\1\0\0\0\3\0\0\0" * NUMBERS,
        ),
        "metadata_cap",
    ),
    "numbers in EXIF by a short pointer": (
        tiff(
            (34665, 3, 1, behind(9) | 0x10000),
            data=struct.pack("<HHHIII", 1, 40000, 5, NUMBERS, behind(9) + 18, 0) + b"\1\0\0\0\3\0\0\0" * NUMBERS,
        ),
        "metadata_cap",
    ),
    "tags": (tiff(*[(tag, 3, 1, 1) for tag in range(1000, 6000)]), "metadata_cap"),
    "a tile larger than any picture": (
        tiff((259, 3, 1, 8), (322, 4, 1, 9000), (323, 4, 1, 9000), (324, 4, 1, 8), (325, 4, 1, 9), drop=(273, 278)),
        "pixel_cap",
    ),
    "a TIFF of JPEG scans": (
        tiff(
            (256, 4, 1, 64), (257, 4, 1, 64), (259, 3, 1, 7), (273, 4, 1, behind(9)), (279, 4, 1, 400),
            data=passes(64, 50, parts=1),
        ),
        "scan_cap",
    ),
    # 7 s of 14 kB
    "lines filled byte by byte": (rle_bmp(2001, b"\1\1\0\0" * 2001), "pixel_cap"),
    "codes that draw nothing": (rle_bmp(100, b"\0\2\0\0" * 40_000), "metadata_cap"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_costs_more_than_it_shows_is_refused(name):
    body, expected = FORGED[name]
    assert len(body) < 4 << 20
    assert reason(body) == expected


def test_a_run_of_fill_bytes_behind_the_picture_is_read_once():
    """Looking for markers was quadratic in the run: 4.7 s at 32,000 bytes, hours at these 8 million."""
    body = JPEG[:-2] + b"\xff" * 8_000_000 + b"\0" + JPEG[-2:]
    assert reason(body) in (None, "not_decodable", "truncated")


def icc_in_segments(count: int) -> bytes:
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes([n + 1, count]) + bytes(500)) for n in range(count)]
    return JPEG[:2] + b"".join(parts) + JPEG[2:]


def multi_picture() -> bytes:
    out = io.BytesIO()
    SMALL.save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))] * 3)
    return out.getvalue()


def animated_png(frames: int) -> bytes:
    return encoded(
        SMALL, "PNG", save_all=True, append_images=[Image.new("RGB", (16, 16), (n, 0, 0)) for n in range(frames)]
    )


def gif_with_xmp() -> bytes:
    packet = b"<x:xmpmeta>" + b"a " * 20_000 + b"</x:xmpmeta>"
    return GIF[:FRAME] + b"!\xff\x0bXMP DataXMP" + packet + b"\1" + bytes(range(255, -1, -1)) + b"\0" + GIF[FRAME:]


DEPTH = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(900))
FRAMES = [Image.new("P", (16, 16), n) for n in range(99)]
HONEST = {
    "a profile in 255 segments": icc_in_segments(255),
    "EXIF in two segments": JPEG[:2] + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0") * 2 + JPEG[2:],
    "500 segments of a depth map": JPEG[:2] + DEPTH * 500 + JPEG[2:],
    "a little between segments": JPEG[:20] + bytes(300) + b"\xff" * 300 + JPEG[20:],
    "pictures in one file": multi_picture(),
    "20 scans of 16 megapixels": passes(4000, 20),
    "3,000 chunks": png(cut=[chunk(b"IDAT")] * 3000),
    "notes": png(b"".join(chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(b"text " * 50)) for n in range(100))),
    "an animated PNG": animated_png(200),
    "a GIF with XMP": gif_with_xmp(),
    "an animated GIF": encoded(SMALL.quantize(4), "GIF", save_all=True, append_images=FRAMES),
    "a strip a row": encoded(picture(1, (64, 3000)), "TIFF", tiffinfo={278: 1}),
    "a compressed strip a row": encoded(picture(1, (64, 3000)), "TIFF", compression="tiff_lzw", tiffinfo={278: 1}),
    "a TIFF in planes": encoded(SMALL, "TIFF", tiffinfo={284: 2}),
    "a TIFF of JPEG": encoded(picture(1), "TIFF", compression="jpeg"),
    "a TIFF in pages": encoded(SMALL, "TIFF", save_all=True, append_images=[SMALL] * 50),
    "a TIFF in tiles": tiff((322, 4, 1, 16), (323, 4, 1, 16), (324, 4, 1, 8), (325, 4, 1, 256), drop=(273, 278)),
    "a BigTIFF": big_tiff(10_000),
    "a tag that lies": tiff((40000, 4, 1 << 31, 8)),
    "a run-length BMP of noise": rle_bmp(300, (b"\1\2" * 300 + b"\0\0") * 300 + b"\0\1"),
    "a run-length BMP": rle_bmp(64, (b"\x40\1\0\0") * 64 + b"\0\1"),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_odd_honest_files_are_decoded(name):
    assert reason(HONEST[name]) is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_anywhere_is_a_reason_and_never_the_picture(form):
    options = {"compression": "tiff_lzw"} if form == "TIFF" else {}
    body = encoded(picture(2), form, **options)
    whole, _ = decode(body)
    for twentieth in range(20):
        try:
            image, _ = decode(body[: len(body) * twentieth // 20])
        except Refused as refused:
            assert refused.reason in ("truncated", "not_decodable")
        else:
            assert np.array_equal(np.asarray(image), np.asarray(whole))  # what was cut off are no pixels


def test_headers_of_random_bytes_are_counted_without_an_error():
    rng = np.random.default_rng(3)
    starts = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"II+\0",
        b"MM\0+",
    ]
    for start in starts + [b"BM" + bytes(4) + bytes(4)]:
        for size in (0, 1, 5, 20, 100, 5000):
            for _ in range(20):
                assert reason(start + rng.bytes(size)) is not None
