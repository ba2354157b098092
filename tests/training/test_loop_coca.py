"""A CoCa in a run: trained, resumed, scored and exported; open_clip loads it, and curation captions with it."""

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from curation.generation.backends.coca import CocaBackend
from curation.generation.request import Request
from curation.stage import Context
from pipeline.errors import ClipmillError
from pipeline.images.decoder import Picture
from tests.helpers.datasets import image_bytes
from tests.helpers.tiny_run import metrics, train_here, write_eval_set, write_recipe
from training import export as exporting
from training.export import export

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 8, "layers": 1, "width": 16, "head_width": 8, "patch_size": 4, "attentional_pool": True,
        "attn_pooler_heads": 2, "attn_pooler_queries": 4,
    },
    "text_cfg": {
        "context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "embed_cls": True,
    },
    "multimodal_cfg": {"width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
LOSS = [{"kind": "softmax"}, {"kind": "caption", "weight": 2.0}]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two steps on two ranks under ZeRO-3, two more on one; beside it the run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("coca")
    pictures = write_eval_set(folder / "pictures", 9, "txt")
    recipe = write_recipe(
        folder, steps=4, model={"config": CONFIG}, loss=LOSS, schedule={"kind": "constant"},
        checkpoint={"every_steps": 2}, companions=[{"kind": "ema", "decay": 0.5}],
        eval={"every_steps": 4, "of": "both", "sets": [{"kind": "retrieval", "path": str(pictures), "name": "p"}]},
    )  # fmt: skip
    assert train_here(recipe, 2, "train.engine.zero_stage=3", "train.steps=2") == ["", ""]
    assert train_here(recipe, 1) == [""]
    assert train_here(recipe, 1, f"train.output={folder}/whole") == [""]
    return folder


@pytest.mark.exhaustive
def test_a_run_resumed_on_other_ranks_is_the_run_that_nothing_disturbed(home):
    rows, whole = metrics(home / "train"), metrics(home / "whole")
    assert [row["step"] for row in rows] == [0, 1, 2, 3] and not any(row["skipped"] for row in rows)
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in whole], rel=2e-5)
    for row in rows:
        assert row["loss"] == pytest.approx(row["softmax/loss"] + 2 * row["caption/loss"], rel=1e-5)
    assert rows[3]["caption/loss"] < rows[0]["caption/loss"]
    scores = (home / "train" / "evals.jsonl").read_text()
    assert '"p/i2t_r1"' in scores and '"ema/p/i2t_r1"' in scores


def _by_hand(home):
    """open_clip's CoCa with the checkpoint's tensors, by names alone."""
    saved = load_file(home / "train" / "checkpoints" / "step-00000004" / "rank-000.safetensors")
    names = {"image.": "visual.", "text.": "text.", "decoder.": "text_decoder.", "log_scale": "logit_scale"}
    state = {}
    for name, tensor in saved.items():
        if name.startswith("param/"):
            start = next(start for start in names if name.removeprefix("param/").startswith(start))
            state[names[start] + name.removeprefix(f"param/{start}")] = tensor
    sections = {name: dict(CONFIG[name]) for name in ("vision_cfg", "text_cfg", "multimodal_cfg")}
    model = open_clip.CoCa(
        16, sections["multimodal_cfg"], sections["text_cfg"] | {"output_tokens": True},
        sections["vision_cfg"] | {"output_tokens": True},
    )  # fmt: skip
    state["logit_scale"] = state["logit_scale"].reshape(())
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def _said(model, picture_CHW, steps=6):
    """(tokens, logits of the last step): greedy, the whole text anew for each token."""
    tokens = [49406]
    for _ in range(steps):
        logits_V = model(picture_CHW[None], torch.tensor([tokens]), output_labels=False)["logits"][0, -1]
        tokens.append(int(logits_V.argmax()))
    return tokens, logits_V


