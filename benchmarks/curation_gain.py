"""What curation gains, method by method: the `clipart` recipe, the raw crawl, and the recipe with a method left out.

    CLIPART=../shared/data python benchmarks/curation_gain.py [--seeds 3] [--folder runs/curation_gain] [words ...]

The raw arm keeps every pair whose image decodes (`image_decode` alone). All arms of a seed have the same model, steps,
batch and seed, so that each sees the same number of samples; the model is a small one (MODEL), at 48 px, so that the
whole table costs two cores an hour. Each arm of each seed is `clipmill curate`, over one pool in which all measure
together, then `clipmill train`; what is done is kept in the folder, so that the same command goes on. `words` are
overrides for all arms (`train.steps=80`).

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
from pipeline.contract.manifest import Manifest
from training.evals.model import Model
from training.evals.ranking import spread_ranks
from training.evals.retrieval import Retrieval
from training.ranks.peers import Peers
from training.score import checkpoint_at, load_weights
from training.settings import EvalSettings, TrainSettings

CURATED, RAW = "curated", "raw"
LEFT_OUT = {
    "without image_size": ("image_size",),
    "without caption rules": ("caption_clean", "caption_rules"),
    "without site_boilerplate": ("site_boilerplate",),
    "without duplicates": ("exact_duplicates", "perceptual_duplicates"),
    "without caption_frequency": ("caption_frequency",),
    "without balance": ("balance",),
}
ARMS = (CURATED, RAW, *LEFT_OUT)
MODEL = (
    "launch.processes=1",
    "train.model.config={embed_dim: 128, vision_cfg: {image_size: 48, layers: 4, width: 128, patch_size: 8, "
    "head_width: 64}, text_cfg: {context_length: 20, vocab_size: 49408, width: 128, heads: 2, layers: 2}}",
    "train.batch.chunk=256",
)
TOP = 10
Hits = dict[tuple[str, int], dict[str, list[bool]]]  # (arm, seed) -> way -> of each query
RESAMPLES = 10_000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--folder", type=Path, default=Path("runs/curation_gain"))
    asked.add_argument("words", nargs="*", help="overrides for both arms")
    given = asked.parse_args()
    if "CLIPART" not in os.environ:
        sys.exit("curation_gain: set CLIPART to the folder that holds crawl/ and eval/")
    hits, pairs = {}, {}
    for seed in range(given.seeds):
        for arm in ARMS:
            folder = given.folder / f"{arm.replace(' ', '-')}-{seed}"
            hits[arm, seed], pairs[arm, seed] = scored(given.folder / "pool", folder, arm, seed, given.words)
            print(f"seed {seed} {arm:26} {pairs[arm, seed]:6} pairs, {told(hits[arm, seed])}", flush=True)
    report(hits, pairs, given.seeds)


def scored(pool: Path, folder: Path, arm: str, seed: int, words: list[str]) -> tuple[dict[str, list[bool]], int]:
    """{"i2t", "t2i"}: for each query, whether its match is among the first ten; and the pairs trained on."""
    kept = folder / "hits.json"
    if not kept.exists():
        overrides = [
            f"seed={seed}", f"curate.pool={pool}", f"curate.output={folder}/data", f"train.data=[{folder}/data]",
            f"train.output={folder}/train", "train.eval.every_steps=null", *stages(arm), *MODEL, *words,
        ]  # fmt: skip
        for command in ("curate", "train"):
            clipmill = str(Path(sys.executable).with_name("clipmill"))
            subprocess.run([clipmill, command, "clipart", *overrides], check=True, stderr=subprocess.DEVNULL)
        found = query_hits(recipes.load("clipart", overrides))
        kept.write_text(json.dumps({"hits": found, "pairs": Manifest.load(str(folder / "data")).num_pairs}))
    plain = json.loads(kept.read_text())
    return plain["hits"], plain["pairs"]


def stages(arm: str) -> list[str]:
    """The override that makes an arm of the recipe."""
    if arm == RAW:
        return ["curate.stages=[{kind: image_decode}]"]
    if arm == CURATED:
        return []
    plain = recipes.load("clipart").data["curate"]["stages"]
    return [f"curate.stages={json.dumps([stage for stage in plain if stage['kind'] not in LEFT_OUT[arm]])}"]


def query_hits(recipe: recipes.Recipe) -> dict[str, list[bool]]:
    """Scores the newest checkpoint as `clipmill eval` does, keeping every query's outcome."""
    train, peers = recipe.section("train", TrainSettings), Peers.alone()
    towers = train.towers(recipe.seed)
    load_weights(towers, checkpoint_at(train.output_path, peers))
    towers.eval()

    @torch.no_grad()
    def features(rows: dict[str, torch.Tensor], want: frozenset[str]) -> dict[str, torch.Tensor]:
        return towers(rows, want)

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


def report(hits: Hits, pairs: dict[tuple[str, int], int], seeds: int) -> None:
    """A row for each arm, in Markdown: its scores, and what the curated arm has over it, paired by seed and query."""
    print(f"\n| arm | pairs | R@{TOP} | between seeds | curated over it | standard error over seeds | 95% interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for arm in ARMS:
        values = [score(hits[arm, seed]) for seed in range(seeds)]
        mean = statistics.mean(pairs[arm, seed] for seed in range(seeds))
        row = f"| {arm} | {mean:,.0f} | {statistics.mean(values):.3f} | {deviation(values):.3f} |"
        if arm == CURATED:
            print(f"{row} | | |")
            continue
        gains = [score(hits[CURATED, seed]) - score(hits[arm, seed]) for seed in range(seeds)]
        low, high = interval(hits, arm, seeds)
        error = deviation(gains) / math.sqrt(seeds)
        print(f"{row} {statistics.mean(gains):+.3f} | {error:.3f} | {low:+.3f} to {high:+.3f} |")


def deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def interval(hits: Hits, arm: str, seeds: int, better: str = CURATED) -> tuple[float, float]:
    """The 95% interval of what `better` gains over an arm: the same drawn seeds and queries count for both."""
    draw = random.Random(0)
    # [seed, way]: of each query, +1 found by the better arm alone, -1 by the other arm alone
    changes = {
        (seed, way): torch.tensor(hits[better, seed][way], dtype=torch.float64)
        - torch.tensor(hits[arm, seed][way], dtype=torch.float64)
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
