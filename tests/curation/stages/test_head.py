"""A head gives what torch gives for the same layers, from either file; what is no head is refused before any work."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from curation.methods.vectors.clip_model import as_column
from curation.stage_order import added
from curation.stages import STAGES
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.head import HeadScore
from curation.table import captions
from pipeline.errors import RecipeError
from tests.helpers import tiny_clip
from tests.helpers.pairs import measured, pair, pairs_of
from tests.helpers.tiny_head import layers

BETWEEN = {"none": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU(), "tanh": nn.Tanh()}
BEHIND = {"plain": nn.Identity(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=-1)}


def with_vectors(num: int = 20, width: int = 6) -> pa.Table:
    vectors = np.random.default_rng(1).normal(size=(num, width)).astype(np.float16)
    return pairs_of(*[pair(f"p{i}", "a", "b") for i in range(num)]).append_column(
        "image_vector", as_column(vectors, width)
    )


def by_torch(weights: dict[str, np.ndarray], vectors: list, activation: str, output: str) -> np.ndarray:
    value = torch.tensor(np.array(vectors), dtype=torch.float32)
    names = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    for at, name in enumerate(names):
        value = BETWEEN[activation](value) if at else value
        value = nn.functional.linear(value, *(torch.tensor(weights[f"{name}.{part}"]) for part in ("weight", "bias")))
    return BEHIND[output](value).numpy()


@pytest.mark.parametrize("activation", BETWEEN)
@pytest.mark.parametrize("output", BEHIND)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_it_is_what_torch_says(tmp_path: Path, activation, output, suffix):
    pairs, path = with_vectors(), tmp_path / f"head.{suffix}"
    weights = layers(6, *[4] * 11, 3)  # layers.2 comes before layers.10
    if suffix == "pth":
        torch.save({name: torch.tensor(each) for name, each in weights.items()}, path)
    else:
        save_file(weights, path)
    stage = HeadScore(name="nice", weights=str(path), activation=activation, output=output, index=2)
    wanted = by_torch(weights, pairs["image_vector"].to_pylist(), activation, output)[:, 2]
    assert np.allclose(measured(stage, pairs)["nice"].to_numpy(), wanted, rtol=1e-3, atol=1e-4)


def test_laions_aesthetic_predictor_is_read_as_it_is(tmp_path: Path):
    mlp = nn.Module()
    sizes = (768, 1024, 128, 64, 16, 1)
    parts: list[nn.Module] = []
    for width, out in zip(sizes[:-1], sizes[1:], strict=True):
        parts += [nn.Linear(width, out), nn.Dropout(0.2)] if out in (1024, 128, 64) else [nn.Linear(width, out)]
    mlp.layers = nn.Sequential(*parts)
    torch.save(mlp.state_dict(), tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    pairs = with_vectors(5, 768)
    found = measured(HeadScore(name="aesthetic", weights=str(tmp_path / "sac+logos+ava1-l14-linearMSE.pth")), pairs)
    with torch.no_grad():
        wanted = mlp.layers.eval()(torch.tensor(pairs["image_vector"].to_pylist())).numpy()[:, 0]
    assert np.allclose(found["aesthetic"].to_numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_captions_have_a_number_of_their_own_and_no_vector_no_number(tmp_path: Path):
    save_file(layers(4, 1), tmp_path / "head.safetensors")
    pairs = pairs_of(pair("a", "x", "y"), pair("b", "z"))
    vectors = pa.array([[1, 0, 0, 0], None, [0, 1, 0, 0]], pa.list_(pa.float16(), 4))
    pairs = captions.with_fields(pairs, pa.table({"text_vector": vectors}))
    stage = HeadScore(name="nice", weights=str(tmp_path / "head.safetensors"), column="captions.text_vector")
    weight, bias = layers(4, 1)["layers.0.weight"][0], layers(4, 1)["layers.0.bias"][0]
    found = captions.explode(measured(stage, pairs))["nice"].to_pylist()
    assert found[1] is None and np.allclose([found[0], found[2]], [weight[0] + bias, weight[1] + bias])
    assert added(stage) == ["captions.nice"] and added(STAGES["head"]) == [] and stage.exports == ()
    assert HeadScore(name="nice", weights="x").exports == ("nice",)


def test_one_layer_is_read_by_the_names_that_torch_gives_it(tmp_path: Path):
    pairs, layer = with_vectors(), nn.Linear(6, 1)
    torch.save(layer.state_dict(), tmp_path / "head.pt")
    found = measured(HeadScore(name="nice", weights=str(tmp_path / "head.pt")), pairs)["nice"].to_numpy()
    vectors = torch.tensor(np.array(pairs["image_vector"].to_pylist()), dtype=torch.float32)
    assert np.allclose(found, layer(vectors).detach().numpy()[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [({"a.weight": (3, 4), "b.weight": (2, 5)}, "behind 3"), ({"a.weight": (3, 4, 1)}, "linear"),
     ({"x": (3,)}, "linear"), ({"a.weight": (3, 4), "a.bias": (2,)}, "bias"), ({}, "no <name>.weight")],
)  # fmt: skip
def test_what_is_no_head_is_refused(tmp_path: Path, tensors, said):
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, tmp_path / "head.safetensors")
    with pytest.raises(RecipeError, match=said):
        HeadScore(name="x", weights=str(tmp_path / "head.safetensors")).check("curate.stages.0")


def test_files_that_run_code_damaged_ones_and_heads_of_other_vectors_are_refused(tmp_path: Path):
    torch.save(nn.Linear(4, 1), tmp_path / "code.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    for name in ("code.pth", "cut.safetensors", "none.safetensors"):
        with pytest.raises(RecipeError):
            HeadScore(name="x", weights=str(tmp_path / name)).check("curate.stages.0")
    save_file(layers(4, 1), tmp_path / "head.safetensors")
    before = [ClipImageVector(**tiny_clip.kept())]
    with pytest.raises(RecipeError, match="vectors of 4 values"):
        HeadScore(name="x", weights=str(tmp_path / "head.safetensors")).check("curate.stages.1", before)
    with pytest.raises(RecipeError, match="outputs"):
        HeadScore(name="x", weights=str(tmp_path / "head.safetensors"), index=1).check("curate.stages.1")
