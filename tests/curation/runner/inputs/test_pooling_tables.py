"""A table joined with a crawl that has its images: the same dataset from any cut, order and format of both."""

import csv
import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import framed, http, record, zipped

COUNT = 60
ROWS = [
    {"url": f"http://e.org/{at % 50}.png", "text": f'caption {at}, "so"\nto say é' if at % 9 else None, "score": at / 4}
    for at in range(COUNT)
]
RECORDS = [record(f"http://e.org/{at}.png", http(picture(at))) for at in range(45)]  # five are nowhere


def write(folder: Path, rows: list[dict], cut: int, kind: str) -> None:
    folder.mkdir(parents=True)
    for at in range(cut):
        mine, path = rows[at::cut], folder / f"{at}.{kind}"
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(mine), path, row_group_size=7)
        elif kind == "jsonl.gz":
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in mine).encode(), mtime=0))
        else:
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="," if kind == "csv" else "\t")
                writer.writerow(mine[0])
                writer.writerows(row.values() for row in mine)


def made(folder: Path, cut: int, kind: str, seed: int, **table: object):
    rng = random.Random(seed)
    write(folder / "tables", rng.sample(ROWS, len(ROWS)), cut, kind)
    records, crawl = rng.sample(RECORDS, len(RECORDS)), folder / "crawl"
    crawl.mkdir()
    for at in range(cut):
        data = zipped(*records[at::cut]) if seed % 2 else b"".join(map(framed, records[at::cut]))
        (crawl / f"{at}.warc.{'gz' if seed % 2 else 'zst'}").write_bytes(data)
    plain = {
        "sources": [
            {"kind": "table", "paths": [f"{folder}/tables/*"], **table},
            {"kind": "warc", "paths": [str(crawl)]},
        ],
        "stages": [{"kind": "threshold", "column": "extra.score", "min": 1.0}],
        "output": str(folder / "out"),
        "buckets": 2 ** (seed % 4),
        "fetch": False,
        "ray": {"address": "inline"},
    }
    return curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)


CUTS = [
    (1, "parquet", {}),
    (3, "parquet", {"range_bytes": 300}),
    (7, "csv", {"range_bytes": 100}),
    (1, "tsv", {"range_bytes": 77}),
    (3, "jsonl.gz", {}),
]


@pytest.fixture(scope="module")
def told() -> tuple[int, dict[str, int]]:
    """By a plain loop: the pairs that stay, and why the others go. A url that stands twice has the smaller `extra`."""
    urls: dict[str, list[dict]] = {}
    for row in ROWS:
        urls.setdefault(row["url"], []).append(row)
    lost = sum(int(url.split("/")[-1].split(".")[0]) >= 45 for url in urls)
    has = {url: rows for url, rows in urls.items() if int(url.split("/")[-1].split(".")[0]) < 45}
    silent = {url for url, rows in has.items() if not any(row["text"] for row in rows)}
    extras = {url: min(json.dumps({"score": row["score"]}) for row in rows) for url, rows in has.items()}
    low = sum(json.loads(extra)["score"] < 1 for url, extra in extras.items() if url not in silent)
    return len(has) - len(silent) - low, {"image_missing": lost, "no_caption": len(silent), "below": low}


def test_the_dataset_is_the_same_from_any_cut_order_and_format(tmp_path, told):
    digests = set()
    for seed, (cut, kind, table) in enumerate(CUTS):
        manifest = made(tmp_path / str(seed), cut, kind, seed, **table)
        drops = {reason: count for stage in manifest.stages for reason, count in stage.drops.items()}
        assert (manifest.num_pairs, drops) == told, (cut, kind)
        digests.add(tuple(shard.sha256 for shard in manifest.shards))
    assert len(digests) == 1
