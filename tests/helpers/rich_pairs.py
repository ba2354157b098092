"""Pairs with every column that a stage of the table reads: copies, near copies, shared captions, gaps."""

import functools
import hashlib

import numpy as np
import pyarrow as pa

from curation.methods.vectors.clip_model import as_column
from curation.stages.image_decode import ImageDecode
from curation.table import captions
from tests.helpers.pairs import encoded, measured, pair, pairs_of, picture

TEXTS = ["a red dog", "IMG_0001.jpg", "home", "ein Haus am See", "a cat &amp; a mouse", "12", "two boats on a river"]


@functools.cache
def rich(num: int = 48) -> tuple[pa.Table, list[bytes]]:
    """(pairs, the image of each)."""
    rng = np.random.default_rng(0)
    bodies, rows = {}, []
    for i in range(num):
        image = picture(i % 17, (60 + i % 3, 50))
        bodies[f"p{i}"] = encoded(image) if i % 2 else encoded(image, "JPEG", quality=90 - i % 5)
        texts = [TEXTS[at] for at in rng.integers(0, len(TEXTS), rng.integers(0, 4))]
        sha = hashlib.sha256(bodies[f"p{i}"]).hexdigest()
        tag = "noai" if i % 11 == 0 else ""
        row = pair(f"p{i}", *texts, image_sha256=sha, image_size=len(bodies[f"p{i}"]), x_robots_tag=tag)
        for at, caption in enumerate(row["captions"]):
            caption["page_url"] = f"http://host{i % 2}.test/folder{i % 3}/page{i}-{at % 2}.html"
        rows.append(row)
    pairs = pairs_of(*rows)
    images = [bodies[url.rsplit("/", 1)[1]] for url in pairs.column("url").to_pylist()]
    pairs = measured(ImageDecode(), pairs, images)
    return _with_rest(pairs, rng), images


def _with_rest(pairs: pa.Table, rng: np.random.Generator) -> pa.Table:
    num = captions.explode(pairs).num_rows
    pairs = pairs.append_column("image_vector", as_column(rng.normal(size=(pairs.num_rows, 8)).astype(np.float16), 8))
    near = [rng.permutation(5)[:3].tolist() if i % 9 else None for i in range(pairs.num_rows)]
    pairs = pairs.append_column("near_clusters", pa.array(near, pa.list_(pa.int32())))
    pairs = pairs.append_column("cluster", pa.array([each and each[0] for each in near], pa.int32()))
    far = [each and float(at % 4) / 4 for at, each in enumerate(near)]
    pairs = pairs.append_column("cluster_distance", pa.array(far, pa.float32()))
    entries = [sorted({int(e) for e in np.minimum(rng.zipf(1.5, rng.integers(0, 4)), 40)}) for _ in range(num)]
    scores = [None if value < 0.1 else float(np.round(value, 1)) for value in rng.random(num)]
    fields = {
        "concepts": pa.array(entries, pa.list_(pa.int32())),
        "text_vector": as_column(rng.normal(size=(num, 8)).astype(np.float16), 8),
        "score": pa.array(scores, pa.float32()),
        "detected": pa.array(rng.choice(["en", "de", "fr"], num).tolist()),
    }
    return captions.with_fields(pairs, pa.table(fields))
