"""Inputs of every kind in which good pairs stand among attacks: pages, link metadata, tables, shards, pictures, texts.

GOOD   number -> the caption of `http://e.test/good/<number>.png`, a part of them in each kind of input
write  the files, a folder a kind of source; FATES: what is to become of each picture that is none of them
"""

import copy
import gzip
import html
import io
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.helpers.attack_corpus import _chunk, _png, _saved
from tests.helpers.small_crawl import picture
from tests.helpers.tars import header, packed, tar_bytes
from tests.helpers.warcs import http, record, zipped
from tests.helpers.wats import envelope, wat

SITE = "http://e.test"
GOOD = {number: f"good picture number {number} of a red cat" for number in range(50)}
IN_PAGE, IN_WAT, IN_CSV, IN_JSONL, IN_PARQUET = range(10), range(10, 20), range(20, 23), range(23, 26), range(26, 34)
IN_SHARDS = [range(34, 38), range(38, 42), range(42, 46), range(46, 50)]


def good(number: int) -> str:
    return f"{SITE}/good/{number}.png"


def body(number: int) -> bytes:
    return picture(number, side=70)


def _tag(number: int) -> str:
    return f"<img src='/good/{number}.png' alt='{GOOD[number]}'>"


def _noise(seed: int, height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def _image(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(picture(seed, side=80))).convert("RGB")


def _deep(seed: int) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 65536, (9, 9), dtype=np.uint16)
    return Image.fromarray(np.kron(levels, np.ones((8, 8), np.uint16)))


def _gif(frames: int) -> bytes:
    """Many equal frames of a picture that is none of one colour."""
    one = _saved(_image(900).quantize(32).resize((24, 24)), "GIF")
    start = 13 + (3 << (one[10] & 7) + 1)
    frame = one[one.index(b",", start) : -1]
    return one[:start] + frame * frames + b";"


