"""Are wrong captions found without knowing the site? A filter network trained on the rest of the pool scores them.

    CLIPART=../shared/data python benchmarks/wrong_captions.py [--folds 2] [--folder runs/wrong_captions] [words ...]

The crawl is cut into folds by the file that an image was made from, so that no copy of a scored picture is trained on.
For each fold: `dfn-filter` without `site_boilerplate` (the one stage that looks at hosts) on the other folds, wrong
captions and all, `clipmill export`, and `dfn` without its last stage, which scores every caption of the fold. Nothing
that the network is given holds a host, so shuffling them would change no score. $CLIPART/crawl/truth.jsonl says who is
in which fold and, at the end, what each pair is; the network never sees it. `words` are overrides of the training
(`train.steps=80`). What is done is kept in the folder, so that the same command goes on.

Printed, for each kind that ought to score low: the area under the ROC curve against the pairs marked `clean`, the
chance that a clean pair scores higher than one of the kind, in the mean over folds (scores of two networks are not
compared), with a 95% interval from drawing the files anew, pairs of one file together; and the share of the kind among
the best `fraction` of the pool, which the recipe keeps.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import recipe as recipes
from pipeline.contract.dataset import open_dataset

KINDS = ("mismatch", "boilerplate")
FRACTIONS = (0.15, 0.3, 0.6)
RESAMPLES = 1_000


class Scored(NamedTuple):
    """A pair of the fold that was scored: its kind, the file it was made from, its best caption's score."""

    kind: str
    source: str
    score: float


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folds", type=int, default=2)
    asked.add_argument("--folder", type=Path, default=Path("runs/wrong_captions"))
    asked.add_argument("words", nargs="*", help="overrides of the training")
    given = asked.parse_args()
    if "CLIPART" not in os.environ:
        sys.exit("wrong_captions: set CLIPART to the folder that holds crawl/")
    crawl = Path(os.environ["CLIPART"]).resolve() / "crawl"
    found = [scored(given.folder, crawl, fold, given.folds, given.words) for fold in range(given.folds)]
    report(found)


def scored(folder: Path, crawl: Path, fold: int, folds: int, words: list[str]) -> list[Scored]:
    """The pairs of a fold with the scores of a network that was trained on the others."""
    home, pool = (folder / f"fold-{fold}").resolve(), (folder / "pool").resolve()
    truth = str(crawl / "truth.jsonl")
    shared = [f"curate.sources.0.paths=['{crawl}/*.warc.gz']", f"curate.pool={pool}"]
    clean = _stages("dfn-filter", without=("site_boilerplate",))
    clean.insert(1, _of_fold(truth, fold, folds, inside=False))
    clipmill("curate", "dfn-filter", *shared, f"curate.output={home}/clean", f"curate.stages={json.dumps(clean)}")
    outputs = [f"train.data=[{home}/clean]", f"train.output={home}/train"]
    clipmill("train", "dfn-filter", *shared, f"curate.output={home}/clean", *outputs, *words)
    clipmill("export", str(home / "train"), str(home / "model"))
    stages = _stages("dfn", without=("exact_duplicates", "perceptual_duplicates", "top_fraction"))
    stages = [stage | {"model": f"{home}/model"} if "model" in stage else stage for stage in stages]
    stages.insert(1, _of_fold(truth, fold, folds, inside=True))
    clipmill("curate", "dfn", *shared, f"curate.output={home}/scored", f"curate.stages={json.dumps(stages)}")
    known, pairs = _truth(truth), []
    data = open_dataset(str(home / "scored"))
    for number, shard in enumerate(data.shards):
        for pair in data.read_many(number, range(shard.num_pairs)):
            row, scores = known.get(pair.meta["url"]), [each["score"] for each in pair.meta["captions"]]
            if row is not None:
                pairs.append(Scored(row["kind"], row["source"], max(scores)))
    return pairs


def clipmill(*words: str) -> None:
    command = [str(Path(sys.executable).with_name("clipmill")), *words]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})


def _stages(recipe: str, without: tuple[str, ...]) -> list[dict[str, Any]]:
    return [stage for stage in recipes.load(recipe).data["curate"]["stages"] if stage["kind"] not in without]


def _of_fold(truth: str, fold: int, folds: int, inside: bool) -> dict[str, Any]:
    """A stage that drops the pairs outside of the fold, or those inside, and what the list does not know."""
    params = {"truth": truth, "fold": fold, "folds": folds, "inside": inside}
    named = {"function": f"{Path(__file__).stem}:place", "inputs": ["url"], "columns": {"fold": "int32"}}
    return {"kind": "function", **named, "params": params}


def place(rows: list[dict[str, str]], truth: str, fold: int, folds: int, inside: bool) -> list[dict[str, Any]]:
    """The fold of each pair, by the file that its image was made from: what `function` calls."""
    known, found = _truth(truth), []
    for row in rows:
        source = known.get(row["url"], {}).get("source")
        at = None if source is None else hashlib.blake2b(source.encode()).digest()[0] % folds
        found.append({"fold": at} if at is not None and (at == fold) == inside else {"reason": "other_fold"})
    return found


@cache
def _truth(path: str) -> dict[str, dict[str, str]]:
    rows = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
    return {row["url"]: row for row in rows}


def report(folds: list[list[Scored]]) -> None:
    for at, pairs in enumerate(folds):
        told = ", ".join(f"{kind} {sum(each.kind == kind for each in pairs)}" for kind in ("clean", *KINDS))
        print(f"fold {at}: {len(pairs)} pairs scored ({told})")
    for kind in KINDS:
        low, high = interval(folds, kind)
        areas = ", ".join(f"{area(pairs, kind):.3f}" for pairs in folds)
        mean = np.mean([area(pairs, kind) for pairs in folds])
        print(f"{kind}: ROC AUC against clean {mean:.3f}, 95% interval {low:.3f} to {high:.3f} (folds {areas})")
    for fraction in FRACTIONS:
        told = ", ".join(
            f"{kind} {np.mean([kept(pairs, kind, fraction) for pairs in folds]):.3f}" for kind in ("clean", *KINDS)
        )
        print(f"of each kind among the best {fraction:g} of all pairs: {told}")


def area(pairs: list[Scored], kind: str) -> float:
    """The share of (clean, kind) in which the clean one scores higher; of equal ones half."""
    clean = np.sort([each.score for each in pairs if each.kind == "clean"])
    others = np.array([each.score for each in pairs if each.kind == kind])
    below, not_above = np.searchsorted(clean, others, "left"), np.searchsorted(clean, others, "right")
    return float(1 - (below + not_above).mean() / 2 / len(clean))


def kept(pairs: list[Scored], kind: str, fraction: float) -> float:
    """The share of a kind among the best `fraction` of all."""
    cut = np.quantile([each.score for each in pairs], 1 - fraction)
    return float(np.mean([each.score >= cut for each in pairs if each.kind == kind]))


def interval(folds: list[list[Scored]], kind: str) -> tuple[float, float]:
    """95% of the mean area when the files of each fold are drawn anew."""
    draw, found = random.Random(0), []
    groups = []
    for pairs in folds:
        of_source: dict[str, list[Scored]] = defaultdict(list)
        for each in pairs:
            if each.kind in ("clean", kind):
                of_source[each.source].append(each)
        groups.append(list(of_source.values()))
    for _ in range(RESAMPLES):
        drawn = [[each for group in draw.choices(some, k=len(some)) for each in group] for some in groups]
        found.append(np.mean([area(pairs, kind) for pairs in drawn]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
