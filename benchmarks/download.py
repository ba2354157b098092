"""Downloading a table of urls: clipmill's fetch against img2dataset alone, in turns, on the same served table.

    python benchmarks/download.py ../shared/tools/replay_crawl.py ../shared/data/crawl [--rounds 5] [--threads 64]

Both write what they get with its hash: img2dataset's Downloader a WebDataset shard of the bytes as they came (no
resize, sha256, no caption), clipmill one slot of its download with commits, robots.txt and its refusals of addresses
inside. One process, the same number of threads and requests at a time, imports apart. The server is one more process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.fetch.engine import Engine
from curation.fetch.network import Network
from curation.fetch.settings import FetchSettings
from curation.job import make_job
from curation.runner.fetching import slots
from curation.runner.fetching.asking import WANTED, Plan
from curation.settings import CurateSettings
from curation.table import packs
from curation.table.uids import uid_of_url

AGENT = "clipmill-benchmark"


def ours(urls: list[str], folder: Path, threads: int) -> int:
    """How many images were had."""
    fetch = {"threads": threads, "host_connections": threads, "allow_networks": ["127.0.0.0/8"], "user_agent": AGENT}
    plain = {"sources": [{"kind": "warc", "paths": ["none"]}], "output": str(folder), "fetch": fetch}
    job = make_job(CurateSettings.model_validate(plain), 0, [])
    columns = [pa.array(map(uid_of_url, urls), pa.string()), pa.array(urls, pa.string()), pa.array([False] * len(urls))]
    table = pa.table(columns, schema=WANTED)
    packs.publish_cut(str(folder / "urls.pack"), table, np.zeros(len(urls), int), 1)
    plan = Plan(str(folder / "plan"), FetchSettings.model_validate(fetch), 1, 0, 0)
    told = slots.turn(job, plan, 0, 0, [str(folder / "urls.pack")], float("inf"))
    assert told["is_done"]
    return told["good"]


def theirs(urls: list[str], folder: Path, threads: int) -> int:
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter

    shard = str(folder / "shard.feather")
    table = pa.table({"url": urls})
    with pa.OSFile(shard, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    resizer = Resizer(256, "no", False, skip_reencode=True, disable_all_reencoding=True)
    download = Downloader(
        WebDatasetSampleWriter, resizer, threads, False, False, str(folder), ["url"], 10, len(urls), 5, "sha256", None,
        "jpg", 0, AGENT, ["noai", "noimageai"],
    )  # fmt: skip
    download.download_shard((0, shard))
    stats = pq.read_table(folder / "00000.parquet").column("status").to_pylist()
    return stats.count("success")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", type=Path)
    parser.add_argument("crawl", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--port", type=int, default=8900)
    args = parser.parse_args()
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    rows = pq.read_table(args.crawl / "urls.parquet").column("url").to_pylist()
    urls = [url.replace(":8900/", f":{args.port}/") for url in rows]
    command = [
        sys.executable,
        str(args.tool),
        "--port",
        str(args.port),
        *map(str, sorted(args.crawl.glob("*.warc.gz"))),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert "serving" in server.stdout.readline()
        Engine(Network(FetchSettings()))  # what it imports is apart
        rates: dict[str, list[float]] = {"img2dataset": [], "clipmill": []}
        for number in range(args.rounds):
            for name, run in (("img2dataset", theirs), ("clipmill", ours)):
                with tempfile.TemporaryDirectory() as folder:
                    began = time.perf_counter()
                    had = run(urls, Path(folder), args.threads)
                    rates[name].append(len(urls) / (time.perf_counter() - began))
                print(f"round {number}: {name} {rates[name][-1]:,.0f} urls/s, {had} images had", flush=True)
        for name, each in rates.items():
            print(f"{name}: median {statistics.median(each):,.0f} urls/s ({min(each):,.0f} to {max(each):,.0f})")
        ratios = [mine / other for mine, other in zip(rates["clipmill"], rates["img2dataset"], strict=True)]
        print(f"clipmill is {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")
    finally:
        server.kill()


if __name__ == "__main__":
    main()
