"""A crawl that comes by every source there is, and a recipe in which every stage of the table stands."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.sources import SOURCES
from curation.stages import STAGES
from tests.helpers import small_crawl, tiny_clip, tiny_head, tiny_set
from tests.helpers.tars import tar_bytes
from tests.helpers.warcs import zipped
from tests.helpers.wats import envelope, wat

IMAGES = 96


def write(folder: Path, cut: int = 1, shuffled: int | None = None) -> list[dict[str, Any]]:
    """The `sources` of a recipe over the crawl as WARC, as WAT of some of its pages, as table, as shards and as files,
    each dealt into `cut` files (of files: folders) in some order."""
    folder.mkdir(parents=True)
    rows = small_crawl.records(IMAGES)
    pages = [row for row in rows if "/page-" in row[0]]
    links = [wat(url, envelope(url, body.decode())) for url, _, _, body, _ in pages[::2]]
    images = [(url, f"a {small_crawl.WORDS[at % 16]} seen again {at}", at % 7) for at, url in enumerate(_urls(rows))]
    samples = [_sample(number) for number in range(24)]
    loose = [_sample(number) for number in range(24, 36)]
    order = random.Random(shuffled)
    for some in (links, images, samples, loose) if shuffled is not None else ():
        order.shuffle(some)
    for at in range(cut):
        (folder / f"{at}.wat.gz").write_bytes(zipped(*links[at::cut]))
        (folder / f"{at}.tar").write_bytes(tar_bytes([member for each in samples[at::cut] for member in each]))
        for name, body in (member for each in loose[at::cut] for member in each):
            (folder / f"files/{at}").mkdir(parents=True, exist_ok=True)
            (folder / f"files/{at}" / name).write_bytes(body)
        with open(folder / f"{at}.csv", "w", newline="") as table:
            csv.writer(table).writerows([("url", "caption", "beauty"), *images[at::cut]])
    warcs = small_crawl.write(folder / "warc", rows, cut, shuffled)
    sources: list[dict[str, Any]] = [{"kind": "warc", "paths": warcs}, {"kind": "files", "paths": [f"{folder}/files"]}]
    sources += [
        {"kind": kind, "paths": [f"{folder}/*{suffix}"]}
        for kind, suffix in (("wat", ".wat.gz"), ("table", ".csv"), ("shards", ".tar"))
    ]
    assert {each["kind"] for each in sources} == set(SOURCES), "a new source: add it here"
    return sources


def _urls(rows: Sequence[small_crawl.Record]) -> list[str]:
    return [url for url, status, *_ in rows if "/page-" not in url and status == 200]


def _sample(number: int) -> list[tuple[str, bytes]]:
    """A picture of its own as img2dataset writes one; every third is one of the crawl's, re-encoded."""
    body = small_crawl.picture(300 + number if number % 3 else 12 * (number // 3), "JPEG", 72 if number % 3 else 96)
    says = {"url": f"http://shards.test/{number}.jpg", "caption": f"shard of a {small_crawl.WORDS[number % 16]}"}
    name = f"{number:05d}"
    return [
        (f"{name}.jpg", body),
        (f"{name}.txt", says["caption"].encode()),
        (f"{name}.json", json.dumps(says).encode()),
    ]


def stages(folder: Path) -> list[dict[str, Any]]:
    """Every stage, in an order that makes sense, none of which takes all."""
    folder.mkdir(parents=True)
    (folder / "entries.json").write_text(json.dumps(small_crawl.WORDS))
    (folder / "blocked.txt").write_text("http://site.test/image-9.bin\nhttp://site.test/image-21.bin\n")
    clip = tiny_clip.saved(folder)
    known = [(small_crawl.picture(number), "a picture") for number in range(33, IMAGES, 4)]
    found = [
        {"kind": "opt_out"},
        {"kind": "block_list", "lists": [{"of": "url", "path": str(folder / "blocked.txt")}]},
        {"kind": "image_decode"},
        {"kind": "image_size", "min_side": 32},
        {"kind": "one_of", "column": "format", "values": ["bmp", "tiff"], "except_for": True},
        {"kind": "caption_clean"},
        {"kind": "text_statistics"},
        {"kind": "language"},
        {"kind": "site_boilerplate", "min_pairs": 30},
        {"kind": "caption_rules"},
        {"kind": "exact_duplicates"},
        {"kind": "perceptual_duplicates"},
        {"kind": "caption_frequency", "max_pairs": 3},
        {"kind": "caption_minhash", "threshold": 0.8},
        {"kind": "function", "function": "tests.helpers.measurer:sizes", "columns": {"n": "int64", "even": "bool"}},
        {
            "kind": "generate",
            "backend": {"kind": "function", "function": "tests.helpers.captioner:describe"},
            "name": "x",
        },
        {"kind": "clip_image_vector", **clip},
        {"kind": "clip_text_vector", **clip},
        {"kind": "clip_score"},
        {"kind": "head", "name": "beauty", "weights": _head(folder)},
        {"kind": "threshold", "column": "beauty", "min": -100.0},
        {"kind": "top_fraction", "column": "captions.score", "fraction": 0.9},
        {"kind": "kmeans", "k": 5, "rounds": 3, "near": 2},
        {"kind": "reference_clusters", "path": tiny_set.vectors(tiny_clip.CONFIG["embed_dim"], 40)},
        {"kind": "semantic_duplicates", "eps": 0.0001, "probe": 2},
        {"kind": "cluster_quota", "fraction": 0.9},
        {"kind": "quota", "by": "host", "counts": {"site.test": 40, "*": 12}},
        {"kind": "sample", "fraction": 0.9},
        {"kind": "decontaminate", "sets": [{"name": "known", "path": str(tiny_set.write(folder / "set", known))}]},
        {"kind": "word_list", "words": str(folder / "entries.json")},
        {"kind": "concept_match", "entries": str(folder / "entries.json")},
        {"kind": "balance", "t": 3},
    ]
    assert {each["kind"] for each in found} == set(STAGES), "a new stage: add it here"
    return found


def _head(folder: Path) -> str:
    from safetensors.numpy import save_file

    save_file(tiny_head.layers(tiny_clip.CONFIG["embed_dim"], 5, 1), folder / "head.safetensors")
    return str(folder / "head.safetensors")


def recipe(sources: list[dict[str, Any]], found: list[dict[str, Any]], output: Path, **more: Any) -> dict[str, Any]:
    """The `curate` section, as plain data. Nothing is downloaded: what the crawl lacks is missing."""
    plain = {
        "sources": sources,
        "stages": found,
        "output": str(output),
        "fetch": False,
        "buckets": 4,
        "emit": {"pairs_per_shard": 8},
        "ray": {"address": "inline"},
    }
    return {**plain, **more}
