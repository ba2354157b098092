"""The reader shows the views that the teachers saw, and hands over what they said of them."""

import functools
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline.contract.manifest import Manifest
from pipeline.contract.pairs import EXTS
from pipeline.contract.shards import write_shard
from pipeline.errors import DataError, RecipeError
from tests.helpers.datasets import make_pair
from tests.helpers.lanes import sampled
from tests.helpers.pairs import encoded
from tests.helpers.reinforced import IMAGE, SEED, settings_of, write
from tests.helpers.tiny_run import MODEL
from training.reader.captions.uniform import Uniform
from training.reader.images import ImageSettings, train_image
from training.reader.pairs import open_pairs
from training.reader.reader import Reader
from training.reader.settings import ReaderSettings
from training.reader.stored.asked import StoredSet
from training.wanted import FIXED, Wanted

SIZE, PAIRS = 8, 15
TOKENIZE = open_clip.get_tokenizer("ViT-B-32", context_length=8)
WANTED = frozenset({"teacher.image", "teacher.text", "positives/wide.text", "wide.image", "other.image"})


def reader(folder: Path, rank=0, world=1, asked=None, **changed) -> Reader:
    given = {
        "seed": SEED, "global_batch": 6, "image": ImageSettings(resize="squash"), "image_size": SIZE,
        "captions": Uniform(), "tokenize": TOKENIZE, "steps": 99,
        "wanted": Wanted(positives=1, columns=WANTED), "stored": asked or StoredSet("dr", ("teacher", "wide")),
        "rank": rank, "world": world, "quarantine": folder / "bad.jsonl",
    }  # fmt: skip
    settings = ReaderSettings(workers=0, window=4, threads=1, max_bad_fraction=1)
    return Reader(open_pairs([str(folder / "data")]), settings, **(given | changed))


def steps(*args, stop=10, **named):
    return [batch for _, batch in reader(*args, **named).batches(0, stop)]


@functools.cache
def model_of(seed: int, width: int) -> open_clip.CLIP:
    torch.manual_seed(seed)
    return open_clip.CLIP(**{**MODEL, "embed_dim": width}).eval()


def said(seed: int, width: int, images=None, texts=None) -> torch.Tensor:
    """By open_clip's own model, of uint8 pixels or texts."""
    model = model_of(seed, width)
    with torch.no_grad():
        if texts is not None:
            return F.normalize(model.encode_text(TOKENIZE(texts)), dim=1)
        mean, std = (torch.tensor(numbers).view(3, 1, 1)
                     for numbers in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))  # fmt: skip
        return F.normalize(model.encode_image((torch.as_tensor(images).float() / 255 - mean) / std), dim=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reinforced")
    write(settings_of(folder))
    return folder


def number_of() -> dict[str, int]:
    return {make_pair(n).uid: n for n in range(PAIRS)}


@pytest.mark.parametrize("dtype", sampled(["fp16", "bf16", "fp32"], 0))
def test_pixels_and_vectors_of_a_row_are_of_one_view_and_one_text(tmp_path, dtype):
    write(settings_of(tmp_path, dtype=dtype))
    least = {"fp32": 2e-6, "fp16": 2.0**-11, "bf16": 2.0**-8}[dtype]
    seen: dict[str, list[int]] = {}
    for batch in steps(tmp_path):
        rows, numbers = batch.rows, number_of()
        assert "other.image" not in rows and rows["wide.image"].shape == (6, 24)
        assert rows["teacher.image"].dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}.get(dtype, torch.float32)
        for row, uid in enumerate(batch.uids):
            data = make_pair(numbers[uid], EXTS[numbers[uid] % 3]).image
            views = [train_image(data, ImageSettings(**IMAGE), SIZE, SEED, view, uid) for view in range(3)]
            shown = [n for n, view in enumerate(views) if np.array_equal(view, rows["image"][row].numpy())]
            vectors = said(6, 24, images=np.stack(views))
            near = [n for n in range(3) if (vectors[n] - rows["wide.image"][row].float()).abs().max() < 2 * least]
            assert set(shown) & set(near), (shown, near)
            seen.setdefault(uid, []).append(shown[0])
        assert torch.allclose(said(5, 16, images=rows["image"]), rows["teacher.image"].float(), atol=least)
        assert torch.allclose(said(5, 16, texts=batch.captions), rows["teacher.text"].float(), atol=least)
        others = {n: {each["text"] for each in make_pair(n).meta["captions"]} for n in range(PAIRS)}
        left = [
            (others[numbers[uid]] - {caption}).pop() for uid, caption in zip(batch.uids, batch.captions, strict=True)
        ]
        assert torch.allclose(said(6, 24, texts=left), rows["positives/wide.text"].float(), atol=least)
    assert len(seen) == PAIRS and all(len(found) == 4 for found in seen.values())


