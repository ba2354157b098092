"""Captions as vectors: those of the model, whoever stands beside them."""

import numpy as np
import pytest

from curation.methods.vectors.stored import matrix
from curation.stages.clip_text_vector import ClipTextVector
from tests.helpers import cuts, tiny_clip
from tests.helpers.pairs import pair, pairs_of

TEXTS = [f"a photo of {what} number {i}" for i, what in enumerate(["a dog", "", "two red cats", "Земля"] * 5)]
PAIRS = pairs_of(*[pair(f"p{i}", text) for i, text in enumerate(TEXTS)])


def vectors(stage, batch=None, shift=0, pairs=PAIRS) -> np.ndarray:
    return matrix(cuts.measure(stage, pairs, None, batch, shift)[0].column("text_vector"))[0]


def test_vectors_are_those_of_open_clip(tmp_path):
    import open_clip
    import torch

    files = tiny_clip.saved(tmp_path)
    model = open_clip.CustomTextCLIP(**tiny_clip.CONFIG).eval()
    model.load_state_dict(torch.load(files["pretrained"]))
    texts = [captions[0]["text"] for captions in PAIRS.column("captions").to_pylist()]
    with torch.no_grad():
        tokens = open_clip.SimpleTokenizer(context_length=12)(texts)
        wanted = model.encode_text(tokens, normalize=True).numpy()
    assert np.abs(vectors(ClipTextVector(**files, chunk=4)) - wanted).max() < 1e-3


@pytest.mark.parametrize(("batch", "shift"), [(1, 0), (3, 1), (64, 0)])
def test_neighbours_change_no_bit(batch, shift):
    stage = ClipTextVector(**tiny_clip.kept(), chunk=8)
    assert np.array_equal(vectors(stage), vectors(stage, batch, shift))
