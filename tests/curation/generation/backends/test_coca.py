"""A CoCa writes what a plain loop over its logits writes, each picture for itself, drawn by its seed alone."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from curation.generation.backends.coca import CocaBackend
from curation.generation.request import Request
from curation.stage import Context
from pipeline.errors import RecipeError
from tests.helpers import tiny_clip
from tests.helpers.warcs import png

CONFIG = {
    "embed_dim": 32,
    "multimodal_cfg": {"width": 32, "context_length": 12, "vocab_size": 49408, "layers": 2, "heads": 2,
                       "n_queries": 8, "attn_pooler_heads": 2},
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16,
                   "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
                 "embed_cls": True, "output_tokens": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("coca")
    (folder / "model.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(3)
    built = open_clip.CoCa(**CONFIG)
    with torch.no_grad():
        built.text_decoder.text_projection.normal_(std=2.0)  # open_clip leaves it as it was in memory
    torch.save(built.state_dict(), folder / "weights.pt")
    return {"model": str(folder / "model.json"), "pretrained": str(folder / "weights.pt")}


BODIES = [png(number) for number in range(1, 8)]


def answers(model, bodies=BODIES, seeds=None, **settings):
    backend = CocaBackend(**model, **({"chunk": 4, "max_tokens": 6} | settings))
    seeds = seeds or list(range(len(bodies)))
    both = enumerate(zip(bodies, seeds, strict=True))
    requests = [Request((), f"{at}", seed=seed, row={"image": body}) for at, (body, seed) in both]
    return [each[0] for each in backend.open(Context())(requests)]


def plainly(model, body, steps):
    """Greedy, one picture, the whole sequence anew for each token."""
    import open_clip
    import torch

    from pipeline.images.decoder import Picture

    built = open_clip.CoCa(**CONFIG)
    built.load_state_dict(torch.load(model["pretrained"], weights_only=True))
    built.eval()
    seen = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    transform = open_clip.image_transform(32, is_train=False, **seen)
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    image, tokens = transform(Picture(body).rgb("white"))[None], [tokenizer.sot_token_id]
    chances = []
    with torch.inference_mode():
        for _ in range(steps):
            logits = built(image, torch.tensor([tokens]), output_labels=False)["logits"][0, -1].double()
            chances.append(float(logits.log_softmax(0).max()))
            tokens.append(int(logits.argmax()))
            if tokens[-1] == tokenizer.eot_token_id:
                break
    return tokenizer.decode([t for t in tokens[1:] if t != tokenizer.eot_token_id]).strip(), float(np.mean(chances))


def test_the_likeliest_caption_is_that_of_a_plain_loop_with_its_score(model):
    for body, answer in zip(BODIES, answers(model), strict=True):
        text, score = plainly(model, body, 6)
        assert answer.text == text and answer.score == pytest.approx(score, abs=1e-4) and answer.tokens_out <= 6


def test_neighbours_and_order_change_no_caption(model):
    drawn = {"temperature": 1.0, "top_p": 0.9}
    whole = answers(model, **drawn)
    back = answers(model, BODIES[::-1], list(range(len(BODIES)))[::-1], **drawn)
    alone = [answers(model, [body], [seed], **drawn)[0] for seed, body in enumerate(BODIES)]
    assert [a.text for a in whole] == [a.text for a in back[::-1]] == [a.text for a in alone]


def test_another_seed_draws_another_caption_and_the_same_seed_the_same(model):
    seeds = list(range(8))
    one = answers(model, [BODIES[0]] * 8, seeds, temperature=1.5, top_p=1.0)
    assert len({each.text for each in one}) > 4
    again = answers(model, [BODIES[0]] * 8, seeds, temperature=1.5, top_p=1.0)
    assert [each.text for each in one] == [each.text for each in again]


def test_a_tiny_top_p_is_the_likeliest(model):
    assert [a.text for a in answers(model, temperature=1.0, top_p=1e-9)] == [a.text for a in answers(model)]


def test_a_picture_that_does_not_decode_has_failed_alone(model):
    found = answers(model, [BODIES[0], b"no picture", BODIES[1]], [0, 1, 2])
    assert [bool(each.failed) for each in found] == [False, True, False]


def test_a_clip_without_a_decoder_is_refused_before_any_work():
    with pytest.raises(RecipeError, match="has no text decoder"):
        CocaBackend(**tiny_clip.kept()).check("curate.stages.1.backend")


def _odd(mode: str, number: int, form: str = "PNG", **more) -> bytes:
    picture = Image.open(io.BytesIO(png(number))).convert("RGB").resize((45, 38))
    shades = picture.convert("L")
    made = {
        "LA": lambda: Image.merge("LA", (shades, shades)),
        "RGBA": lambda: Image.merge("RGBA", (*picture.split(), shades)),
        "I;16": lambda: Image.fromarray(np.asarray(shades).astype(np.uint16) * 257), "P": lambda: picture.quantize(9),
    }.get(mode, lambda: picture.convert(mode))()  # fmt: skip
    out = io.BytesIO()
    made.save(out, form, **more)
    return out.getvalue()


ODD = [
    _odd("CMYK", 1, "JPEG"), _odd("L", 2, "JPEG"), _odd("1", 3), _odd("LA", 4), _odd("RGBA", 5), _odd("P", 6),
    _odd("I;16", 7), _odd("P", 8, "GIF"), _odd("RGBA", 9, "WEBP"), _odd("P", 3, transparency=2), _odd("RGB", 4, "BMP"),
]  # fmt: skip


@pytest.mark.exhaustive
def test_pictures_in_odd_modes_have_captions_of_their_own_and_batches_of_any_size_say_the_same(model):
    bodies, drawn = [*ODD, b"none", *BODIES[:2]], {"temperature": 1.0, "chunk": 4}
    whole = answers(model, bodies, **drawn)
    assert [at for at, each in enumerate(whole) if each.failed] == [len(ODD)] and len({a.text for a in whole}) > 5
    for size in (1, 5):
        parts = [range(at, min(at + size, len(bodies))) for at in range(0, len(bodies), size)]
        found = [each for part in parts for each in answers(model, [bodies[n] for n in part], list(part), **drawn)]
        assert found == whole  # to the last bit of the score
