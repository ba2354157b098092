"""What growth.py times: made-up crawls with the stages they go through. Together they carry every stage and source.

core     what the core was measured by: text, exact and perceptual duplicates, concept match, a top fraction, balance
inputs   a crawl that comes by every source there is, through all that looks at one pair, text or site at a time
vectors  vectors that are made up, and all that reads them: score, head, clusters, quotas, evaluation sets
centres  vectors in a million clusters
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curation.settings import CurateSettings
from curation.sources import SOURCES
from curation.stage import Stage
from curation.stages import STAGES
from made_up.evaluation import written_set
from made_up.inputs import PART_PAIRS, MadeUp, numbered, written
from made_up.stages import WIDTH, Looks, MadeUpImageVector, MadeUpTextVector
from made_up.texts import WORDS, word

Plain = dict[str, Any]
_COARSE, _FINE = 96, 64  # clusters: more than meet in one place


def settings_of(name: str, folder: Path, pairs: int, address: str = "inline") -> CurateSettings:
    """The job of one set on so many pairs, its inputs made under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return SETS[name](folder, pairs, {"output": str(folder / "out"), "ray": {"address": address}, "keep": 0})


def core(folder: Path, pairs: int, plain: Plain) -> CurateSettings:
    stages = [
        {"kind": "caption_frequency", "max_pairs": 10},
        {"kind": "exact_duplicates", "by": ["pixels"]},
        {"kind": "perceptual_duplicates"},
        {"kind": "concept_match", "entries": _entries(folder)},
        {"kind": "top_fraction", "column": "quality", "fraction": 0.9},
        {"kind": "balance", "t": max(20, pairs // 2000)},
        {"kind": "balance", "target_pairs": max(1, pairs // 50)},
    ]
    return _made_up(folder, pairs, plain, [Looks(), *map(_stage, stages)], distinct=False)


def inputs(folder: Path, pairs: int, plain: Plain) -> CurateSettings:
    (folder / "blocked.txt").write_text("".join(f"images{site}.test\n" for site in range(5)))
    plain["sources"] = written(folder / "in", _parts(pairs))
    plain["stages"] = [
        {"kind": "opt_out"},
        {"kind": "block_list", "lists": [{"of": "domain", "path": str(folder / "blocked.txt")}]},
        {"kind": "image_decode"},
        {"kind": "image_size", "min_side": 32},
        {"kind": "one_of", "column": "format", "values": ["bmp", "tiff"], "except_for": True},
        {"kind": "site_boilerplate", "min_pairs": 30},
        {"kind": "caption_clean"},
        {"kind": "caption_rules"},
        {"kind": "text_statistics"},
        {"kind": "language"},
        {"kind": "word_list", "words": _entries(folder)},
        {"kind": "caption_minhash", "threshold": 0.8},
        {"kind": "function", "function": "made_up.functions:length", "inputs": ["captions.text"],
         "columns": {"length": "int64"}},
        {"kind": "generate", "name": "made-up",
         "backend": {"kind": "function", "function": "made_up.functions:describe"}},
        {"kind": "threshold", "column": "captions.words", "min": 2},
        {"kind": "quota", "by": "host", "counts": {"images7.test": pairs // 2000, "*": pairs}},
        {"kind": "sample", "fraction": 0.5},
    ]  # fmt: skip
    plain |= {"fetch": False, "placement": {"generate": {"batch": 4096}}}
    return CurateSettings.model_validate(plain)


def vectors(folder: Path, pairs: int, plain: Plain) -> CurateSettings:
    known = written_set(folder / "known", WIDTH)
    after = [
        {"kind": "clip_score"},
        {"kind": "head", "name": "beauty", "weights": _head(folder)},
        {"kind": "kmeans", "levels": [_COARSE, _FINE], "rounds": 3},
        {"kind": "reference_clusters", "path": str(known / "vectors.npy")},
        {"kind": "semantic_duplicates", "eps": 0.01},
        {"kind": "cluster_quota", "fraction": 0.8},
        {"kind": "decontaminate", "min_cosine": 0.99,
         "sets": [{"name": "known", "path": str(known), "vectors": str(known / "vectors.npy")}]},
    ]  # fmt: skip
    stages = [Looks(), MadeUpImageVector(), MadeUpTextVector(), *map(_stage, after)]
    return _made_up(folder, pairs, plain, stages, distinct=True)


def centres(folder: Path, pairs: int, plain: Plain) -> CurateSettings:
    clusters = _stage({"kind": "kmeans", "levels": [1000, 1000], "rounds": 3})
    return _made_up(folder, pairs, plain, [Looks(), MadeUpImageVector(), clusters], distinct=True)


SETS: dict[str, Callable[[Path, int, Plain], CurateSettings]] = {
    "core": core,
    "inputs": inputs,
    "vectors": vectors,
    "centres": centres,
}


def missing(settings: list[CurateSettings]) -> set[str]:
    """Stages and sources that none of these jobs has."""
    stages = {stage.kind for each in settings for stage in each.stages}
    return (set(STAGES) - stages) | (set(SOURCES) - {source.kind for each in settings for source in each.sources})


def _made_up(folder: Path, pairs: int, plain: Plain, stages: list[Stage], distinct: bool) -> CurateSettings:
    """Of parts, and with stages, that no recipe can name."""
    there = str(numbered(folder / "in", _parts(pairs)))
    plain |= {"sources": [{"kind": "warc", "paths": [there]}], "stages": [{"kind": "opt_out"}]}
    source = MadeUp(paths=(there,), distinct=distinct)
    return CurateSettings.model_validate(plain).model_copy(update={"sources": [source], "stages": stages})


def _parts(pairs: int) -> int:
    return max(1, pairs // PART_PAIRS)


def _stage(plain: Plain) -> Stage:
    return STAGES[plain["kind"]](**plain)


def _entries(folder: Path) -> str:
    (folder / "entries.json").write_text(json.dumps([word(number) for number in range(1, WORDS + 1)]))
    return str(folder / "entries.json")


def _head(folder: Path) -> str:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(1)
    weights = {"layers.weight": rng.normal(size=(1, WIDTH)).astype(np.float32), "layers.bias": np.zeros(1, np.float32)}
    save_file(weights, folder / "head.safetensors")
    return str(folder / "head.safetensors")
