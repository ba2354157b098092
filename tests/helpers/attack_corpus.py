"""A small crawl of nothing but attacks: bodies that swell, lie or crash, and pages and texts that do the same.

pictures  name -> (body, fate): fate is the reason by which it is dropped, or "" for a picture like any other
TEXTS     name -> (attribute text in HTML, what is to become of it: the caption, or "" where it is none)
"""

import functools
import gzip
import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from tests.helpers.small_crawl import picture
from tests.helpers.warcs import http, record, zipped

SITE = "http://attack.test"


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _opened(seed: int, side: int = 72) -> Image.Image:
    return Image.open(io.BytesIO(picture(seed, side=side)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    """A PNG that says so of its size, 8-bit grey, whatever its rows are."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [_chunk(b"IHDR", head), *more, _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _gif(width: int, height: int) -> bytes:
    """A GIF whose canvas is so large and whose one frame has a pixel."""
    small = bytearray(_saved(Image.new("P", (1, 1)), "GIF"))
    small[6:10] = struct.pack("<HH", width, height)
    return bytes(small)


def _exif_turned(seed: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(_opened(seed), "JPEG", quality=95, exif=exif)


def _frames(kind: str, seed: int) -> bytes:
    frames = [_opened(seed + n) for n in range(3)]
    frames = [each.resize((72, 72)) for each in frames]
    return _saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=40)


def _16_bit(seed: int) -> bytes:
    levels = np.asarray(_opened(seed).convert("L")).astype(np.uint16) * 257
    return _saved(Image.fromarray(levels), "PNG")


def _texts_png(seed: int) -> bytes:
    """A thousand compressed texts of a megabyte each."""
    info = PngImagePlugin.PngInfo()
    for number in range(1000):
        info.add_text(f"k{number}", "a" * (1 << 20), zip=True)
    return _saved(_opened(seed), "PNG", pnginfo=info)


def _profile(seed: int, body: bytes) -> bytes:
    return _saved(_opened(seed), "PNG", icc_profile=body)


@functools.cache
def pictures() -> dict[str, tuple[bytes, str]]:
    return {
        "good.jpg": (picture(1, "JPEG"), ""),
        "cmyk.jpg": (_saved(_opened(2).convert("CMYK"), "JPEG", quality=95), ""),
        "turned.jpg": (_exif_turned(3), ""),
        "deep.png": (_16_bit(4), ""),
        "animated.webp": (_frames("WEBP", 5), ""),
        "animated.gif": (_frames("GIF", 10), ""),
        "palette.png": (_saved(_opened(14).convert("P"), "PNG"), ""),
        "icc.png": (_profile(15, b"\0" * 4096), ""),
        "icc-bomb.png": (_profile(16, b"\0" * (64 << 20)), "metadata_cap"),
        "text-bombs.png": (_texts_png(17), "metadata_cap"),
        "huge.png": (_png(60_000, 60_000, rows=bytes(1000)), "pixel_cap"),
        "wide.png": (_png(19_999, 19_999, rows=bytes(1 << 20)), "pixel_cap"),
        "lying.png": (_png(4_000, 4_000, rows=bytes(4001)), "truncated"),
        "swelling.png": (_png(2_000, 2_000, rows=bytes(256 << 20)), "blank"),
        "no-size.png": (_png(0, 0), "not_decodable"),
        "canvas.gif": (_gif(65_535, 65_535), "pixel_cap"),
        "pixel-canvas.gif": (_gif(12_000, 12_000), "pixel_cap"),
        "plain.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "svg"),
        "laughs.svg": (
            b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a 'ha'>"
            + b"".join(b"<!ENTITY %c '%b'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
            + b"]><svg xmlns='http://www.w3.org/2000/svg'>&j;</svg>",
            "svg",
        ),
        "zip.png": (b"PK\x03\x04" + bytes(300), "not_image"),
        "page.png": (b"<html><img src=/good.jpg alt='inside'></html>", "not_image"),
        "head-only.jpg": (picture(18, "JPEG")[:20], "truncated"),
        "cut.jpg": (picture(19, "JPEG")[:-300], "truncated"),
        "trailing.jpg": (picture(20, "JPEG") + gzip.compress(bytes(8 << 20)), ""),
        "webp-in-name.jpg": (picture(21, "WEBP"), ""),
        "script.jpg": (b"\xff\xd8\xff\xfe\x00\x1b/*<script>alert(1)</scrip" + picture(22, "JPEG")[2:], ""),
    }


@functools.cache
def sent() -> dict[str, tuple[bytes, str, str]]:
    """name -> (body, its Content-Encoding, fate)."""
    return {
        "gzip-bomb.png": (gzip.compress(bytes(300 << 20)), "gzip", "too_big"),
        "gzip-of-gzip.png": (gzip.compress(gzip.compress(picture(30))), "gzip, gzip", ""),
        "many-codings.png": (picture(31), ", ".join(["gzip"] * 50), "bad_encoding"),
        "brotli-lie.png": (b"\xff" * 300, "br", "bad_encoding"),
        "no-brotli.png": (picture(32), "br", ""),  # a crawler that has unpacked it
        "no-coding.png": (picture(33), "gzip", ""),  # and another one
    }


LONG = "a red cat " * 100_000
TEXTS: dict[str, tuple[str, str]] = {
    "plain": ("a red cat on a mat", "a red cat on a mat"),
    "script": ("a cat <script>alert(1)</script> here", "a cat alert(1) here"),
    "javascript": ("javascript:alert(document.cookie)", "javascript:alert(document.cookie)"),
    "zero-width": ("a r\u200bed c\u200dat\ufeff o\u2060n a mat", "a red cat on a mat"),
    "bidi": ("a \u202ecat\u202c on \u2066a\u2069 mat", "a cat on a mat"),
    "nul": ("a cat&#0; with\0 nul here", ""),
    "surrogates": ("a cat &#xD800;&#xDC00; here", ""),
    "tags": ("a cat\U000e0069\U000e0067\U000e006e here", "a cat here"),
    "emoji": ("a family \U0001f468\u200d\U0001f469\u200d\U0001f467 here",) * 2,
    "flags": ("a flag \U0001f1e9\U0001f1ea and \u2764\ufe0f here",) * 2,
    "combining": ("z" + "\u0301" * 3000 + " a cat here", "\u017a\u0301\u0301 a cat here"),
    "long": (LONG, ""),
    "entities": ("&amp;amp;lt;b&amp;amp;gt; a cat &nbsp; here", "a cat here"),
    "controls": ("a\x1b[31m red\x07 cat\x7f here", "a[31m red cat here"),
    "persian": ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06af\u0631\u0628\u0647",) * 2,
}

MARKUP = {
    "nested": b"<div>" * 200_000 + b"<img src='/good.jpg' alt='a picture under very many elements'>",
    "tables": b"<table><tr><td>" * 30_000 + b"<img src='/good.jpg' alt='a picture in very many tables'>",
    "open-tag": b"<img alt='" + b"a" * (2 << 20),
    "attributes": b"<img src='/good.jpg' " + b" ".join(b"a%d=x" % n for n in range(50_000)) + b" alt='a late caption'>",
    "formatting": b"<b><i><a>" * 20_000 + b"</b></i></a>" * 20_000,
    "many-images": b"<img src='/good.jpg' alt='a red cat'>" * 30_000,
    "srcset": b"<img srcset='" + b"/a.jpg 1x, " * 50_000 + b"' alt='very many candidates'>",
    "comments": b"<!--" * 100_000 + b"<!-- " + b"->" * 100_000,
    "entities": b"<p title='" + b"&" * 500_000 + b"'>" + b"&#x" * 100_000,
    "urls": b"".join(
        b"<img src='%b' alt='a picture that nobody can ask for'>" % url
        for url in (
            b"data:image/png;base64," + b"A" * 100_000, b"javascript:alert(1)", b"file:///etc/passwd", b"blob:x",
            b"http://[::1", b"http://a b/", b"//", b"http://" + b"a" * 5000 + b".test/x.png", b"ftp://e.test/a.png",
            b"http://user:word@e.test/a.png", b"http://e.test:99999/a.png", b"\x00http://e.test/z.png", b"?" * 70_000,
        )
    ),
    "no-utf8": "<meta charset=utf-16><img src=/good.jpg alt='a \u540d'>".encode("utf-8") + b"\xff\xfe\xfd",
    "utf-7": b"<meta charset=utf-7>+ADw-script+AD4-alert(1)+ADw-/script+AD4-<img src=/good.jpg alt='in seven bits'>",
}  # fmt: skip


def address(name: str) -> str:
    return f"{SITE}/{name}"


def page() -> bytes:
    """Mentions every picture by a caption of its own, and a picture of its own for every text."""
    tags = [f'<img src="/{name}" alt="a picture of number {n} here">' for n, name in enumerate([*pictures(), *sent()])]
    tags += [f'<img src="/text/{name}.png" alt="{text}">' for name, (text, _) in TEXTS.items()]
    return f"<html lang=en><body>{''.join(tags)}".encode()


def records() -> list[bytes]:
    """As WARC records."""
    found = [record(address("page.html"), http(page(), "text/html"))]
    found += [record(address(f"{name}.html"), http(body, "text/html")) for name, body in MARKUP.items()]
    found += [record(address(name), http(body)) for name, (body, _) in pictures().items()]
    found += [
        record(address(name), http(body, "image/png", f"Content-Encoding: {coding}"))
        for name, (body, coding, _) in sent().items()
    ]
    found += [record(address(f"text/{name}.png"), http(picture(100 + n, side=64))) for n, name in enumerate(TEXTS)]
    return found


def crawl(cut: int = 1) -> list[bytes]:
    """The bytes of `cut` files."""
    made = records()
    return [zipped(*made[at::cut]) for at in range(cut)]
