"""A small crawl with every kind of trouble, as WARC records that can be dealt into any number of files in any order."""

import hashlib
import io
import json
import random
import uuid
from pathlib import Path

import numpy as np
from PIL import Image
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

WORDS = "red blue green dog cat house river mountain flower bridge boat lamp chair bird horse apple".split()
Record = tuple[str, int, str, bytes, str]  # url, status, content type, body, x-robots-tag


def picture(seed: int, kind: str = "PNG", side: int = 72) -> bytes:
    """A picture unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    out = io.BytesIO()
    options = {"quality": 90} if kind == "JPEG" else {}
    small.resize((side, side + seed % 7), Image.Resampling.BICUBIC).save(out, kind, **options)
    return out.getvalue()


def records(images: int = 48) -> list[Record]:
    """Pages of six images each. Every image number has its fate by its rest modulo 12; most are good."""
    found: list[Record] = []
    for page in range(0, images, 6):
        tags = []
        for number in range(page, min(page + 6, images)):
            url, more = _image(number)
            found += more
            caption = f"a {WORDS[number % 16]} {WORDS[(number // 5) % 16]} number {number}" if number % 12 != 4 else ""
            tags.append(f'<img src="{url}" alt="{caption if number % 12 != 7 else "one caption for all"}">')
        html = f"<html lang=en><body>{''.join(tags)}<img src=/gone-{page}.png alt='a lost dog'></body></html>"
        found.append((f"http://site.test/page-{page}.html", 200, "text/html", html.encode(), ""))
    return found


def _image(number: int) -> tuple[str, list[Record]]:
    fate = number % 12
    kind = ("JPEG", "PNG", "GIF", "WEBP")[number % 4]
    url = f"http://site.test/image-{number}.bin"
    if fate == 1:
        return url, [(url, 404, "text/html", b"not here", "")]
    if fate == 2:
        return url, [(url, 200, "image/png", b"<html>an error page</html>", "")]
    if fate == 3:
        return url, [(url, 200, "image/png", picture(number, "PNG")[:-200], "")]
    if fate == 5:
        return url, [(url, 200, "image/png", picture(number - 5, "JPEG"), "")]  # the same bytes at several urls
    if fate == 6:
        return url, [(url, 200, "image/png", picture(number, "PNG"), "noai")]
    if fate == 8:
        return url, [(url, 200, "image/png", picture(number, "PNG", 9), "")]
    body = picture(number - 2 if fate == 7 else number, "PNG" if fate == 7 else kind)
    return url, [(url, 200, f"image/{kind.lower()}", body, "")]


def write(folder: Path, rows: list[Record], files: int = 1, shuffled: int | None = None) -> list[str]:
    """Deals the records into `files` WARC files; `shuffled` is the seed of another order."""
    rows = list(rows)
    if shuffled is not None:
        random.Random(shuffled).shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for at in range(files):
        path = folder / f"crawl-{at}.warc.gz"
        with open(path, "wb") as out:
            writer = WARCWriter(out, gzip=True)
            for url, status, kind, body, robots in rows[at::files]:
                headers = [("Content-Type", kind), *([("X-Robots-Tag", robots)] if robots else [])]
                http = StatusAndHeaders(f"{status} X", headers, protocol="HTTP/1.1")
                name = f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>"
                fixed = {"WARC-Date": "2024-05-01T00:00:00Z", "WARC-Record-ID": name}  # same records, same bytes
                record = writer.create_warc_record(
                    url, "response", io.BytesIO(body), http_headers=http, warc_headers_dict=fixed
                )
                writer.write_record(record)
        paths.append(str(path))
    return paths


def recipe(paths: list[str], output: Path, entries: Path, **more: object) -> dict[str, object]:
    """The `curate` section that meets every kind of stage, as plain data."""
    entries.write_text(json.dumps(WORDS))
    stages = [
        {"kind": "opt_out"},
        {"kind": "image_decode"},
        {"kind": "image_size", "min_side": 32},
        {"kind": "caption_clean"},
        {"kind": "exact_duplicates"},
        {"kind": "caption_frequency", "max_pairs": 2},
        {"kind": "concept_match", "entries": str(entries)},
        {"kind": "balance", "t": 1.5},
    ]
    plain = {
        "sources": [{"kind": "warc", "paths": paths}],
        "stages": stages,
        "output": str(output),
        "buckets": 4,
        "emit": {"pairs_per_shard": 8},
        "ray": {"address": "inline"},
    }
    return {**plain, **more}


def outcome(output: Path) -> dict[str, str]:
    """Name -> sha256 of every file of a finished dataset that a training run may read."""
    files = [*output.glob("*.tar"), *output.glob("index/*"), output / "subset.npy", *output.glob("entry_counts.json")]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