def _turned(seed: int, number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return _saved(_image(seed), "JPEG", exif=exif, quality=95)


def _tiff(width: int, height: int, strips: int) -> bytes:
    tags = [struct.pack("<HHII", tag, 4, count, value)
            for tag, count, value in ((256, 1, width), (257, 1, height), (273, strips, 8))]  # fmt: skip
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + b"".join(tags) + bytes(4)


def _jpeg(cut: bool) -> bytes:
    whole = _saved(_image(935).resize((160, 160)), "JPEG", quality=90)
    return whole[: len(whole) // 2] + b"\xff\xd9" if cut else whole


def pictures() -> dict[str, tuple[bytes, str]]:
    """name -> (body, reason by which it goes, or "")."""
    modes = {"cmyk": "CMYK", "float": "F", "lab": "LAB", "ycc": "YCbCr", "bits": "1", "palette": "P"}
    found = {f"{name}.tif": (_saved(_image(901 + at).convert(mode), "TIFF"), "")
             for at, (name, mode) in enumerate(modes.items())}  # fmt: skip
    found |= {f"turned-{n}.jpg": (_turned(920 + n, n), "") for n in range(1, 9)}
    more = [_image(911).resize(_image(910).size)] * 30
    return found | {
        "16.png": (_saved(_deep(1), "PNG"), ""), "16.tif": (_saved(_deep(2), "TIFF"), ""),
        "la.png": (_saved(_image(908).convert("LA"), "PNG"), ""),
        "pa.png": (_saved(_image(909).convert("RGBA").quantize(64), "PNG"), ""),
        "icc.jpg": (_saved(_image(912), "JPEG", icc_profile=bytes(range(256)) * 12, quality=95), ""),
        "exif.jpg": (_saved(_image(913), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95), ""),
        "frames.gif": (_gif(10_000), ""), "frames.png": (_saved(_image(914), "PNG", save_all=True,
                       append_images=[_image(915).resize(_image(914).size)]), ""),
        "frames.webp": (_saved(_image(910), "WEBP", save_all=True, append_images=more, duration=10), ""),
        "two.jpg": (_saved(_image(916), "MPO", save_all=True, append_images=[_image(917)]), ""),
        "bmp.bmp": (_saved(_image(918), "BMP"), ""),
        "tall.png": (_saved(_noise(3, 20_000, 1), "PNG"), ""), "wide.jpg": (_saved(_noise(4, 1, 20_000), "JPEG"), ""),
        "wider.png": (_saved(_noise(5, 1, 20_001), "PNG"), "side_cap"),
        "50k.png": (_png(50_000, 50_000, rows=bytes(1 << 20)), "pixel_cap"),
        "16k.png": (_png(16_000, 16_000, rows=bytes(1 << 20)), "pixel_cap"),
        "pixel.png": (_saved(Image.new("RGB", (1, 1), (3, 4, 5)), "PNG"), "blank"),
        "flat.png": (_png(4000, 4000, rows=bytes(4001 * 4000)), "blank"),
        "text.png": (_png(8, 8, _chunk(b"tEXt", b"k\0" + b"a" * (9 << 20)), rows=bytes(72)), "blank"),
        "none.gif": (b"GIF89a" + bytes(7) + b";", "not_decodable"),
        "none.jpg": (b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\0\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9",
                     "not_decodable"),
        "half.jpg": (_jpeg(cut=True), "truncated"), "whole.jpg": (_jpeg(cut=False), ""),
        "lie.webp": (b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(50), "truncated"),
        "strips.tif": (_tiff(100_000, 100_000, 10**6), "not_decodable"),
        "icon.png": (_saved(_image(919), "ICO"), "format"), "avif.png": (b"\0\0\0\x1cftypavif" + bytes(99), "format"),
        "heic.png": (b"\0\0\0\x1cftypheic" + bytes(99), "format"), "empty.png": (b"", "empty"),
        "jp2.png": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "not_image"),
        "entities.png": (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>"
                         b"<svg xmlns='http://www.w3.org/2000/svg'>&b;</svg>", "svg"),
    }  # fmt: skip


PAGES: dict[str, bytes] = {
    "deep": b"<div><span><p><a><b>" * 100_000,
    "long attribute": b"<img src=/x.png alt='" + b"a" * (9 << 20) + b"'><div data-x=\"" + b"b" * 300_000,
    "nul": b"<\0img src=/x\0.png alt='a\0b'>" + bytes(100_000) + b"<img\0src='/y.png'alt=c>",
    "charsets": b"<meta charset=utf-16le><meta charset=koi8-r><img src=/l.png alt='\xc1\xc2\xc3'><meta charset=idna>",
    "no charset": b"<meta charset='" + b"x" * 100_000 + b"'><img src=/m.png alt='\xff\xfe\x80\x81'>",
    "surrogates": b"<img src='/s&#xD800;.png' alt='&#xD800;x&#xDFFF;'><img src=/s2.png alt='\xed\xa0\x80'>",
    "bidi": "<img src='/b.png' alt='\u202e\u2066abc\u2069\u202c\u200f\u200e'>".encode(),
    "refresh": b"<meta http-equiv=refresh content='0;url=/refresh.html'>" * 10_000,
    "base": b"<base href='javascript:alert(1)'><base href='http://[bad'><img src=base.png alt='under a base'>",
    "long base": b"<base href='" + b"../" * 100_000 + b"'><img src=base.png alt='under a long base'>",
    "data": b"<base href='data:text/html,x'><img src='data:image/png;base64," + b"A" * (1 << 20) + b"' alt=x>",
    "addresses": b"".join(b"<img src='%b' alt='an odd address'>" % url for url in (
        b" \n\tjava\nscript:alert(1)", b"//", b"http:///x.png", b"http://e.test:0/x", b"http://e.test:99999/x",
        b"http://\xf0\x9f\x98\x80.test/x.png", b"http://xn--a.test/x", b"http://" + b"a" * 300 + b".test/x",
        b"http://0x7f000001/x", b"http://e.test/%00%ff%zz", b"http://e.test/\\..\\..\\x")),
    "srcset": b"<img alt=x srcset='" + b",".join(b"/c%d.png %dw" % (n, n) for n in range(20_000)) + b"'>",
    "odd srcset": b"<img alt=x srcset='" + b"((((" * 50_000 + b",,, /x.png 1e999x, /y.png -1w, /w.png 9999999999999w'>",
    "picture": b"<picture>" * 5000 + b"<source srcset='/p.webp 2x'><img src=/p.png alt=x>" + b"<source src=x>" * 5000,
    "entities": b"<img src=/e.png alt='" + b"&amp;" * 300_000 + b"'><img src=/f.png alt='&#" + b"9" * 99_999 + b";'>",
    "markup": b"<![CDATA[" * 10_000 + b"<!DOCTYPE " * 10_000 + b"<?xml " * 10_000 + b"</" * 10_000 + b"<" * 100_000,
    "foreign": b"<svg><math><foreignObject><desc><title>" * 20_000 + b"<img src=/sv.png alt='in svg'>",
    "select": b"<select><option><table><tr><td><template>" * 10_000,
    "formatting": b"<a><b><i><p>" * 20_000,
    "scripts": b"<script><!--<script>" * 10_000 + b"</script>" + b"<textarea><title><style><xmp>" * 10_000,
    "attributes": b"<img " + b" ".join(b"a%d" % n for n in range(100_000)) + b" src=/at.png alt=x>",
    "figures": b"<figure>" * 20_000 + b"<img src=/f.png>" + b"<figcaption>" * 20_000 + b"text",
    "robots": b"<meta name=robots content='" + b"noai," * 100_000 + b"'>",
    "language": b"<html lang='" + b"x" * 200_000 + b"'><img src=/lg.png alt=x>",
    "odd language": b"<html lang='e\0n&#xD800;'><img src=/lg2.png alt=x>",
}  # fmt: skip


def texts() -> list[str]:
    rng = random.Random(0)
    planes = ((1, 128), (0x80, 0x800), (0x800, 0xD800), (0x10000, 0x110000))
    some = ["".join(chr(rng.randrange(*rng.choice(planes))) for _ in range(rng.randrange(1, 60))) for _ in range(20)]
    return [
        "a" * 1_000_000, "\u0301" * 5000, "\U0001f468\u200d" * 3000, "\u200d" * 3, "\ufdfa" * 8000, "שלום עולם " * 20,
        "a\n\tb\r\nc\x0b\x0c\x1c\x85\u2028\u2029d words", "".join(map(chr, range(1, 32))), "\ufffe\uffff\U0010ffff",
        "\U000e0001" * 50, "%s%n{0}{x!r}$(id)`id`';DROP TABLE x;--", "=cmd|' /C calc'!A0", "NaN", "null", "-0", "1e999",
        '"\\', "\x00", "\ud800", *some,
    ]  # fmt: skip


def warc_records() -> list[bytes]:
    page = "".join(map(_tag, IN_PAGE))
    found = [record(f"{SITE}/good.html", http(page.encode(), "text/html"))]
    found += [record(good(number), http(body(number))) for number in GOOD]
    found += [record(f"{SITE}/pages/{at}.html", http(made, "text/html; charset=utf-8"))
              for at, made in enumerate(PAGES.values())]  # fmt: skip
    tags = "".join(f"<img src='/p/{name}' alt='a red cat in the picture named {name}'>" for name in pictures())
    found.append(record(f"{SITE}/p.html", http(tags.encode(), "text/html")))
    found += [record(f"{SITE}/p/{name}", http(made)) for name, (made, _) in pictures().items()]
    tags = "".join(f"<img src='/t/{at}.png' alt=\"{html.escape(text)}\">" for at, text in enumerate(texts()))
    found.append(record(f"{SITE}/t.html", http(tags.encode("utf-8", "surrogatepass"), "text/html; charset=utf-8")))
    found += [record(f"{SITE}/t/{at}.png", http(picture(2000 + at, side=66))) for at in range(len(texts()))]
    moved = [http(b"", "text/html", f"Location: /loop-{2 - at}", status="302 Found") for at in range(2)]
    found += [record(f"{SITE}/loop-{at + 1}", answer) for at, answer in enumerate(moved)]
    tags_of = ["X-Robots-Tag: " + "x" * 3000] * 15
    found.append(record(f"{SITE}/robots.png", http(picture(3003), "image/png", *tags_of)))
    found.append(record("http://" + "a" * 70_000 + "/x.png", http(picture(3002))))
    found.append(record(f"{SITE}/date.png", http(picture(3004)), WARC_Date="9999999-99-99"))
    return found


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(each, (*path, key))


ODD_VALUES = [None, 7, -1e308, "x", [], {}, [None, {}], {"a": [1]}, True, "\ud800\0", "9" * 5000, 10**300, [[]] * 1000]


def wat_records() -> list[bytes]:
    """Every value of a record in turn as each of the odd ones; and what is no JSON, or too much of it."""
    whole = [envelope(f"{SITE}/w{at}.html", "".join(_tag(n) for n in IN_WAT[at::2])) for at in range(2)]
    base, bad = envelope(f"{SITE}/bad.html", "<img src=/x.png alt=hello><a href=y>"), []
    for path in _places(base):
        for value in ODD_VALUES:
            changed = inner = copy.deepcopy(base)
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            bad.append(json.dumps(changed).encode())
    bad += [b"", b"null", b"[[[]]]", b"{", b"\xff\xfe", b"[" * 200_000, b'{"Envelope":' * 100_000,
            b'{"Envelope":{"Payload-Metadata":NaN}}', b'{"Envelope":1e999}', b'{"Envelope":' + b"9" * 100_000 + b"}",
            b'{"Envelope":{"Envelope":{}},"Envelope":[]}']  # fmt: skip
    found = [wat(f"{SITE}/bad-{at}.html", block) for at, block in enumerate(bad)]
    return [wat(f"{SITE}/w0.html", whole[0]), *found, wat(f"{SITE}/w1.html", whole[1])]


def tables(folder: Path, cell: int) -> None:
    """`cell`: bytes of the longest one."""
    first, second, third = ([good(n), GOOD[n]] for n in IN_CSV)
    lines = [b"\xef\xbb\xbfurl,caption,n", ",".join([*first, "1"]).encode(), b"a,b", b",,,,,", bytes(3), b'"unclosed',
             b"x" * (5 << 20), b"http://e.test/nul\0.png,a\0b,3", b"\xff\xfe,\xff,\xff",
             f'{second[0]},"{second[1]}",{"9" * 5000}'.encode(), b'http://e.test/n.png,"two\nlines\r\nof ""it""",x',
             b"http://e.test/u.png,\xed\xa0\x80,1", ",".join([*third, "nan"]).encode()]  # fmt: skip
    (folder / "a.csv").write_bytes(b"\r\n".join(lines))
    rows = [json.dumps({"url": good(n), "caption": GOOD[n], "x": 10**4000, "page_url": [1], "uid": None})
            for n in IN_JSONL]  # fmt: skip
    odd = [
        "{",
        "[]",
        "1",
        "null",
        "{}",
        '{"url":1}',
        '{"url":null,"caption":null}',
        "[" * 99_999,
        '{"a":' * 9999,
        "\0",
        '{"url":"http://e.test/j1.png","caption":"\\ud800 x","\\ud801":"\\ud802","z":{"\\u0000":1e400}}',
        '{"url":"http://e.test/j2.png","caption":NaN}',
        '{"url":"http://e.test/j4.png","caption":[[["x"]],1,"y"]}',
        '{"url":"http://e.test/j5\\u0000.png","caption":"a\\u0000b"}',
        '{"url":"http://e.test/j6.png","caption":"a","caption":"b","url":"http://e.test/j7.png"}',
        json.dumps({"url": "http://e.test/j8.png", "caption": "x", **{f"c{n}": n for n in range(9000)}}),
    ]
    (folder / "b.jsonl").write_text("\n".join([rows[0], *odd, *rows[1:]]))
    count = len(IN_PARQUET)
    more = {
        "null": pa.nulls(count), "dictionary": pa.array(["a"] * count).dictionary_encode(),
        "large": pa.array(["b"] * count, pa.large_string()), "bytes": pa.array([b"\xff\0"] * count),
        "late": pa.array([2**62] * count, pa.timestamp("ms")), "day": pa.array([-(2**31)] * count, pa.date32()),
        "duration": pa.array([1] * count, pa.duration("ns")), "nested": pa.array([[{"a": [{"b": None}]}]] * count),
        "numbers": pa.array([float("nan"), float("inf"), -0.0, 1e308, None, 5e-324, 0, 1]),
        "unsigned": pa.array([2**64 - 1] * count, pa.uint64()),
        "captions": pa.array([[]] * count, pa.list_(pa.string())),
        "map": pa.array([[("k", 1)]] * count, pa.map_(pa.string(), pa.int64())), "nul": pa.array(["\0"] * count),
    }  # fmt: skip
    known = {"url": [good(n) for n in IN_PARQUET], "caption": [GOOD[n] for n in IN_PARQUET]}
    pq.write_table(pa.table({**known, **more}), folder / "c.parquet")
    others: dict[str, dict[str, Any]] = {
        "d": {"url": pa.array([{"u": "x"}]), "caption": ["a"]}, "e": {"url": pa.nulls(3), "caption": pa.nulls(3)},
        "f": {"url": [b"\xff\xfe", b"http://e.test/bb.png", None], "caption": [1, None, 3]},
        "g": {"url": pa.array([], pa.string()), "caption": pa.array([], pa.string())},
        "h": {"url": [f"{SITE}/h.png"], "caption": ["y" * cell]},
    }  # fmt: skip
    for name, columns in others.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _sample(number: int) -> list[tuple[str, bytes]]:
    key, fields = f"{number:05d}", json.dumps({"url": good(number), "caption": GOOD[number]})
    return [(f"{key}.png", body(number)), (f"{key}.txt", GOOD[number].encode()), (f"{key}.json", fields.encode())]


def shards(folder: Path) -> None:
    first, second, third, fourth = ([_sample(number) for number in some] for some in IN_SHARDS)
    (folder / "0.tar").write_bytes(tar_bytes([each for made in first for each in made]))
    (folder / "1.tar").write_bytes(tar_bytes([made[kind] for kind in range(3) for made in second]))
    wrong = {"captions": [[[]], {"text": 1}, {"text": "\ud800"}, {"text": "ok \0 x"}], "url": "http://e.test/\0"}
    large = {"caption": "n of shard", "score": 10**350, "x": {"y": [None] * 1000}, "width": -1, "uid": "Z" * 32}
    odd = [
        packed(b"/abs.png", picture(1)), packed(b"../../p.png", picture(1)), packed(b"l.png", b"", b"2"),
        packed(b"dev.png", b"", b"3"), packed(b"sp.png", b"123", b"S"), packed(b"j.png", picture(5000)),
        packed(b"x", b"22 path=../../../x.png\n", b"x") + packed(b"y.png", picture(2)),
        packed(b"j.json", b"[" * 300_000), packed(b"k.png", picture(5001)),
        packed(b"k.json", json.dumps(wrong).encode()), packed(b"m.png", picture(5002)),
        packed(b"m.txt", b"\xff\xfe\0\0"),
        packed(b"n.png", picture(5003)),
        packed(b"n.json", json.dumps(large).encode()),
    ]  # fmt: skip
    whole = b"".join(packed(name.encode(), data) for made in third for name, data in made)
    (folder / "2.tar").write_bytes(b"".join(odd) + whole + bytes(header(b"huge.png", 2**33 - 1)))
    (folder / "3.tar").write_bytes(bytes(1024))
    (folder / "4.tar.gz").write_bytes(gzip.compress(tar_bytes([each for made in fourth for each in made])))
    (folder / "5.tar").write_bytes(tar_bytes(_sample(2))[:700])


def write(folder: Path, cell: int) -> list[dict[str, Any]]:
    """The files, and the sources that read them."""
    for kind in ("warc", "wat", "table", "shards"):
        (folder / kind).mkdir(parents=True)
    records = warc_records()
    for at in range(3):
        (folder / "warc" / f"{at}.warc.gz").write_bytes(zipped(*records[at::3]))
    (folder / "wat" / "0.wat.gz").write_bytes(zipped(*wat_records()))
    tables(folder / "table", cell)
    shards(folder / "shards")
    return [{"kind": kind, "paths": [str(folder / kind)]} for kind in ("warc", "wat", "table", "shards")]
