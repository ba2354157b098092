"""The score of a caption is the cosine of two vectors; null where one is missing; written captions are gated by it."""

import io
import json
import math
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.methods.vectors.clip_model import as_column
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages.clip_score import ClipScore
from curation.table import captions
from tests.helpers import cuts, small_crawl, tiny_clip
from tests.helpers.lanes import sampled
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


TEXTS = ["a red boat", "two tall trees", "a city at night", "snow on a hill"]


def cosines_of(folder, pairs) -> dict[tuple[str, str], float]:
    """(uid, text) -> cosine, by open_clip alone."""
    import open_clip
    import torch

    model = open_clip.CustomTextCLIP(**tiny_clip.CONFIG).eval()
    model.load_state_dict(torch.load(tiny_clip.saved(folder)["pretrained"]))
    look, words = open_clip.image_transform(32, is_train=False), open_clip.SimpleTokenizer(context_length=12)
    found = {}
    with torch.no_grad():
        for uid, (body, side) in pairs.items():
            image = model.encode_image(look(Image.open(io.BytesIO(body)).convert("RGB"))[None], normalize=True)
            for text in {*TEXTS, *(each["text"] for each in side["captions"])}:
                found[uid, text] = float(image @ model.encode_text(words([text]), normalize=True).T)
    return found


def pairs_in(output) -> dict[str, tuple[bytes, dict]]:
    found: dict[str, dict[str, bytes]] = {}
    for path in output.glob("*.tar"):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                found.setdefault(name.split(".")[0], {})[name.split(".")[1]] = tar.extractfile(name).read()
    sides = {key: json.loads(members.pop("json")) for key, members in found.items()}
    bodies = {key: next(members[name] for name in members if name != "txt") for key, members in found.items()}
    return {side["uid"]: (bodies[key], side) for key, side in sides.items()}


@pytest.mark.parametrize("gate", sampled(["threshold", "top_fraction"], 1))
def test_a_generated_caption_that_fits_its_picture_badly_goes_with_a_reason_and_the_originals_stay(tmp_path, gate):
    clip = tiny_clip.saved(tmp_path)
    four = {"kind": "function", "function": "tests.helpers.captioner:four", "model": "four"}
    told = {"kind": "generate", "name": "m", "backend": four}
    vectors = [{"kind": "clip_image_vector", **clip}, {"kind": "clip_text_vector", **clip}]
    before = [{"kind": "image_decode"}, told, *vectors, {"kind": "clip_score"}]

    def made(name, *more, **settings):
        plain = {
            "sources": [{"kind": "warc", "paths": small_crawl.write(tmp_path / "crawl", small_crawl.records(24))}],
            "stages": [*before, *more], "output": str(tmp_path / name), "pool": str(tmp_path / "pool"),
            "ray": {"address": "inline"}, **settings,
        }  # fmt: skip
        curate(CurateSettings.model_validate(plain), name="x", seed=0, quiet=True)
        return pairs_in(tmp_path / name)

    whole = made("whole")
    cosines = cosines_of(tmp_path, whole)
    ranked = sorted(((cosines[uid, text], uid, text) for uid in whole for text in TEXTS), reverse=True)
    values = sorted({value for value, _, _ in ranked})
    gaps = [(after - first, (after + first) / 2) for first, after in zip(values, values[1:], strict=False)]
    cut = max(gaps[len(gaps) // 3 : -len(gaps) // 3])[1]  # far from every value: the oracle rounds in another way
    fits = {(uid, text) for value, uid, text in ranked if value > cut}
    stage = {"column": "captions.score", "sources": ["caption:m"]}
    if gate == "threshold":
        stage |= {"kind": "threshold", "min": cut}
    else:
        stage |= {"kind": "top_fraction", "keep": len(fits), "per": "caption"}
    gated = made("gated", stage)
    assert gated.keys() == whole.keys() and len(whole) > 8 and 0 < len(fits) < len(ranked)
    for uid, (_, side) in gated.items():
        written = {each["text"] for each in side["captions"] if each["source"] == "caption:m"}
        assert written == {text for text in TEXTS if (uid, text) in fits}
        own = [each["text"] for each in side["captions"] if each["source"] != "caption:m"]
        assert own == [each["text"] for each in whole[uid][1]["captions"] if each["source"] != "caption:m"] != []
        assert all(abs(each["score"] - cosines[uid, each["text"]]) < 2e-3 for each in side["captions"])
    summary = json.loads((tmp_path / "gated/summary.json").read_text())["stages"]
    [drops] = [each["caption_drops"] for each in summary if each["kind"] == gate]
    assert drops == {"below" if gate == "threshold" else "below_fraction": len(ranked) - len(fits)}
    cut_otherwise = made("again", stage, buckets=8)
    assert cut_otherwise == gated
