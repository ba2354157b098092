"""Export: what other tools load gives the checkpoint's logits, or nothing is written."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from pipeline.errors import ClipmillError, DataError, RecipeError
from tests.helpers.tiny_run import MODEL, train_here, write_recipe
from training import export as exporting
from training.export import export


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    recipe = write_recipe(folder, steps=4, image={"resize": "pad"}, checkpoint={"every_steps": 2})
    assert train_here(recipe, 1) == [""]
    return folder / "train"


def logits(model: torch.nn.Module) -> torch.Tensor:
    made = torch.Generator().manual_seed(5)
    images_NCHW = torch.randn(3, 3, 8, 8, generator=made)
    tokens_NL = open_clip.SimpleTokenizer(context_length=8)(["a cat", "two dogs", "caption 7"])
    with torch.no_grad():
        image_ND, text_ND, scale = model.eval()(images_NCHW, tokens_NL)[:3]
    return scale * image_ND @ text_ND.T


@pytest.fixture(scope="module")
def wanted(run_folder: Path) -> torch.Tensor:
    """Logits of a plain open_clip model given the checkpoint's tensors by hand."""
    from safetensors.torch import load_file

    saved = load_file(run_folder / "checkpoints" / "step-00000004" / "rank-000.safetensors")
    names = {"image.": "visual.", "text.": "", "log_scale": "logit_scale"}
    state = {}
    for name, tensor in saved.items():
        if name.startswith("param/"):
            name = name.removeprefix("param/")
            start = next(start for start in names if name.startswith(start))
            state[names[start] + name.removeprefix(start)] = tensor.reshape(()) if start == "log_scale" else tensor
    model = open_clip.CLIP(**MODEL)
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"attn_mask"}
    return logits(model)


def test_open_clip_loads_the_pt_with_weights_only_and_gives_the_same_logits(run_folder, wanted, tmp_path) -> None:
    path = export(str(run_folder), str(tmp_path / "deep" / "model.pt"))
    content = torch.load(path, weights_only=True)
    assert content.keys() == {"epoch", "name", "state_dict", "open_clip_config.json"} and content["name"] == "tiny"
    model = open_clip.CLIP(**MODEL)
    open_clip.load_checkpoint(model, path)
    assert torch.allclose(logits(model), wanted, atol=1e-6)


def test_open_clip_loads_the_folder_by_itself_with_its_preprocessing(run_folder, wanted, tmp_path) -> None:
    folder = export(str(run_folder), str(tmp_path / "model"))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    assert torch.allclose(logits(model), wanted, atol=1e-6)
    assert "ResizeKeepRatio" in str(preprocess) or "CenterCropOrPad" in str(preprocess)  # `pad`, as it was trained
    card = json.loads((tmp_path / "model" / "clipmill.json").read_text())
    assert card["step"] == 4 and card["samples"] == 64 and card["data_digest"] and card["recipe_digest"]
    assert not list(tmp_path.glob(".tmp*"))


def test_a_step_folder_is_exported_as_it_is(run_folder: Path, tmp_path: Path) -> None:
    older = export(str(run_folder / "checkpoints" / "step-00000002"), str(tmp_path / "a.pt"))
    newest = export(str(run_folder), str(tmp_path / "b.pt"))
    a, b = (torch.load(path, weights_only=True)["state_dict"] for path in (older, newest))
    assert not all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("out", ["model.pt", "model"])
def test_files_that_give_other_logits_are_not_left(run_folder, tmp_path, monkeypatch, out: str) -> None:
    honest = exporting._native

    def wrong(towers):
        state = honest(towers)
        return {name: tensor + 0.01 if name == "text_projection" else tensor for name, tensor in state.items()}

    monkeypatch.setattr(exporting, "_native", wrong)
    with pytest.raises(ClipmillError, match="logits differ"):
        export(str(run_folder), str(tmp_path / out))
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_and_an_empty_folder_are_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no checkpoint"):
        export(str(tmp_path), str(tmp_path / "x.pt"))
    step = tmp_path / "run" / "checkpoints" / "step-00000004"
    step.mkdir(parents=True)
    for path in (run_folder / "checkpoints" / "step-00000004").iterdir():
        (step / path.name).write_bytes(path.read_bytes()[:-1] + b"?")
    for source in (step, tmp_path / "run"):
        with pytest.raises(DataError, match="COMPLETE.json|none of 1"):
            export(str(source), str(tmp_path / "x.pt"))


@pytest.mark.parametrize(("ema", "shares"), [(None, (0.5, 0.5)), (0.75, (0.75, 0.25))])
def test_the_mean_of_the_last_checkpoints_is_exported(run_folder, tmp_path, ema, shares) -> None:
    from safetensors.torch import load_file

    path = export(str(run_folder), str(tmp_path / "mean.pt"), average=2, ema=ema)
    mean = torch.load(path, weights_only=True)["state_dict"]["visual.conv1.weight"]
    files = [run_folder / "checkpoints" / f"step-0000000{step}" / "rank-000.safetensors" for step in (2, 4)]
    old, new = (load_file(file)["param/image.conv1.weight"].double() for file in files)
    assert torch.equal(mean, (shares[0] * old + shares[1] * new).float())
    with pytest.raises(RecipeError, match="holds 2 checkpoints up to step 4"):
        export(str(run_folder), str(tmp_path / "more.pt"), average=3)
