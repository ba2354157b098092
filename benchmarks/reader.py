"""How fast are pairs read? clipmill's reader against a plain webdataset pipeline on the same shards.

    python benchmarks/reader.py                         # synthetic JPEGs, made in a temporary folder
    python benchmarks/reader.py --data runs/demo/data   # any curated dataset

Both decode, crop, resize and tokenize with the same functions, in the same number of processes, one thread each. They
take turns; medians and their ratio are printed. What differs: webdataset streams whole tars through a shuffle buffer;
clipmill reads each pair by its index, checks its checksum, and serves an order that any step can be resumed from.
"""

import argparse
import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image

from pipeline.contract.manifest import Manifest
from pipeline.contract.pairs import Pair
from pipeline.contract.shards import write_shard
from training.reader.captions.first import First
from training.reader.images import ImageSettings, train_image
from training.reader.pairs import open_pairs
from training.reader.reader import Reader
from training.reader.settings import ReaderSettings
from training.towers.settings import ModelSettings
from training.towers.tokenizer import Tokenizer

TEXT = {"context_length": 32, "vocab_size": 49408}
SUFFIXES = ("jpg", "png", "webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a curated dataset; default: synthetic")
    parser.add_argument("--pairs", type=int, default=4096, help="pairs read in a round, and made when synthetic")
    parser.add_argument("--size", type=int, default=64, help="pixels of the model")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=0, help="reading processes; 0: the main process")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or make_synthetic(folder, args.pairs)
        bench(data, args)


def bench(data: str, args: argparse.Namespace) -> None:
    tokenize = Tokenizer(ModelSettings(config={"embed_dim": 8, "vision_cfg": {}, "text_cfg": TEXT}))
    image = ImageSettings(resize="squash", crop_scale=(0.9, 1.0))
    steps = args.pairs // args.batch
    sides: dict[str, Callable[[], Iterator[int]]] = {
        "clipmill": lambda: clipmill_rows(data, image, tokenize, args, steps),
        "webdataset": lambda: webdataset_rows(data, image, tokenize, args, steps),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds + 1):
        for name in sorted(sides, reverse=bool(number % 2)):
            rate = timed(sides[name]())
            if number:  # the first round warms caches and imports
                rates[name].append(rate)
                print(f"round {number}: {name:10} {rate:8.0f} pairs/s", flush=True)
    ours, theirs = (statistics.median(rates[name]) for name in sides)
    print(f"{args.size} px, {args.workers} workers, {steps * args.batch} pairs a round, median of {args.rounds}:")
    print(f"clipmill {ours:.0f} pairs/s, webdataset {theirs:.0f} pairs/s, ratio {ours / theirs:.2f}")


def timed(batches: Iterator[int]) -> float:
    """Rows per second from asking for the first batch to having the last one."""
    started = time.perf_counter()
    rows = sum(batches)
    return rows / (time.perf_counter() - started)


def clipmill_rows(
    data: str, image: ImageSettings, tokenize: Tokenizer, args: argparse.Namespace, steps: int
) -> Iterator[int]:
    settings = ReaderSettings(workers=args.workers, threads=1, max_bad_fraction=1.0)
    reader = Reader(
        open_pairs([data]), settings, seed=0, global_batch=args.batch, image=image, image_size=args.size,
        captions=First(), tokenize=tokenize,
    )  # fmt: skip
    for _, batch in reader.batches(0, steps):
        yield batch.rows


def webdataset_rows(
    data: str, image: ImageSettings, tokenize: Tokenizer, args: argparse.Namespace, steps: int
) -> Iterator[int]:
    def prepared(sample: dict) -> dict:
        data = next(sample[suffix] for suffix in SUFFIXES if suffix in sample)
        try:
            pixels = train_image(data, image, args.size, 0, 0, sample["__key__"])
        except ValueError:
            pixels = np.zeros((3, args.size, args.size), np.uint8)
        return {"image": pixels, "text": sample["txt"].decode()}

    def collated(samples: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(np.stack([sample["image"] for sample in samples]))
        return pixels, tokenize([sample["text"] for sample in samples])

    tars = sorted(str(path) for path in Path(data).glob("*.tar"))
    dataset = webdataset.WebDataset(tars, resampled=True, shardshuffle=False).shuffle(1000)
    dataset = dataset.map(prepared).batched(args.batch, collation_fn=collated, partial=False)
    options = {"prefetch_factor": 2} if args.workers else {}
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=args.workers, **options)
    iterator = iter(loader)
    for _ in range(steps):
        yield len(next(iterator)[0])


def make_synthetic(folder: str, count: int) -> str:
    """`count` JPEGs of 320 x 240 with smooth colours and some grain, in shards of 1,024."""
    rng = np.random.default_rng(0)

    def pairs(first: int, last: int) -> Iterator[Pair]:
        for number in range(first, last):
            coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC)).astype(np.int16)
            pixels += rng.integers(-8, 8, pixels.shape, dtype=np.int16)
            out = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
            data = out.getvalue()
            meta = {
                "uid": hashlib.md5(str(number).encode()).hexdigest(), "sha256": hashlib.sha256(data).hexdigest(),
                "width": 320, "height": 240,
                "captions": [{"text": f"a picture of thing {number} and another", "source": "alt"}],
            }  # fmt: skip
            yield Pair(meta["uid"], data, "jpg", meta)

    starts = range(0, count, 1024)
    shards = [write_shard(folder, n, pairs(at, min(at + 1024, count))) for n, at in enumerate(starts)]
    Manifest(name="synthetic", num_pairs=count, shards=shards).save(folder)
    return folder


if __name__ == "__main__":
    main()
