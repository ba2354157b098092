"""A trained run scores a pool: as a checkpoint, a run, an export, with the vectors of its own towers."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from curation.methods.vectors.stored import matrix
from curation.stage import Context
from curation.stage_order import check_stages
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.clip_score import ClipScore
from curation.stages.clip_text_vector import ClipTextVector
from pipeline import recipe as recipes
from pipeline.errors import RecipeError
from tests.helpers import tiny_clip
from tests.helpers.pairs import encoded, picture
from tests.helpers.tiny_run import MODEL, train_here, write_recipe
from training.export import export
from training.ranks.peers import Peers
from training.reader.images import eval_image
from training.score import checkpoint_at, load_weights
from training.settings import TrainSettings

# Strips, transparent ones, every ratio: what is resized in another way is seen.
BODIES = [encoded(picture(seed, size)) for seed, size in enumerate([(40, 50), (9, 70), (70, 31), (300, 12), (8, 8)])]
TEXTS = ["a cat", "two dogs on a lawn", "caption 7", "Ünïcode ß and more words than the model has room for"]


def clear() -> bytes:
    levels = np.zeros((40, 60, 4), np.uint8)
    levels[5:20, 10:50] = (200, 30, 90, 255)
    out = io.BytesIO()
    Image.fromarray(levels, "RGBA").save(out, "PNG")
    return out.getvalue()


SQUASH = ({"image": {"resize": "squash"}}, 1)


@pytest.fixture(
    scope="module",
    params=[
        SQUASH,
        pytest.param(
            ({"image": {"resize": "pad", "background": "black"}, "loss": {"kind": "softmax"}}, 2),
            marks=pytest.mark.exhaustive,
        ),
        ({"image": {"resize": "shortest"}, "model": {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}}, 1),
    ],
    ids=["squash", "pad on black, two ranks", "shortest, own mean"],
)
def run(request, tmp_path_factory) -> Path:
    settings, world = request.param
    folder = tmp_path_factory.mktemp("scorer")
    settings = {**settings, "model": {"config": MODEL, **settings.get("model", {})}}
    engine = {"zero_stage": 1 if world > 1 else 0}
    recipe = write_recipe(folder, steps=4, checkpoint={"every_steps": 2}, engine=engine, **settings)
    assert train_here(recipe, world) == [""] * world
    return folder / "train"


def of_towers(source: Path) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of BODIES and TEXTS, by the towers of training and its own evaluation pixels."""
    found = checkpoint_at(source, Peers.alone())
    recipe = recipes.load(str(found.complete.folder.parent.parent / "recipe.yaml"))
    settings = recipe.section("train", TrainSettings)
    towers = settings.towers(recipe.seed)
    load_weights(towers, found)
    towers.eval()
    pixels = np.stack([eval_image(body, settings.image, towers.image_size) for body in [*BODIES, clear()]])
    with torch.no_grad():
        found = towers({"image": torch.from_numpy(pixels), "tokens": towers.tokenize(TEXTS)})
    return found["image"].numpy(), found["text"].numpy()


def of_stages(**model: str) -> tuple[np.ndarray, np.ndarray]:
    images, texts = ClipImageVector(**model, chunk=4), ClipTextVector(**model, chunk=4)
    check_stages([images, texts, ClipScore()])
    pictures = images.open(Context())(pa.table({"image": pa.array([*BODIES, clear()], pa.large_binary())}))
    assert pictures["reason"].null_count == len(BODIES) + 1
    words = texts.open(Context())(pa.table({"text": TEXTS}))
    return matrix(pictures["image_vector"])[0], matrix(words["text_vector"])[0]