@pytest.mark.exhaustive
def test_open_clip_loads_file_and_folder_as_a_coca_that_says_the_same(home, tmp_path):
    picture, wanted = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(4)), _by_hand(home)
    tokens, logits = _said(wanted, picture)
    folder = export(str(home / "train"), str(tmp_path / "model"))
    loaded, *_ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    from_file = open_clip.CoCa(**{k: v for k, v in _model_cfg(folder).items() if k != "custom_text"})
    open_clip.load_checkpoint(from_file, export(str(home / "train"), str(tmp_path / "model.pt")))
    for model in (loaded.eval(), from_file.eval()):
        assert type(model) is open_clip.CoCa
        ours, our_logits = _said(model, picture)
        assert ours == tokens and torch.allclose(our_logits, logits, atol=1e-6)
        text = torch.tensor([tokens])
        for key in ("image_features", "text_features"):
            assert torch.allclose(model(picture[None], text)[key], wanted(picture[None], text)[key], atol=1e-6)
    averaged = export(str(home / "train"), str(tmp_path / "ema.pt"), weights="ema")
    state = torch.load(averaged, weights_only=True)["state_dict"]
    assert state.keys() == wanted.state_dict().keys()
    assert not torch.equal(state["text_decoder.text_projection"], wanted.text_decoder.text_projection)


def _model_cfg(folder):
    import json
    from pathlib import Path

    return json.loads((Path(folder) / "open_clip_config.json").read_text())["model_cfg"]


@pytest.mark.exhaustive
def test_an_export_whose_decoder_says_something_else_is_not_left(home, tmp_path, monkeypatch):
    honest = exporting._native

    def wrong(towers):
        return {n: t + 0.01 if n == "text_decoder.text_projection" else t for n, t in honest(towers).items()}

    monkeypatch.setattr(exporting, "_native", wrong)
    with pytest.raises(ClipmillError, match="logits differ"):
        export(str(home / "train"), str(tmp_path / "model.pt"))
    assert not list(tmp_path.iterdir())


def test_curation_captions_a_picture_with_what_was_trained(home, tmp_path):
    folder = export(str(home / "train"), str(tmp_path / "model"))
    backend = CocaBackend(model=folder, max_tokens=6, chunk=2)
    backend.check("curate.stages.0.backend")
    bodies = [image_bytes(1), image_bytes(5), image_bytes(8)]
    requests = [Request((), str(at), seed=at, row={"image": body}) for at, body in enumerate(bodies)]
    found = [answers[0] for answers in backend.open(Context())(requests)]
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    for body, answer in zip(bodies, found, strict=True):
        tokens, _ = _said(model.eval(), transform(Picture(body).rgb("white")))
        stop = tokens.index(49407) if 49407 in tokens else len(tokens)
        assert not answer.failed and answer.text == tokenizer.decode(tokens[1:stop]).strip()


def test_a_stage_with_larger_pictures_and_longer_texts_goes_on_from_the_one_before_in_bf16_too(tmp_path):
    stages = [{"until": 2, "model": {"context_length": 6}}, {"until": 4, "model": {"image_size": 16}}]
    recipe = write_recipe(tmp_path, steps=4, model={"config": CONFIG}, loss=LOSS, stages=stages)
    assert train_here(recipe, 1, "train.engine.precision=bf16") == [""]
    rows = metrics(tmp_path / "train")
    assert len(rows) == 4 and rows[3]["caption/loss"] < rows[0]["caption/loss"]
    state = torch.load(export(str(tmp_path / "train"), str(tmp_path / "m.pt")), weights_only=True)["state_dict"]
    assert state["visual.positional_embedding"].shape[0] == 17 and state["text.positional_embedding"].shape[0] == 9


@pytest.mark.exhaustive
def test_a_caption_that_weighs_nothing_yet_leaves_the_decoder_out_of_the_step(tmp_path):
    """Its weights get no gradient at first, at any stage, and then do."""
    losses = []
    for world, stage in ((1, 0), (2, 2), (2, 3)):
        loss = [{"kind": "softmax"}, {"kind": "caption", "weight": [[0, 0], [0.5, 0], [0.51, 2]]}]
        recipe = write_recipe(tmp_path, steps=4, model={"config": CONFIG}, loss=loss, checkpoint={"every_steps": 4})
        given = f"train.engine.zero_stage={stage}", f"train.output={tmp_path}/{world}-{stage}"
        assert train_here(recipe, world, *given) == [""] * world
        rows = metrics(tmp_path / f"{world}-{stage}")
        assert ["caption/loss" in row for row in rows] == [False, False, False, True]
        losses.append([row["loss"] for row in rows])
    assert losses[1] == pytest.approx(losses[0], rel=2e-5) and losses[2] == pytest.approx(losses[0], rel=2e-5)
