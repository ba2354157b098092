"""What curation gains, with its spread: the `clipart` recipe against the raw crawl, several seeds, paired by query.

    CLIPART=../shared/data python benchmarks/curation_gain.py [--seeds 3] [--folder runs/curation_gain] [words ...]

The raw arm keeps every pair whose image decodes (`image_decode` alone); all else is the same: model, steps, batch,
seed. Each arm of each seed is `clipmill curate`, then `clipmill train`; what is done is kept in the folder, so that the
same command goes on. `words` are overrides for both arms (`train.steps=80`).

A score is the mean of both directions' R@10: the share of queries of the retrieval set whose match is among the first
ten. One score of n queries has a standard error of about sqrt(p (1 - p) / n) from the choice of queries alone, and
seeds differ by as much again; so arms are compared within a seed, query by query.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from pipeline import recipe as recipes
from training.evals.model import Model
from training.evals.ranking import spread_ranks
from training.evals.retrieval import Retrieval
from training.ranks.peers import Peers
from training.score import checkpoint_at, load_weights
from training.settings import EvalSettings, TrainSettings

ARMS = {"curated": [], "raw": ["curate.stages=[{kind: image_decode}]"]}
TOP = 10
RESAMPLES = 10_000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--folder", type=Path, default=Path("runs/curation_gain"))
    asked.add_argument("words", nargs="*", help="overrides for both arms")
    given = asked.parse_args()
    if "CLIPART" not in os.environ:
        sys.exit("curation_gain: set CLIPART to the folder that holds crawl/ and eval/")
    hits = {}
    for seed in range(given.seeds):
        for arm in ARMS:
            hits[arm, seed] = scored(given.folder / f"{arm}-{seed}", arm, seed, given.words)
            print(f"seed {seed} {arm:8} {told(hits[arm, seed])}", flush=True)
    report(hits, given.seeds)


def scored(folder: Path, arm: str, seed: int, words: list[str]) -> dict[str, list[bool]]:
    """{"i2t", "t2i"}: for each query, whether its match is among the first ten."""
    kept = folder / "hits.json"
    if not kept.exists():
        overrides = [
            f"seed={seed}", f"curate.output={folder}/data", f"train.data=[{folder}/data]",
            f"train.output={folder}/train", "train.eval.every_steps=null", *ARMS[arm], *words,
        ]  # fmt: skip
        for command in ("curate", "train"):
            clipmill = str(Path(sys.executable).with_name("clipmill"))
            subprocess.run([clipmill, command, "clipart", *overrides], check=True, stderr=subprocess.DEVNULL)
        kept.write_text(json.dumps(query_hits(recipes.load("clipart", overrides))))
    return json.loads(kept.read_text())


def query_hits(recipe: recipes.Recipe) -> dict[str, list[bool]]:
    """Scores the newest checkpoint as `clipmill eval` does, keeping every query's outcome."""
    train, peers = recipe.section("train", TrainSettings), Peers.alone()
    towers = train.towers(recipe.seed)
    load_weights(towers, checkpoint_at(train.output_path, peers))
    towers.eval()

    @torch.no_grad()
    def features(images: torch.Tensor | None, tokens: torch.Tensor | None) -> tuple:
        return towers(images, tokens)

    model = Model(features, towers, train.image, peers, 256)
    one = next(s for s in recipe.section("eval", EvalSettings).sets if isinstance(s, Retrieval))
    image, text = one.features(model)
    ranks = {"i2t": spread_ranks(model, image, text), "t2i": spread_ranks(model, text, image)}
    return {way: (found < TOP).tolist() for way, found in ranks.items()}


def score(hits: dict[str, list[bool]]) -> float:
    return statistics.mean(statistics.mean(map(float, found)) for found in hits.values())


def told(hits: dict[str, list[bool]]) -> str:
    ways = ", ".join(f"{way} R@{TOP} {statistics.mean(map(float, found)):.3f}" for way, found in hits.items())
    return f"{ways}, mean {score(hits):.3f}"


def report(hits: dict[tuple[str, int], dict[str, list[bool]]], seeds: int) -> None:
    """Means and spread of each arm, then the paired difference: by seed, and by resampling seeds and queries."""
    for arm in ARMS:
        values = [score(hits[arm, seed]) for seed in range(seeds)]
        print(f"{arm:8} mean {statistics.mean(values):.3f}, standard deviation between seeds {deviation(values):.3f}")
    gains = [score(hits["curated", seed]) - score(hits["raw", seed]) for seed in range(seeds)]
    error = deviation(gains) / math.sqrt(seeds)
    low, high = interval(hits, seeds)
    print(f"curated - raw, paired by seed: {', '.join(f'{gain:+.3f}' for gain in gains)}")
    print(f"mean {statistics.mean(gains):+.3f}, standard error over seeds {error:.3f}")
    print(f"95% interval when seeds and queries are drawn again {RESAMPLES} times: {low:+.3f} to {high:+.3f}")


def deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def interval(hits: dict[tuple[str, int], dict[str, list[bool]]], seeds: int) -> tuple[float, float]:
    """The gain's 95% interval: the same drawn seeds and queries count for both arms."""
    draw = random.Random(0)
    # [seed, way]: of each query, +1 found by the curated arm alone, -1 by the raw arm alone
    changes = {
        (seed, way): torch.tensor(hits["curated", seed][way], dtype=torch.float64)
        - torch.tensor(hits["raw", seed][way], dtype=torch.float64)
        for seed in range(seeds)
        for way in ("i2t", "t2i")
    }
    generator = torch.Generator().manual_seed(0)
    gains = []
    for _ in range(RESAMPLES):
        drawn = [draw.randrange(seeds) for _ in range(seeds)]
        parts = []
        for way in ("i2t", "t2i"):
            num = len(changes[0, way])
            queries = torch.randint(0, num, (num,), generator=generator)
            parts += [changes[seed, way][queries].mean().item() for seed in drawn]
        gains.append(statistics.mean(parts))
    gains.sort()
    return gains[int(0.025 * RESAMPLES)], gains[int(0.975 * RESAMPLES)]


if __name__ == "__main__":
    main()
