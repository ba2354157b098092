"""The score of a caption is the cosine of two vectors; null where one is missing."""

import math

import numpy as np
import pyarrow as pa

from curation.methods.vectors.clip_model import as_column
from curation.stages.clip_score import ClipScore
from curation.table import captions
from tests.helpers import cuts
from tests.helpers.pairs import pair, pairs_of


def test_scores_are_cosines():
    rng = np.random.default_rng(0)
    pairs = pairs_of(*[pair(f"p{i}", *["a", "b", "c"][: i % 4]) for i in range(40)])
    images = rng.normal(size=(40, 16)).astype(np.float16)
    texts = rng.normal(size=(captions.explode(pairs).num_rows, 16)).astype(np.float16)
    pairs = pairs.append_column("image_vector", as_column(images, 16))
    pairs = captions.with_fields(pairs, pa.table({"text_vector": as_column(texts, 16)}))
    found = captions.explode(captions.replace(pairs, cuts.measured(ClipScore(), pairs).captions))
    for row, score, text in zip(found["row"].to_pylist(), found["score"].to_pylist(), texts.tolist(), strict=True):
        image = images[row].tolist()
        dot = sum(a * b for a, b in zip(image, text, strict=True))
        assert abs(score - dot / math.hypot(*image) / math.hypot(*text)) < 1e-5


def test_a_missing_vector_has_no_score():
    pairs = pairs_of(pair("a", "x"), pair("b", "y"))
    kind = pa.list_(pa.float16(), 2)
    one = np.float16(1)
    pairs = pairs.append_column("image_vector", pa.array([None, [one, one]], kind))
    pairs = captions.with_fields(pairs, pa.table({"text_vector": pa.array([[one, one], [one, one]], kind)}))
    found = cuts.measured(ClipScore(), pairs).captions.to_pylist()
    assert found[0][0]["score"] is None and abs(found[1][0]["score"] - 1) < 1e-6
