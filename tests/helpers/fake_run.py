"""Invented outputs of a whole run, in the shapes that curation, training and evaluation write; all counts reconcile."""

import base64
import io
import json
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw
from rich.console import Console

from pipeline.report.summary import summary_table

WORDS = (
    "red apple old house castle flag bird penguin computer tree music note heart chess piece arrow boat sun cat".split()
)
STAGES = (
    ("pool", 12000, {"image_missing": 640, "http_error": 96, "not_image": 31, "no_caption": 412}),
    ("opt_out", None, {"noai": 58, "noimageai": 11}),
    ("image_decode", None, {"truncated": 44, "bomb": 1}),
    ("image_size", None, {"too_small": 1204, "aspect": 88}),
    ("caption_clean", None, {"empty": 7}),
    ("caption_rules", None, {"too_few_words": 930, "file_name": 512, "boilerplate": 388, "url": 19}),
    ("caption_frequency", None, {"too_frequent": 702}),
    ("exact_duplicates", None, {"bytes": 611, "pixels": 240}),
    ("perceptual_duplicates", None, {"near": 318}),
    ("concept_match", None, {"no_match": 275}),
    ("balance", None, {"drawn_out": 1290}),
)


def picture(rng: random.Random) -> str:
    """A small coloured shape as a JPEG data URI."""
    image = Image.new("RGB", (112, rng.choice((84, 112, 140))), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 4)):
        x, y, r = rng.randint(10, 80), rng.randint(10, 60), rng.randint(12, 44)
        colour = tuple(rng.randint(20, 235) for _ in range(3))
        shape = rng.choice((draw.ellipse, draw.rectangle))
        shape((x, y, x + r, y + r), fill=colour, outline="black")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def noise(side: int) -> str:
    """A JPEG that compresses badly."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3)).save(out, "JPEG", quality=60)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def example(rng: random.Random, thumb: bool = True, detail: str | None = None) -> dict:
    uid = f"{rng.getrandbits(128):032x}"
    caption = " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 9)))
    url = f"http://clipart.test/img/{caption.replace(' ', '_')}.png"
    return {"uid": uid, "url": url, "caption": caption, "thumb": picture(rng) if thumb else None, "detail": detail}


def stages() -> list[dict]:
    rows, pairs, captions = [], STAGES[0][1], 15300
    for name, _, drops in STAGES:
        left = pairs - sum(drops.values())
        own = {
            "caption_rules": {"few_words": 310},
            "caption_clean": {"empty": 120},
            "exact_duplicates": {"added": -95},
        }.get(name, {})
        after = round(captions * left / pairs) - sum(own.values())
        own["pair_dropped"] = captions - after - sum(own.values())
        rows.append(
            {
                "name": name,
                "kind": name,
                "pairs_in": pairs,
                "pairs_out": left,
                "captions_in": captions,
                "captions_out": after,
                "drops": drops,
                "caption_drops": own,
            }
        )
        pairs, captions = left, after
    return rows


def histogram(edges: list[float], peak: float, cut: float | None) -> dict:
    before = [round(900 * math.exp(-((math.log(max(b, 1) / peak)) ** 2))) for b in edges[1:]]
    after = [round(n * 0.5) if cut is None or low >= cut else 0 for n, low in zip(before, edges, strict=False)]
    return {"edges": edges, "before": before, "after": after, "cut": cut}


def evidence(rng: random.Random) -> list[dict]:
    """What stages show of themselves."""
    low = [i / 32 for i in range(32)]
    scores = {
        "column": "captions.score", "of": "captions", "cuts": [0.28], "none": 3,
        "low": low, "high": [each + 1 / 32 for each in low],
        "before": [10 + i for i in range(32)], "after": [0 if i < 9 else 10 + i for i in range(32)],
    }  # fmt: skip
    judged = [
        example(rng, detail=f"captions.score 0.{i}") | {"kept": i > 3, "reason": "" if i > 3 else "below"}
        for i in range(8)
    ]
    told = [{"text": "as it was", "source": "alt"}, {"more": 3}]
    rewritten = {"text": "as it is", "source": "rewrite:x", "model": "m-1", "prompt_version": "v1", "score": 0.5}
    changed = example(rng) | {"before": told, "after": [*told, rewritten]}
    words = {"column": "captions.detected", "rows": [["en", 9, 4], ["", 1, 0]]}
    groups = [{"title": "just below 0.28", "examples": judged[:4]}, {"title": "cluster 7", "examples": judged[4:]}]
    return [
        {
            "stage": "caption_rules",
            "kind": "threshold",
            "scores": [scores],
            "groups": groups,
            "changed": [],
            "words": [],
        },
        {"stage": "caption_clean", "kind": "x", "changed": [changed]},
        {"stage": "language", "kind": "language", "words": [words]},
    ]


def summary(seed: int = 7) -> dict:
    rng = random.Random(seed)
    rows = stages()
    ranks = sorted({round(10 ** (i / 8)) for i in range(29)})
    head = [
        {"entry": rng.choice(WORDS) + f" {i}", "before": round(1400 / (i + 1) ** 0.8), "after": 0} for i in range(40)
    ]
    for item in head:
        item["after"] = min(item["before"], 60 + rng.randint(-9, 9))
    drops = {
        f"{name}.{reason}": [
            example(
                rng,
                thumb=name not in ("pool", "image_decode"),
                detail="3f9a1c0b" * 4 if "duplicates" in name else "31 x 18" if name == "image_size" else None,
            )
            for _ in range(min(count, 12))
        ]
        for name, _, reasons in STAGES
        for reason, count in reasons.items()
    }
    groups = [
        {
            "reason": f"{kind}.{reason}",
            "survivor": example(rng),
            "removed": [example(rng) for _ in range(rng.randint(1, 5))],
        }
        for kind, reason in [("exact_duplicates", "bytes"), ("perceptual_duplicates", "near")] * 5
    ]
    frequent = [
        ("gramastar", 1375),
        ("Home", 940),
        ("Next", 902),
        ("Part of the Flat Icon Collection", 411),
        ("IMG_0012.png", 77),
    ]
    return {
        "name": "demo",
        "recipe_digest": "8f2b1c0d9e7a6543",
        "manifest_digest": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "inputs": [
            {
                "part": f"{rng.getrandbits(64):016x}",
                "path": f"crawl-{i:05d}.warc.gz",
                "digest": f"{i:032x}",
                "bytes": 31_000_000 + 977 * i,
                "counts": {
                    "records": 4100 + i,
                    "pages": 820,
                    "mentions": 2950,
                    "occurrences": 2550,
                    "images": 1320 + i,
                    "images_stored": 1240,
                    "bad_records:truncated": 3 * i,
                    "bad_bodies:too_big": i % 2,
                    "bad_texts:bad_unicode": 2,
                },
            }
            for i in range(6)
        ],
        "occurrences": 15300,
        "images_stored": 11240,
        "pairs_in": 12000,
        "pairs_kept": rows[-1]["pairs_out"],
        "stages": rows,
        "kept_examples": [example(rng) for _ in range(48)],
        "drop_examples": drops,
        "duplicate_groups": groups,
        "evidence": evidence(rng),
        "sections": [
            {
                "stage": "balance",
                "title": "Balanced",
                "text": "As expected.",
                "columns": ["", "pairs"],
                "rows": [["kept", 7]],
            }
        ],
        "sources": [{"kind": "warc", "parts": 6, "bytes": 186_014_655, "counts": {"pages": 4920}}],
        "download": {
            "bytes": 5000,
            "passing": 2,
            "counts": {"urls": 90, "images_stored": 70, "failed:dns": 12, "failed:robots_txt": 8},
            "hosts": {".org": {"urls": 90, "images_stored": 70, "failed:dns": 12, "failed:robots_txt": 8}},
            "not_asked": ["robots_txt"],
        },
        "concepts": {
            "mode": "word",
            "num_entries": 117798,
            "num_matched_entries": 3120,
            "t": 60,
            "head": head,
            "curve": {
                "rank": ranks,
                "before": [1400 / r**0.8 for r in ranks],
                "after": [min(60, 900 / r**0.8) for r in ranks],
            },
            "histogram": {"edges": [1, 2, 4, 8], "before": [9, 4, 2], "after": [9, 5, 0], "gone": 1},
            "tail_share_before": 0.31,
            "tail_share_after": 0.58,
        },
        "languages": {"en": 9120, "de": 1210, "fr": 804, "es": 410, "": 300, "ja": 156},
        "caption_sources": {"alt": 9800, "title": 3020, "figcaption": 1204, "aria-label": 77},
        "top_captions_before": [{"text": text, "pairs": n} for text, n in frequent],
        "top_captions_after": [{"text": f"{w} clip art", "pairs": 20 - i} for i, w in enumerate(WORDS[:14])],
        "histograms": {
            "width": histogram([2.0**i for i in range(3, 13)], 200, 64),
            "height": histogram([2.0**i for i in range(3, 13)], 180, 64),
            "caption_words": histogram([float(i) for i in range(31)], 6, 2),
            "aspect": histogram([round(2 ** (i / 4), 3) for i in range(-12, 13)], 1.2, None),
        },
    }


def manifest(kept: int) -> dict:
    shards, left = [], kept
    while left:
        n = min(1000, left)
        shards.append(
            {
                "name": f"shard-{len(shards):06d}.tar",
                "pairs": n,
                "bytes": 23_456 * n,
                "sha256": "0" * 64,
                "index_sha256": "0" * 64,
            }
        )
        left -= n
    return {
        "format_version": 1,
        "name": "demo",
        "shards": shards,
        "num_pairs": kept,
        "stages": [],
        "recipe_digest": "8f2b1c0d9e7a6543",
    }


def metrics(steps: int = 160, seed: int = 3) -> list[dict]:
    rng = random.Random(seed)
    rows = []
    for step in range(steps):
        done = step / max(steps - 1, 1)
        accuracy = 0.004 + 0.3 * done**1.5
        rows.append(
            {
                "step": step,
                "samples": 256 * (step + 1),
                "loss": 5.545 - 2.4 * done**0.7 + rng.gauss(0, 0.05),
                "digest": f"{rng.getrandbits(64):016x}",
                "logit_scale": 14.3 + 6 * done,
                "lr": 5e-4 * min(1, step / 20) * (0.5 + 0.5 * math.cos(math.pi * done)),
                "samples_per_s": 96 + rng.gauss(0, 4),
                "grad_norm": 1 + 3 * math.exp(-6 * done) + abs(rng.gauss(0, 0.2)),
                "acc_i2t": accuracy + rng.gauss(0, 0.01) * done,
                "acc_t2i": accuracy * 0.95 + rng.gauss(0, 0.01) * done,
                "time_fetch_s": 0.08 + abs(rng.gauss(0, 0.02)),
                "time_pass1_s": 0.7,
                "time_loss_s": 0.05,
                "time_pass2_s": 1.6,
                "time_optimizer_s": 0.2 + (2.5 if step % 50 == 49 else 0),
                "memory_mb": 1810 + step * 0.1,
                "epoch": step * 256 / 4000,
            }
        )
    return rows


def results() -> dict:
    retrieval = {
        f"clipart-retrieval/{way}_r{k}": v
        for way, values in (("i2t", (0.08, 0.23, 0.34)), ("t2i", (0.07, 0.21, 0.31)))
        for k, v in zip((1, 5, 10), values, strict=True)
    }
    after = retrieval | {"clipart-classes/top1": 0.287, "clipart-classes/top5": 0.611}
    return {
        "checkpoint": "runs/demo/train/checkpoints/step-00000160",
        "step": 160,
        "before": {key: round(0.021 * (1 + i / 9), 4) for i, key in enumerate(after)},
        "results": after,
        "sets": [
            {
                "name": "clipart-retrieval",
                "kind": "retrieval",
                "images": 480,
                "texts": 480,
                "chance": {f"{way}_r{k}": k / 480 for way in ("i2t", "t2i") for k in (1, 5, 10)},
            },
            {
                "name": "clipart-classes",
                "kind": "zero_shot",
                "images": 600,
                "classes": 20,
                "chance": {"top1": 0.05, "top5": 0.25},
            },
        ],
    }


def evals() -> list[dict]:
    final = results()["results"]
    return [
        {"step": step, "eval": {key: value * step / 160 for key, value in final.items()}} for step in range(0, 161, 20)
    ]


def write_run(root: Path) -> dict[str, str]:
    """Writes a whole run below `root`; returns the three output folders as `write_report` takes them."""
    folders = {f"{part}_output": root / part for part in ("curate", "train", "eval")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    found = summary()
    write_json(folders["curate_output"] / "summary.json", found)
    write_json(folders["curate_output"] / "manifest.json", manifest(found["pairs_kept"]))
    write_lines(folders["train_output"] / "metrics.jsonl", metrics())
    write_lines(folders["train_output"] / "evals.jsonl", evals())
    write_json(folders["eval_output"] / "eval.json", results())
    return {key: str(folder) for key, folder in folders.items()}


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def printed(folders: dict[str, str | None]) -> str:
    """What `clipmill run` says of it on the terminal."""
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary_table(**folders, name="demo"))
    return console.export_text()
