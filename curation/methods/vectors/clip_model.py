"""The one doorway of curation to open_clip: pictures and texts to vectors of unit length, by a model that is named.

A vector depends on its input and on the stage's settings alone: the model is always called on `chunk` rows, the last
ones filled up with blanks, so that no product of matrices has another shape for other neighbours. A GPU's vectors are
not a CPU's to the last bit.
"""

import functools
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.stage import Measure, Stage
from curation.table.file_digests import file_digest
from pipeline.errors import RecipeError, one_line


class ClipVectors(Measure):
    """What the stages that embed share.

    model       an architecture that open_clip knows, or the path of a JSON file of its model_cfg, open_clip_config.json
    pretrained  the path of its weights, or a tag of open_clip
    precision   of the products: bf16 is for GPUs
    chunk       inputs that the model is given at once; another number is another measurement
    """

    store: ClassVar = "vectors"
    actors: ClassVar[bool] = True
    batch: ClassVar[int] = 256

    model: str = Field("ViT-B-32", min_length=1)
    pretrained: str = Field(min_length=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    chunk: int = Field(32, ge=1)

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]  # the width is the model's
        width = read_config(self.model, self.kind)["model_cfg"]["embed_dim"]
        return tuple(pa.field(name, pa.list_(pa.float16(), width)) for name in self.added_names)

    def file_digests(self) -> dict[str, tuple[str, str]]:
        paths = {"model": self.model, "pretrained": self.pretrained}
        files = {name: path for name, path in paths.items() if _is_file(path)}
        return {name: (path, file_digest(path, f"{self.kind}.{name}")) for name, path in files.items()}

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        """The weights are there and are those of the model. They are loaded for it."""
        digests = [digest for _, digest in self.file_digests().values()]
        _checked(self.model, self.pretrained, where, *digests)

    def loaded(self) -> "ClipModel":
        return ClipModel.load(self.model, self.pretrained, self.precision, self.kind)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) or path.endswith((".json", ".pt", ".bin", ".safetensors"))


@functools.cache
def _checked(model: str, pretrained: str, where: str, *digests: str) -> None:
    ClipModel.load(model, pretrained, "fp32", where)


@functools.cache
def read_config(model: str, where: str) -> dict[str, Any]:
    """{"model_cfg", "preprocess_cfg"}; open_clip's own are read off its files: importing it would cost seconds."""
    path = Path(model)
    if not model.endswith(".json"):
        package = importlib.util.find_spec("open_clip")
        if package is None or package.origin is None:
            raise RecipeError(f"{where}.model", "open_clip is not installed", "", "pip install 'clipmill[train]'")
        path = Path(package.origin).parent / "model_configs" / f"{model.replace('/', '-')}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        config: dict[str, Any] = found if "model_cfg" in found else {"model_cfg": found}
        int(config["model_cfg"]["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = "expected an architecture of open_clip, or a JSON file of its model_cfg"
        hint = "python -c 'import open_clip; print(open_clip.list_models())' lists the names"
        raise RecipeError(f"{where}.model", f"{model!r}: {one_line(error)}", expected, hint) from None
    return {"preprocess_cfg": {}, **config}


class ClipModel:
    """Both towers, on a GPU where this process sees one."""

    def __init__(self, towers: Any, tokenize: Any, transform: Any, precision: str) -> None:
        import torch

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._towers, self._bf16 = towers.to(self._device).eval(), precision == "bf16"
        self.tokenize, self.transform = tokenize, transform

    @classmethod
    def load(cls, model: str, pretrained: str, precision: str, where: str) -> "ClipModel":
        """RecipeError: no such model or weights, weights of another one, a tokenizer that cannot be had."""
        import open_clip

        config = read_config(model, where)
        model_cfg, seen = {**config["model_cfg"]}, dict(config["preprocess_cfg"])
        path, tag = _weights(model, pretrained, where)
        if tag.get("quick_gelu"):  # the weights were trained with it, whatever the name says
            model_cfg["quick_gelu"] = True
        for part, key in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
            if key.split("_")[0] + "_model_name" in model_cfg[part]:
                model_cfg[part] = {**model_cfg[part], key: False}
        try:
            towers = open_clip.CustomTextCLIP(**{k: v for k, v in model_cfg.items() if k != "custom_text"})
            open_clip.load_checkpoint(towers, path)
        except Exception as error:  # wrong keys or shapes, no checkpoint, a config that builds nothing
            expected = "expected weights of this model"
            raise RecipeError(f"{where}.pretrained", f"{path}: {one_line(error)}", expected) from None
        seen = {name: tag[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in tag} | seen
        seen = {name: seen[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in seen}
        seen = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD} | seen
        transform = open_clip.image_transform(towers.visual.image_size, is_train=False, **seen)
        return cls(towers, _tokenizer(model, model_cfg["text_cfg"], where), transform, precision)

    def images(self, pictures: list[Any], chunk: int) -> np.ndarray:
        """float16 [picture, value] of RGB pictures."""
        import torch

        return self._vectors([self.transform(each) for each in pictures], chunk, self._towers.encode_image, torch.stack)

    def texts(self, texts: list[str], chunk: int) -> np.ndarray:
        """float16 [text, value]."""
        import torch

        return self._vectors(list(self.tokenize(texts)), chunk, self._towers.encode_text, torch.stack)

    def _vectors(self, rows: list[Any], chunk: int, encode: Any, stack: Any) -> np.ndarray:
        import torch

        made = []
        for at in range(0, len(rows), chunk):
            some = rows[at : at + chunk]
            filled = stack([*some, *[torch.zeros_like(some[0])] * (chunk - len(some))]).to(self._device)
            with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
                found = torch.nn.functional.normalize(encode(filled).float(), dim=-1)
            made.append(found[: len(some)].cpu().numpy().astype(np.float16))
        return np.concatenate(made)


def _weights(model: str, pretrained: str, where: str) -> tuple[str, dict[str, Any]]:
    """(path, what the tag says of itself)."""
    import open_clip

    if os.path.isfile(pretrained):
        return pretrained, {}
    tags = [] if model.endswith(".json") else open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        expected = f"expected a file{f' or one of {chr(44).join(tags)}' if tags else ''}"
        raise RecipeError(f"{where}.pretrained", f"{pretrained!r} is no file and no tag of {model}", expected)
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    try:
        return open_clip.download_pretrained(tag), tag
    except Exception as error:  # whatever the hub's client raises without a network
        found, hint = f"{pretrained!r} cannot be downloaded: {one_line(error)}", "give the path of the file"
        raise RecipeError(f"{where}.pretrained", found, "", hint) from None


def _tokenizer(model: str, text_cfg: dict[str, Any], where: str) -> Any:
    import open_clip

    length = text_cfg.get("context_length", 77)
    try:
        if not model.endswith(".json"):
            return open_clip.get_tokenizer(model, context_length=length)
        if text_cfg.get("hf_tokenizer_name"):
            return open_clip.HFTokenizer(text_cfg["hf_tokenizer_name"], context_length=length)
        return open_clip.SimpleTokenizer(context_length=length)
    except Exception as error:  # a hub's client, a missing package
        raise RecipeError(f"{where}.model", f"its tokenizer cannot be loaded: {one_line(error)}", "") from None


def as_column(vectors: np.ndarray, width: int) -> pa.Array:
    """float16 [row, width] as a column."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, width)
