"""Weights for other tools: open_clip's .pt, or a folder with safetensors and open_clip_config.json.

    export("runs/x/train", "model.pt")          open_clip.create_model(..., pretrained="model.pt")
    export("runs/x/train", "folder")            open_clip.create_model_and_transforms("local-dir:folder")

Nothing is left under the given name unless the written files, loaded through open_clip, give the checkpoint's logits.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from pipeline import recipe as recipes
from pipeline.errors import ClipmillError, RecipeError
from pipeline.outputs import EXPORT_CONFIG as CONFIG
from pipeline.outputs import EXPORT_WEIGHTS as WEIGHTS
from pipeline.outputs import RECIPE
from pipeline.storage.refusals import storage_errors
from training.checkpoint.layout import step_folders, step_of
from training.checkpoint.save import Found, load_weights, open_checkpoint
from training.ranks.peers import Peers
from training.score import checkpoint_at
from training.settings import TrainSettings
from training.surgery.mix import averaged, ema_weights
from training.towers.build import build_towers
from training.towers.outputs.coca import CAPTIONS
from training.towers.settings import ModelSettings
from training.towers.towers import Towers

Kind = Literal["open_clip", "safetensors"]
CARD = "clipmill.json"
TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit: the same weights on the same machine give far less."""


def export(
    source: str,
    out: str,
    kind: Kind | None = None,
    average: int = 1,
    ema: float | None = None,
    weights: str | None = None,
) -> str:
    """The path written. `source`: a run's output folder (newest checkpoint that verifies) or one step's folder.

    `kind` defaults to open_clip for a name ending in .pt and safetensors else. `average`: the mean of so many
    checkpoints up to that one, each alike or, with `ema`, as a moving average of that decay would weigh them;
    `weights`: the name of an average that the run itself kept. Raises ClipmillError, leaving nothing, when the logits
    differ.
    """
    kind = kind or ("open_clip" if out.endswith(".pt") else "safetensors")
    found = checkpoint_at(Path(source), Peers.alone())
    recipe = recipes.load(str(_recipe_beside(found)))
    settings = recipe.section("train", TrainSettings).plan.of_checkpoint(found.state.step)
    towers = settings.towers(recipe.seed)
    if weights is not None and average > 1:
        raise RecipeError("--weights", f"found {weights!r} with --average {average}", "one of the two", "leave one out")
    load_weights(towers, found, weights)
    if average > 1:
        _average(towers, found, average, ema)
    towers.eval()
    target = Path(out)
    temp = target.with_name(f".tmp-{target.name}")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
    try:
        with storage_errors(temp):
            names = _write_pt(temp, target.name, towers, found, recipe.name, settings) if kind == "open_clip" else []
            names = names or _write_folder(temp, towers, found, recipe.name, settings)
        check_logits(towers, _reloaded(temp, names, settings), str(target))
        _publish(temp, names, target, kind)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return str(target)


def _average(towers: Towers, found: Found, count: int, ema: float | None) -> None:
    """Gives the towers the mean of the newest `count` checkpoints up to `found`, of which they hold the weights."""
    newest = step_of(found.complete.folder)
    folders = [one for one in step_folders(found.complete.folder.parent) if step_of(one) <= newest][:count]
    if len(folders) < count:
        kept = f"{len(folders)} checkpoints up to step {newest}"
        raise RecipeError(str(found.complete.folder.parent), f"holds {kept}", f"{count} to average", "--average less")
    states = []
    for folder in reversed(folders):
        load_weights(towers, open_checkpoint(folder, Peers.alone()))
        states.append({name: tensor.clone() for name, tensor in towers.state_dict().items()})
    towers.load_state_dict(averaged(states, None if ema is None else ema_weights(count, ema)))


def _recipe_beside(found: Found) -> Path:
    path = found.complete.folder.parent.parent / RECIPE
    if not path.is_file():
        raise RecipeError(str(path), "is missing", "the recipe that training saved there", "copy it back")
    return path


def _native(towers: Towers) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in towers.native_state_dict().items()}


def _write_pt(folder: Path, name: str, towers: Towers, found: Found, run: str, settings: TrainSettings) -> list[str]:
    """{"epoch", "name", "state_dict"}: what open_clip's trainer writes; loads with weights_only. The config beside them
    says how pictures are resized: curation scores with the file alone."""
    epoch = found.state.samples // max(1, found.state.reader.pairs)
    config = towers.open_clip_config(settings.image.resize, settings.image.background)
    torch.save({"epoch": epoch, "name": run, "state_dict": _native(towers), CONFIG: config}, folder / name)
    return [name]


def _write_folder(folder: Path, towers: Towers, found: Found, run: str, settings: TrainSettings) -> list[str]:
    save_file(_native(towers), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors leaves it to its owner alone
    config = towers.open_clip_config(settings.image.resize, settings.image.background)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    state = found.state
    card = {"name": run, "step": state.step, "samples": state.samples}
    card |= {"data_digest": state.reader.data, "recipe_digest": state.recipe_digest}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return [WEIGHTS, CONFIG, CARD]


def _reloaded(folder: Path, names: list[str], settings: TrainSettings) -> Towers:
    """Towers whose weights (and config, where one was written) come from the files, read by open_clip's own loader."""
    weights = str(folder / names[0])
    model = settings.model.model_copy(update={"pretrained": weights})
    if CONFIG in names:
        config = json.loads((folder / CONFIG).read_text())
        pixels = config["preprocess_cfg"]
        model = ModelSettings(config=config["model_cfg"], pretrained=weights, mean=pixels["mean"], std=pixels["std"])
    return build_towers(model, 0, settings.scalars).eval()


@torch.no_grad()
def check_logits(ours: Towers, theirs: Towers, where: str) -> None:
    """ClipmillError unless both give the same logits for made-up pictures and words."""
    generator = torch.Generator().manual_seed(0)
    size = ours.image_size
    images_NCHW = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=generator)
    texts = ["a", "a red square", "two blue circles on white", "clip art of an animal, vector drawing"]
    want, got = (_logits(towers, images_NCHW, texts) for towers in (ours, theirs))
    worst = max(((b - a).abs().max() / a.abs().max()).item() for a, b in zip(want, got, strict=True))
    if not worst <= TOLERANCE:
        found = f"logits differ by {worst:.2g} of the largest when the written files are loaded through open_clip"
        expected = f"at most {TOLERANCE:g}, so nothing was left there"
        raise ClipmillError(where, found, expected, "report this with the recipe")


def _logits(towers: Towers, images_NCHW: torch.Tensor, texts: list[str]) -> list[torch.Tensor]:
    """Of pictures and texts, and of the next words where there is a decoder."""
    rows, scalars = {"image": images_NCHW, "tokens": towers.tokenize(texts)}, towers.scalars()
    want = frozenset({"image", "text"} | ({CAPTIONS} if towers.decoder is not None else set()))
    found = towers(rows, want)
    logits = scalars["log_scale"].exp() * found["image"] @ found["text"].T + scalars.get("bias", 0)
    return [logits, *(found[name] for name in want & {CAPTIONS})]


def _publish(temp: Path, names: list[str], target: Path, kind: Kind) -> None:
    with storage_errors(target):
        if kind == "open_clip":
            os.replace(temp / names[0], target)
            return
        target.mkdir(exist_ok=True)
        for name in names:
            os.replace(temp / name, target / name)
