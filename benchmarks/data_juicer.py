"""The same job by clipmill and by Data-Juicer, each as a whole command, in turns.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install py-data-juicer==1.6.1 "ray[default]" imagededup "pandas<3"
    python benchmarks/data_juicer.py --peer /tmp/peer/bin/dj-process                     # made-up photographs
    python benchmarks/data_juicer.py --peer /tmp/peer/bin/dj-process --shards FOLDER     # the pairs of WebDataset tars

Both decode every picture, drop small and long ones, captions that are short or of one word, and all but one of the
pictures that are the same: clipmill by equal pixels, Data-Juicer by equal perceptual hashes. clipmill reads tars and
writes tars, with its books and report; Data-Juicer reads a JSON line a pair beside the pictures as files, the form it
has for every executor, and writes JSON lines. Of each tool one process, the processes of one machine, and a local Ray;
Data-Juicer without a cache from one round to the next, and with its filters fused (a picture is loaded once for all of
them) where it can be. `--near` adds what Data-Juicer has not: `perceptual_duplicates`, near copies found and verified.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pictures import photographs
from rich.console import Console
from rich.table import Table

from pipeline.contract.manifest import Manifest

_SIDE, _ASPECT, _CHARS, _WORDS = 24, 4, 5, 2
_SIZE, _COPIES, _A_TAR = (512, 384), 0.1, 1_000
PLACES = {"one process": ("inline", 1), "processes": ("processes", 2), "Ray": ("local", 2)}
"""Name -> (`curate.ray.address`, processes of Data-Juicer)."""


def made_up(count: int) -> Iterator[tuple[str, bytes, str, str]]:
    """(key, picture, its ending, caption); one in ten pictures is another's copy."""
    distinct = round(count * (1 - _COPIES))
    pictures = photographs(_SIZE, distinct)
    for at in range(count):
        yield f"{at:06d}", pictures[at % distinct], "jpg", f"photograph number {at}" if at % 20 else "photo"


def of_shards(folder: Path) -> Iterator[tuple[str, bytes, str, str]]:
    for number, path in enumerate(sorted(folder.rglob("*.tar"))):
        samples: dict[str, dict[str, bytes]] = defaultdict(dict)
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                samples[key][ending] = tar.extractfile(member).read()
        for key, parts in samples.items():
            picture = next((ending for ending in ("jpg", "jpeg", "png", "webp") if ending in parts), None)
            if picture and "txt" in parts:
                yield f"{number:05d}-{key}", parts[picture], picture, parts["txt"].decode()


def lay_out(pairs: Iterator[tuple[str, bytes, str, str]], folder: Path) -> int:
    """Tars for clipmill; pictures and lines for Data-Juicer. How many pairs."""
    (folder / "pictures").mkdir(parents=True)
    (folder / "tars").mkdir()
    count, tar = 0, None
    with (folder / "pairs.jsonl").open("w") as lines:
        for key, picture, ending, caption in pairs:
            path = folder / "pictures" / f"{key}.{ending}"
            path.write_bytes(picture)
            lines.write(json.dumps({"text": caption, "images": [str(path)]}) + "\n")
            if count % _A_TAR == 0:
                if tar:
                    tar.close()
                tar = tarfile.open(folder / "tars" / f"{count // _A_TAR:05d}.tar", "w")  # noqa: SIM115
            tar.add(path, f"{key}.{ending}")
            text = path.with_suffix(".txt")
            text.write_text(caption)
            tar.add(text, text.name)
            text.unlink()
            count += 1
    if tar:
        tar.close()
    return count


def ours(folder: Path, place: str, near: bool) -> int:
    stages: list[dict[str, Any]] = [
        {"kind": "image_decode"},
        {"kind": "image_size", "min_side": _SIDE, "max_aspect": _ASPECT},
        {"kind": "caption_rules", "min_chars": _CHARS, "min_words": _WORDS, "min_letters": 0, "boilerplate": []},
        {"kind": "exact_duplicates"},
    ]
    recipe = {
        "name": "peer",
        "curate": {
            "sources": [{"kind": "shards", "paths": [str(folder / "tars")]}],
            "stages": [*stages, *([{"kind": "perceptual_duplicates"}] if near else [])],
            "output": str(folder / "out"),
            "ray": {"address": PLACES[place][0]},
        },
    }
    (folder / "ours.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    command(sys.executable, "-m", "pipeline.cli", "curate", str(folder / "ours.yaml"))
    return Manifest.load(str(folder / "out")).num_pairs


def theirs(folder: Path, place: str, peer: Path) -> int:
    on_ray = place == "Ray"
    process: list[dict[str, Any]] = [
        {"text_length_filter": {"min_len": _CHARS, "max_len": 1_000}},
        {"words_num_filter": {"min_num": _WORDS, "max_num": 256}},
        {"image_shape_filter": {"min_width": _SIDE, "min_height": _SIDE}},
        {"image_aspect_ratio_filter": {"min_ratio": 1 / _ASPECT, "max_ratio": _ASPECT}},
        {"ray_image_deduplicator" if on_ray else "image_deduplicator": {"method": "phash"}},
    ]
    config = {
        "project_name": "peer",
        "dataset_path": str(folder / "pairs.jsonl"),
        "export_path": str(folder / "out" / "kept.jsonl"),
        "np": PLACES[place][1],
        "executor_type": "ray" if on_ray else "default",
        "op_fusion": not on_ray,  # where 1.6.1 fuses the deduplicator, too, and fails: KeyError __dj__is_unique
        "use_cache": False,
        "process": process,
    }
    if on_ray:
        config["ray_address"] = "local"
    (folder / "theirs.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command(str(peer), "--config", str(folder / "theirs.yaml"), HF_HOME=str(folder / "out" / "hf"))
    kept = [path for path in (folder / "out" / "kept.jsonl",) if path.is_file()] or sorted(
        (folder / "out" / "kept.jsonl").glob("*.json*")
    )
    return sum(len(path.read_text().splitlines()) for path in kept)


def command(*words: str, **environment: str) -> None:
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="the command dj-process")
    parser.add_argument("--shards", type=Path, help="a folder of WebDataset tars, in place of made-up photographs")
    parser.add_argument("--pairs", type=int, default=4_000, help="made-up ones")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--near", action="store_true", help="clipmill finds near copies besides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("peer"))
    args = parser.parse_args()
    folder = args.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    pairs = lay_out(of_shards(args.shards) if args.shards else made_up(args.pairs), folder)
    table = Table("on", "clipmill", "kept", "Data-Juicer", "kept", "Data-Juicer / clipmill", title=f"{pairs:,} pairs")
    for place in args.places:
        ways = partial(ours, folder, place, args.near), partial(theirs, folder, place, args.peer)
        seconds: list[list[float]] = [[], []]
        kept = [0, 0]
        for _ in range(args.rounds):
            for tool, run in enumerate(ways):
                shutil.rmtree(folder / "out", ignore_errors=True)
                began = time.monotonic()
                kept[tool] = run()
                seconds[tool].append(time.monotonic() - began)
        mine, peers = (statistics.median(each) for each in seconds)
        ratio = statistics.median(other / own for own, other in zip(*seconds, strict=True))
        table.add_row(place, f"{mine:.1f} s", f"{kept[0]:,}", f"{peers:.1f} s", f"{kept[1]:,}", f"{ratio:.2f}")
    shutil.rmtree(folder)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
