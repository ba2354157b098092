"""Pictures as vectors: those of the model, whoever stands beside them; what cannot work is refused before any work."""

import numpy as np
import pytest

from curation.methods.vectors.stored import matrix
from curation.stage_order import check_stages
from curation.stages.clip_image_vector import ClipImageVector
from pipeline.errors import RecipeError
from tests.helpers import cuts, tiny_clip
from tests.helpers.lanes import sampled
from tests.helpers.pairs import encoded, pair, pairs_of, picture

BODIES = [encoded(picture(seed, (40 + seed, 50))) for seed in range(23)]
PAIRS = pairs_of(*[pair(f"p{i}", image_sha256=f"{i:064x}") for i in range(len(BODIES))])


def vectors(stage, bodies=BODIES, batch=None, shift=0) -> np.ndarray:
    return matrix(cuts.measure(stage, PAIRS, bodies, batch, shift)[0].column("image_vector"))[0]


def test_vectors_are_those_of_open_clip(tmp_path):
    import open_clip
    import torch

    files = tiny_clip.saved(tmp_path)
    model = open_clip.CustomTextCLIP(**tiny_clip.CONFIG).eval()
    model.load_state_dict(torch.load(files["pretrained"]))
    look = open_clip.image_transform(32, is_train=False)
    pixels = [look(picture(seed, (40 + seed, 50)).convert("RGB")) for seed in range(23)]
    with torch.no_grad():
        wanted = model.encode_image(torch.stack(pixels), normalize=True).numpy()
    found = vectors(ClipImageVector(**files, chunk=4))
    assert np.abs(found - wanted).max() < 1e-3
    assert np.abs(np.linalg.norm(found.astype(np.float32), axis=1) - 1).max() < 2e-3


@pytest.mark.parametrize(("batch", "shift"), sampled([(1, 0), (3, 1), (7, 5), (64, 0)], 0, 2))
def test_neighbours_change_no_bit(batch, shift):
    stage = ClipImageVector(**tiny_clip.kept(), chunk=8)
    assert np.array_equal(vectors(stage), vectors(stage, batch=batch, shift=shift))
    assert np.array_equal(vectors(stage)[::-1], vectors(stage, BODIES[::-1]))


def test_what_does_not_decode_goes_for_the_decoders_reason():
    bodies = [BODIES[0], b"GIF89a", *BODIES[2:]]
    found = cuts.measure(ClipImageVector(**tiny_clip.kept()), PAIRS, bodies)[0]
    reasons = found.column("reason").to_pylist()
    assert reasons[1] and reasons.count(None) == 22


def test_the_content_of_the_weights_names_the_vectors(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.mkdir(), other.mkdir()
    first = ClipImageVector(**tiny_clip.saved(one))
    assert first.digest() == ClipImageVector(**tiny_clip.saved(other)).digest()
    assert first.digest() != ClipImageVector(**tiny_clip.saved(one, seed=1)).digest()
    assert first.adds[0].type.list_size == 16


def test_weights_of_another_model_or_none_are_refused_before_any_work(tmp_path):
    files = tiny_clip.saved(tmp_path)
    wider = tmp_path / "wider"
    wider.mkdir()
    other = tiny_clip.saved(wider, embed_dim=24)
    for settings in (
        {**files, "pretrained": other["pretrained"]},
        {**files, "pretrained": str(tmp_path / "gone.pt")},
        {**files, "pretrained": "no_tag"},
        {"model": "ViT-no", "pretrained": files["pretrained"]},
    ):
        with pytest.raises(RecipeError):
            check_stages([ClipImageVector(**settings)])
    check_stages([ClipImageVector(**files)])
