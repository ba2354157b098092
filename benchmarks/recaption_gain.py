"""What captions that something else wrote gain: the `clipart` recipe with a stage that writes one more caption a pair.

    CLIPART=../shared/data python benchmarks/recaption_gain.py [--seeds 3] [--writer coca] [words ...]

Two writers. `fuse_tags` is examples/fuse_tags.py, which knows no picture: it says in one form what a pair's texts and
its address say. So it shows what the machinery and the policies of training do with a second caption, not what a
captioner does. The evaluation's texts are titles with tags, the form that it writes: part of a gain may be that form.
`coca` sees the picture and nothing else: the recipe `coca` trained on the pairs of seed 0, exported, and asked about
the pictures of every seed, most of which it was trained on.

All arms of a seed are trained on the same pairs, for the same steps, by another caption policy each. Scores, the small
model and the pairing by seed and query are those of curation_gain.py; the steps are fewer, so that the whole table is
an hour of one core. What is done is kept in the folder, so that the same command goes on.

p is of a paired test over queries (Fisher, 1935): how often a gain as large comes about, either way, when of each query
it is drawn anew which arm's outcome is whose, all its seeds alike. It says nothing of other seeds: the interval does.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from curation_gain import MODEL, RESAMPLES, TOP, Hits, deviation, interval, query_hits, score, told

from pipeline import recipe as recipes

ORIGINAL = "originals alone"
ARMS = {
    ORIGINAL: {"kind": "weighted", "weights": {"original": 1}, "default": 0},
    "every caption as likely": {"kind": "uniform"},
    "half of them written": {"kind": "one_synthetic", "share": 0.5},
    "written alone": {"kind": "first_then", "at": 0},
    "from originals to written": {"kind": "one_synthetic", "share": [[0, 0], [1, 1]]},
}
SMALL = ("train.steps=120", "curate.ray.address=inline")
FUSE_TAGS = {
    "kind": "generate", "name": "fused", "role": "rewrite",
    "backend": {"kind": "function", "function": "examples.fuse_tags:fuse", "reads": ["url", "texts"]},
    "checks": {"repetition": False},
}  # fmt: skip
COCA = ("train.steps=240", "train.checkpoint.every_steps=80", "launch.processes=1")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--writer", choices=("fuse_tags", "coca"), default="fuse_tags")
    asked.add_argument("--folder", type=Path, help="default: runs/recaption_gain/WRITER")
    asked.add_argument("--arms", type=int, default=len(ARMS), help="of the policies the first few")
    asked.add_argument("words", nargs="*", help="overrides for all arms")
    given = asked.parse_args()
    if "CLIPART" not in os.environ:
        sys.exit("recaption_gain: set CLIPART to the folder that holds crawl/ and eval/")
    folder = given.folder or Path("runs/recaption_gain") / given.writer
    stage = coca_of(folder) if given.writer == "coca" else FUSE_TAGS
    hits: Hits = {}
    for seed in range(given.seeds):
        for arm in list(ARMS)[: given.arms]:
            hits[arm, seed] = scored(folder, arm, seed, stage, given.words)
            print(f"seed {seed} {arm:26} {told(hits[arm, seed])}", flush=True)
    report(hits, given.seeds)


def coca_of(folder: Path) -> dict[str, Any]:
    """The stage that asks a CoCa which was trained on the pairs of seed 0, with no written captions among them."""
    model, data, run = folder / "coca", folder / "data-of-coca", folder / "train-coca"
    if not model.exists():
        clipmill("curate", "clipart", "seed=0", f"curate.pool={folder}/pool", f"curate.output={data}", *SMALL[1:])
        clipmill("train", "coca", f"train.data=[{data}]", f"train.output={run}", *COCA)
        clipmill("export", str(run), str(model))
    backend = {"kind": "coca", "model": str(model)}
    return {"kind": "generate", "name": "seen", "role": "caption", "backend": backend}


def clipmill(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline.cli", *words], check=True, stderr=subprocess.DEVNULL)


def scored(folder: Path, arm: str, seed: int, stage: dict[str, Any], words: list[str]) -> dict[str, list[bool]]:
    """{"i2t", "t2i"}: for each query, whether its match is among the first ten. What is done is kept in the folder."""
    run, data = folder / f"{arm.replace(' ', '-')}-{seed}", folder / f"data-{seed}"
    kept = run / "hits.json"
    if not kept.exists():
        stages = [*recipes.load("clipart").data["curate"]["stages"], stage]
        overrides = [
            f"seed={seed}", f"curate.pool={folder}/pool", f"curate.output={data}", f"train.data=[{data}]",
            f"train.output={run}/train", "train.eval.every_steps=null", f"curate.stages={json.dumps(stages)}",
            f"train.captions={json.dumps(ARMS[arm])}", *MODEL, *SMALL, *words,
        ]  # fmt: skip
        for command in ("curate", "train"):
            clipmill(command, "clipart", *overrides)
        kept.write_text(json.dumps(query_hits(recipes.load("clipart", overrides))))
    return json.loads(kept.read_text())


def report(hits: Hits, seeds: int) -> None:
    """A row for each arm, in Markdown: its scores, and what it has over the originals alone, by seed and query."""
    gained = "over originals | standard error | 95% interval | p"
    print(f"\n| captions of training | R@{TOP} | between seeds | {gained} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for arm in dict.fromkeys(arm for arm, _ in hits):
        values = [score(hits[arm, seed]) for seed in range(seeds)]
        row = f"| {arm} | {statistics.mean(values):.3f} | {deviation(values):.3f} |"
        if arm == ORIGINAL:
            print(f"{row} | | | |")
            continue
        gains = [score(hits[arm, seed]) - score(hits[ORIGINAL, seed]) for seed in range(seeds)]
        low, high = interval(hits, ORIGINAL, seeds, better=arm)
        error = deviation(gains) / math.sqrt(seeds)
        p = paired_p(hits, arm, seeds)
        print(f"{row} {statistics.mean(gains):+.3f} | {error:.3f} | {low:+.3f} to {high:+.3f} | {p:.4f} |")


def paired_p(hits: Hits, arm: str, seeds: int) -> float:
    """Of the two-sided sign-flip test: the unit is a query of one direction, its seeds added up."""
    changes = []
    for way in ("i2t", "t2i"):
        by_seed = [
            torch.tensor(hits[arm, seed][way], dtype=torch.float64)
            - torch.tensor(hits[ORIGINAL, seed][way], dtype=torch.float64)
            for seed in range(seeds)
        ]
        changes.append(torch.stack(by_seed).sum(0))
    change_Q = torch.cat(changes)
    signs = torch.randint(0, 2, (RESAMPLES, len(change_Q)), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    as_large = (signs.double() @ change_Q).abs() >= change_Q.sum().abs()
    return (int(as_large.sum()) + 1) / (RESAMPLES + 1)


if __name__ == "__main__":
    main()
