"""What a recipe names as a CLIP model, found on disk without open_clip and without the training half.

ViT-B-32                    an architecture of open_clip; `pretrained` says its weights, a tag or a file
model.json                  its model_cfg, or an open_clip_config.json; `pretrained` says its weights, a file
folder, local-dir:folder    open_clip_config.json and weights: what `clipmill export RUN FOLDER` writes
model.pt                    what `clipmill export RUN FILE.pt` writes: its config is inside
runs/x/train                the output of a training run: its newest checkpoint
.../step-00000100           one checkpoint of it
"""

import functools
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from curation.table.file_digests import file_digest
from pipeline import storage
from pipeline.errors import RecipeError, one_line
from pipeline.outputs import CHECKPOINTS, COMPLETE, EXPORT_CONFIG, EXPORT_WEIGHTS, RECIPE
from pipeline.settings import digest_of

Kind = Literal["name", "json", "folder", "pt", "checkpoint"]
_WEIGHTS = (  # in open_clip's order of preference
    EXPORT_WEIGHTS, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
    "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
_STEP = re.compile(r"step-(\d{8,})")
_FILES = (".json", ".pt", ".pth", ".bin", ".safetensors", ".npz")
_RESIZE = {"shortest": "shortest", "squash": "squash", "pad": "longest"}  # a run's words for open_clip's
_LOCAL = "local-dir:"
_HINT = "give an architecture of open_clip, or what `clipmill export RUN FOLDER` wrote"


class ModelFiles(NamedTuple):
    """kind, the file of its config (None: open_clip's own, by name), the files of its weights (those of a tag: none)"""

    kind: Kind
    config: str | None
    weights: tuple[str, ...]


def is_file(path: str) -> bool:
    """Whether it is meant to be one: a tag and a name of open_clip are not."""
    return os.path.isfile(path) or path.endswith(_FILES)


def find_model(model: str, pretrained: str | None, where: str) -> ModelFiles:
    """RecipeError naming `where` (the dotted path of the stage): nothing there, too much said, or too little."""
    path = Path(model.removeprefix(_LOCAL))
    kind = _kind(model, path)
    if kind in ("name", "json"):
        if pretrained is None:
            expected, hint = f"{model!r} needs its weights", "pretrained: a tag of open_clip, or the path of a file"
            raise RecipeError(f"{where}.pretrained", "is missing", expected, hint)
        if os.path.isdir(pretrained):
            expected = "expected a file of weights, or a tag"
            raise RecipeError(f"{where}.pretrained", f"{pretrained} is a folder", expected, f"model: {pretrained}")
        config = model if kind == "json" else None
        return ModelFiles(kind, config, (pretrained,) if is_file(pretrained) else ())
    if pretrained is not None:
        found = f"{pretrained!r} beside the model {model}, which has its own weights"
        raise RecipeError(f"{where}.pretrained", found, "expected one of both", "leave pretrained away")
    if kind == "pt":
        return ModelFiles(kind, model, (model,))
    if kind == "folder":
        there = [str(path / name) for name in _WEIGHTS if (path / name).is_file()]
        if not there:
            raise RecipeError(f"{where}.model", f"{path} holds no weights", f"expected {EXPORT_WEIGHTS}", _HINT)
        return ModelFiles(kind, str(path / EXPORT_CONFIG), (there[0],))
    step = _step(path, where)
    files = tuple(str(step / name) for name in sorted(_listed(step, where)) if name.endswith(".safetensors"))
    recipe = step.parent.parent / RECIPE
    if not recipe.is_file():
        hint = f"copy it back, or give what `clipmill export` wrote of {step}"
        raise RecipeError(f"{where}.model", f"{recipe} is missing", "expected the recipe that training saved", hint)
    return ModelFiles(kind, str(recipe), files)


def _kind(model: str, path: Path) -> Kind:
    if path.is_dir():
        return "folder" if (path / EXPORT_CONFIG).is_file() else "checkpoint"
    if model.endswith(".json"):
        return "json"
    if model.startswith(_LOCAL) or "/" in model and not is_file(model) and not _own_config(model).is_file():
        return "checkpoint"  # a folder that is not there: said where its step is looked for
    return "pt" if is_file(model) else "name"


def _step(path: Path, where: str) -> Path:
    """The folder of the newest checkpoint of a run, or the checkpoint that is named."""
    if (path / COMPLETE).is_file():
        return path
    inside = path / CHECKPOINTS
    steps = [each for each in inside.iterdir() if _STEP.fullmatch(each.name)] if inside.is_dir() else []
    done = [each for each in steps if (each / COMPLETE).is_file()]
    if not done:
        found = f"{path} is no model" if path.is_dir() else f"{path}: no such folder"
        expected = f"expected a folder with {EXPORT_CONFIG}, or the output of a training run"
        raise RecipeError(f"{where}.model", found, expected, _HINT)
    return max(done, key=lambda each: int(each.name.partition("-")[2]))


def _listed(step: Path, where: str) -> dict[str, str]:
    """{name: sha256} of the files of a checkpoint."""
    try:
        files = json.loads((step / COMPLETE).read_bytes())["files"]
        found = {str(each["name"]): str(each["sha256"]) for each in files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{step / COMPLETE}: {one_line(error)}"
        raise RecipeError(f"{where}.model", what, "expected a checkpoint", _HINT) from None
    odd = [name for name in found if Path(name).name != name]
    if odd or not any(name.endswith(".safetensors") for name in found):
        raise RecipeError(f"{where}.model", f"{step / COMPLETE} lists no weights", "expected a checkpoint", _HINT)
    return found


def digests(model: str, pretrained: str | None, where: str) -> dict[str, tuple[str, str]]:
    """(path, digest of the content) of what each setting names; nothing of a name or tag of open_clip."""
    kind, config, weights = find_model(model, pretrained, where)
    if kind in ("name", "json"):
        found = {"model": [config] if config else [], "pretrained": list(weights)}
        return {
            name: (path, file_digest(path, f"{where}.{name}")) for name, paths in found.items() for path in paths[:1]
        }
    files = sorted({*weights, *([config] if config else [])})
    told = [[Path(each).name, file_digest(each, f"{where}.model")] for each in files]
    return {"model": (model, digest_of(told))}


def read_config(model: str, pretrained: str | None, where: str) -> dict[str, Any]:
    """{"model_cfg", "preprocess_cfg", "background"}. open_clip's own are read off its files: importing it would cost
    seconds."""
    found = find_model(model, pretrained, where)
    digest = file_digest(found.config, f"{where}.model") if found.config else ""
    return _read(found.kind, model, found.config, digest, where)


@functools.cache
def _read(kind: Kind, model: str, path: str | None, digest: str, where: str) -> dict[str, Any]:
    try:
        if kind == "checkpoint":
            config = _of_recipe(yaml.safe_load(Path(path or "").read_text(encoding="utf-8")), where)
        elif kind == "pt":
            config = embedded(path or "")
        else:
            config = json.loads((Path(path) if path else _own_config(model)).read_text(encoding="utf-8"))
        config = config if "model_cfg" in config else {"model_cfg": config}
        _complete(config["model_cfg"])
    except RecipeError:
        raise
    except Exception as error:  # whatever is wrong with a stranger's file
        found, expected = f"{model!r}: {one_line(error)}", "expected an architecture of open_clip, a JSON file of its "
        hint = "python -c 'import open_clip; print(open_clip.list_models())' lists the names"
        if kind == "pt":
            hint = f"name the architecture in `model` and {path} in `pretrained`, or: clipmill export RUN FOLDER"
        expected += f"model_cfg, or an export (a folder with {EXPORT_CONFIG})"
        raise RecipeError(f"{where}.model", found, expected, hint) from None
    return {"preprocess_cfg": {}, "background": "white", **config}


def _complete(model_cfg: dict[str, Any]) -> None:
    """KeyError and the like unless it has what is read of it here."""
    int(model_cfg["embed_dim"])
    dict(model_cfg["vision_cfg"]), dict(model_cfg["text_cfg"])


def _own_config(name: str) -> Path:
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise RecipeError(name, "open_clip is not installed", "", "pip install 'clipmill[train]'")
    return Path(package.origin).parent / "model_configs" / f"{name.replace('/', '-')}.json"


def embedded(path: str) -> dict[str, Any]:
    """What `clipmill export` says in a .pt of the model: as open_clip_config.json. KeyError: it says nothing."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # of an older format, which cannot be mapped
        content = torch.load(path, map_location="cpu", weights_only=True)
    config: dict[str, Any] = content[EXPORT_CONFIG]
    return config


def _of_recipe(recipe: dict[str, Any], where: str) -> dict[str, Any]:
    """The model of a run, as open_clip_config.json would say it, by the recipe that the run saved."""
    train = recipe["train"]
    said, image = train["model"], train.get("image") or {}
    named = said.get("name")
    if named and named.startswith(_LOCAL):
        named = named.removeprefix(_LOCAL)
    own: dict[str, Any] = read_config(named, None if os.path.isdir(named) else "-", where) if named else {}
    model = json.loads(json.dumps(own["model_cfg"] if named else said["config"]))
    if said.get("image_size"):
        model["vision_cfg"]["image_size"] = said["image_size"]
    pixels = {key: said[key] for key in ("mean", "std") if said.get(key)}
    pixels |= {"resize_mode": _RESIZE[image.get("resize", "shortest")], "interpolation": "bicubic"}
    background = image.get("background", "white")
    pixels["fill_color"] = 255 if background == "white" else 0
    tag = {"name": said["name"], "tag": said["pretrained"]} if said.get("name") and said.get("pretrained") else None
    return {"model_cfg": model, "preprocess_cfg": pixels, "background": background, "trained_from": tag}


def checkpoint_tensors(found: ModelFiles, where: str) -> Iterator[tuple[str, Any]]:
    """(name in open_clip's CustomTextCLIP, tensor) of every parameter and buffer. RecipeError: damaged files."""
    from safetensors import safe_open

    step = Path(found.weights[0]).parent
    wanted = _listed(step, where)
    starts = {"image.": "visual.", "text.": "text.", "log_scale": "logit_scale", "bias": "logit_bias"}
    for path in found.weights:
        if storage.sha256_of(path) != wanted[Path(path).name]:
            hint = "name an older step, or train on: a damaged checkpoint is made again"
            raise RecipeError(f"{where}.model", f"{path} is damaged", "expected the bytes that were saved", hint)
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118  # no mapping
                part, _, name = key.partition("/")
                start = next((each for each in starts if name.startswith(each)), None)
                if part in ("param", "buffer") and start is not None:
                    yield starts[start] + name.removeprefix(start), file.get_tensor(key)