def same(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape and np.abs(mine.astype(np.float32) - theirs).max() < 1e-3


def test_every_form_of_a_run_gives_the_vectors_of_its_towers(run: Path, tmp_path: Path):
    wanted = of_towers(run)
    folder, file = export(str(run), str(tmp_path / "model")), export(str(run), str(tmp_path / "model.pt"))
    for model in (folder, f"local-dir:{folder}", file, str(run), str(run / "checkpoints" / "step-00000004")):
        same(of_stages(model=model), wanted)
    config = tmp_path / "model" / "open_clip_config.json"
    same(of_stages(model=str(config), pretrained=str(tmp_path / "model" / "open_clip_model.safetensors")), wanted)
    (tmp_path / "bare.json").write_text(json.dumps(MODEL))  # the pixels are then those that the file speaks of
    same(of_stages(model=str(tmp_path / "bare.json"), pretrained=file), wanted)


def test_a_named_checkpoint_is_that_one_and_a_run_its_newest(run: Path):
    older = run / "checkpoints" / "step-00000002"
    same(of_stages(model=str(older)), of_towers(older))
    assert np.abs(of_stages(model=str(older))[0] - of_stages(model=str(run))[0]).max() > 1e-3


def test_vectors_are_named_by_contents_and_not_by_paths(run: Path, tmp_path: Path):
    first = ClipImageVector(model=export(str(run), str(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert first.digest() == ClipImageVector(model=str(tmp_path / "b")).digest()
    older = ClipImageVector(model=export(str(run / "checkpoints/step-00000002"), str(tmp_path / "c")))
    assert older.digest() != first.digest() and older.model_digest() != first.model_digest()


def broken(folder: Path, **changes) -> str:
    tensors = load_file(folder / "open_clip_model.safetensors") | changes
    save_file(
        {name: each for name, each in tensors.items() if each is not None}, folder / "open_clip_model.safetensors"
    )
    return str(folder)


def plant(kind: str, run: Path, tmp_path: Path) -> dict[str, str]:
    """The settings of a stage whose model has something wrong with it."""
    folder = Path(export(str(run), str(tmp_path / "model")))
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    if kind == "nan":
        return {"model": broken(folder, text_projection=torch.full((16, 16), float("nan")))}
    if kind == "a tensor of another shape":
        return {"model": broken(folder, text_projection=torch.zeros(16, 8))}
    if kind == "a tensor too few":
        return {"model": broken(folder, text_projection=None)}
    if kind == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-40])
    if kind == "no weights":
        weights.unlink()
    if kind == "damaged config":
        config.write_text(config.read_text()[:100])
    if kind == "config without towers":
        config.write_text(json.dumps({"model_cfg": {"embed_dim": 16}}))
    if kind == "weights besides":
        return {"model": str(folder), "pretrained": str(weights)}
    if kind == "a folder as weights":
        return {"model": "ViT-B-32", "pretrained": str(folder)}
    if kind == "no pretrained":
        return {"model": "ViT-B-32"}
    if kind == "a .pt of weights alone":
        torch.save({"x": torch.zeros(2)}, tmp_path / "plain.pt")
        return {"model": str(tmp_path / "plain.pt")}
    if kind == "a text":
        (tmp_path / "text.pt").write_text("no weights")
        return {"model": str(tmp_path / "text.pt")}
    if kind == "an empty folder":
        (tmp_path / "empty").mkdir()
        return {"model": str(tmp_path / "empty")}
    if kind == "no such folder":
        return {"model": "runs/nowhere/model"}
    if kind == "a damaged checkpoint":
        copied = tmp_path / "run"
        shutil.copytree(run, copied)
        file = copied / "checkpoints" / "step-00000004" / "rank-000.safetensors"
        data = bytearray(file.read_bytes())
        data[-9] ^= 1
        file.write_bytes(data)
        return {"model": str(copied)}
    if kind == "a checkpoint without its recipe":
        shutil.copytree(run, tmp_path / "run")
        (tmp_path / "run" / "recipe.yaml").unlink()
        return {"model": str(tmp_path / "run")}
    return {"model": str(folder)}


KINDS = [
    "nan", "a tensor of another shape", "a tensor too few", "cut weights", "no weights", "damaged config",
    "config without towers", "weights besides", "a folder as weights", "no pretrained", "a .pt of weights alone",
    "a text", "an empty folder", "no such folder", "a damaged checkpoint", "a checkpoint without its recipe",
]  # fmt: skip


@pytest.mark.parametrize("run", [SQUASH], ids=["squash"], indirect=True)  # what is wrong is so of any run
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_model_is_one_error_with_a_hint_before_any_work(kind: str, run: Path, tmp_path: Path):
    settings = plant(kind, run, tmp_path)
    with pytest.raises(RecipeError) as caught:
        check_stages([ClipImageVector(**settings), ClipTextVector(**settings), ClipScore()])
    assert caught.value.where.startswith("curate.stages.0") and caught.value.hint


def test_pictures_and_captions_by_two_models_have_no_score(run: Path, tmp_path: Path):
    older = export(str(run / "checkpoints/step-00000002"), str(tmp_path / "older"))
    with pytest.raises(RecipeError, match="two models"):
        check_stages([ClipImageVector(model=str(run)), ClipTextVector(model=older), ClipScore()])
    with pytest.raises(RecipeError, match="two models"):
        check_stages([ClipImageVector(**tiny_clip.kept()), ClipTextVector(model=older), ClipScore()])


def test_another_config_and_other_weights_are_another_model(tmp_path):
    """Their columns are others: what the one has measured is not taken for what the other would."""
    digests = set()
    for number, changed in enumerate(({}, {}, {"embed_dim": 24})):
        (tmp_path / str(number)).mkdir()
        given = tiny_clip.saved(tmp_path / str(number), **changed)
        found = ClipImageVector(**given).file_digests()
        assert {path for path, _ in found.values()} == set(given.values())
        digests.add(tuple(digest for _, digest in found.values()))
    assert len(digests) == 2
    other = tiny_clip.saved(tmp_path / "1", seed=1)
    assert ClipImageVector(**other).file_digests() != ClipImageVector(**tiny_clip.saved(tmp_path / "0")).file_digests()
    (tmp_path / "0/model.json").write_text((tmp_path / "0/model.json").read_text() + " ")
    again = ClipImageVector(model=str(tmp_path / "0/model.json"), pretrained=str(tmp_path / "0/weights-0.pt"))
    assert tuple(digest for _, digest in again.file_digests().values()) not in digests