def test_views_of_a_pair_come_in_turn_and_pairs_begin_with_different_ones(tmp_path):
    """Pictures of noise: no two views of one are the same."""
    made = np.random.default_rng(0)
    pictures = [encoded(Image.fromarray(made.integers(0, 256, (20, 24, 3), dtype=np.uint8))) for _ in range(12)]
    pairs = [make_pair(n, "png", picture) for n, picture in enumerate(pictures)]
    folder = str(tmp_path / "data")
    Manifest(name="noise", num_pairs=12, shards=[write_shard(folder, 0, pairs)]).save(folder)
    write(settings_of(tmp_path))
    image = ImageSettings(**IMAGE)
    views = {pair.uid: [train_image(pair.image, image, SIZE, SEED, n, pair.uid) for n in range(3)] for pair in pairs}
    seen: dict[str, dict[int, int]] = {}
    for batch in steps(tmp_path, stop=12):  # six epochs
        for uid, epoch, pixels in zip(batch.uids, batch.epochs, batch.rows["image"].numpy(), strict=True):
            (shown,) = [n for n, view in enumerate(views[uid]) if np.array_equal(view, pixels)]
            seen.setdefault(uid, {})[epoch] = shown
    assert all(sorted(found[e] for e in range(3)) == [0, 1, 2] for found in seen.values())
    assert all(found[e] == found[e + 3] for found in seen.values() for e in range(3))
    assert {found[0] for found in seen.values()} == {0, 1, 2}


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_ranks_and_workers_sees_the_same(home, world):
    whole = steps(home)
    settings = ReaderSettings(workers=1, window=4)
    parts = [steps(home, rank=rank, world=world) for rank in range(world)]
    forked = [batch for _, batch in Reader(
        open_pairs([str(home / "data")]), settings, seed=SEED, global_batch=6, image=ImageSettings(resize="squash"),
        image_size=SIZE, captions=Uniform(), tokenize=TOKENIZE, steps=99,
        wanted=Wanted(positives=1, columns=WANTED), stored=StoredSet("dr", ("teacher", "wide")),
    ).batches(0, 10)]  # fmt: skip
    for step, batch in enumerate(whole):
        for name in ("image", "teacher.image", "teacher.text", "wide.image", "positives/wide.text"):
            assert torch.equal(torch.cat([part[step].rows[name] for part in parts]), batch.rows[name]), name
            assert torch.equal(forked[step].rows[name], batch.rows[name]), name


def test_features_of_a_locked_tower_come_without_pictures(tmp_path):
    write(settings_of(tmp_path, dtype="fp32"))
    plain = steps(tmp_path)
    for batch, want in zip(steps(tmp_path, asked=StoredSet("dr", ("wide",), "teacher")), plain, strict=True):
        assert "image" not in batch.rows and "teacher.image" not in batch.rows
        assert torch.equal(batch.rows[FIXED], want.rows["teacher.image"]) and batch.captions == want.captions
        assert torch.equal(batch.rows["valid"], want.rows["valid"])


def test_a_pair_whose_picture_could_not_be_opened_is_masked(tmp_path):
    folder = str(tmp_path / "data")
    pairs = [make_pair(n, image=b"\xff\xd8\xff no picture" if n == 1 else None) for n in range(6)]
    Manifest(name="bad", num_pairs=6, shards=[write_shard(folder, 0, pairs)]).save(folder)
    write(settings_of(tmp_path))
    for asked in (None, StoredSet("dr", ("teacher", "wide"), "teacher")):
        (batch,) = steps(tmp_path, asked=asked, stop=1)
        bad = batch.uids.index(pairs[1].uid)
        assert batch.rows["valid"].tolist() == [row != bad for row in range(6)]
        assert [one.reason for one in batch.bad] == ["no_stored_view"]
        assert not batch.rows["teacher.image"][bad].any() and batch.rows["teacher.text"][bad].any()


@pytest.mark.parametrize(
    ("asked", "changed", "words"),
    [
        (StoredSet("dr", ("small",)), {}, "no teacher 'small'(.|\n)*teachers: .teacher, wide"),
        (StoredSet("dr", ("teacher",), "small"), {}, "no teacher 'small'"),
        (StoredSet("dr", ("teacher",)), {"image": ImageSettings()}, "train.image.resize=squash"),
        (StoredSet("gone", ("teacher",)), {}, "clipmill reinforce RECIPE"),
    ],
)
def test_what_the_set_cannot_give_is_refused_before_the_first_step(home, asked, changed, words):
    with pytest.raises((RecipeError, DataError), match=words):
        reader(home, asked=asked, **changed)


def test_a_text_without_vectors_and_vectors_of_further_views_are_named(tmp_path):
    folder = str(tmp_path / "data")
    pairs = [make_pair(n, negatives=[{"text": f"wrong {n}", "source": "negative:x"}]) for n in range(6)]
    Manifest(name="wrong", num_pairs=6, shards=[write_shard(folder, 0, pairs)]).save(folder)
    write(settings_of(tmp_path))
    with pytest.raises(DataError, match=r"no vectors of the text 'wrong \d'(.|\n)*reinforce.negatives=true"):
        steps(tmp_path, wanted=Wanted(negatives=1, columns=frozenset({"negatives/teacher.text"})))
    with pytest.raises(RecipeError, match="views/teacher.image"):
        steps(tmp_path, wanted=Wanted(views=1, columns=frozenset({"views/teacher.image"})))


def test_the_state_names_the_set(tmp_path):
    write(settings_of(tmp_path))
    first = reader(tmp_path).state(3).stored
    assert first == reader(tmp_path).state(5).stored and first is not None
    write(settings_of(tmp_path, views=2, fresh=True))
    assert reader(tmp_path).state(3).stored != first
