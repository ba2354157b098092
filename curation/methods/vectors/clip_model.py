"""The one doorway of curation to open_clip: pictures and texts to vectors of unit length, by a model that is named.

A vector depends on its input and on the stage's settings alone: the model is always called on `chunk` rows, the last
ones filled up with blanks, so that no product of matrices has another shape for other neighbours. A GPU's vectors are
not a CPU's to the last bit.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from curation.methods.vectors.clip_files import checkpoint_tensors, digests, embedded, find_model, read_config
from curation.stage import Measure, Stage
from pipeline.errors import RecipeError, one_line
from pipeline.settings import digest_of

_LONG = 8  # aspect ratio from which the middle of a strip is cut out before it is scaled
_PIXELS = ("mean", "std", "interpolation", "resize_mode", "fill_color")  # of preprocess_cfg
_SCALARS = ("logit_scale", "logit_bias")  # of shape [1] in a checkpoint


def own_is_none(pretrained: str | None) -> str | None:
    return None if pretrained == "own" else pretrained


class ClipVectors(Measure):
    """What the stages that embed share.

    model       an architecture that open_clip knows, or the path of a JSON file of its model_cfg; or of what has
                weights of its own: a folder or .pt that `clipmill export` wrote, a run, one of its checkpoints
                (methods/vectors/clip_files.py)
    pretrained  the weights of an architecture: the path of a file, or a tag of open_clip; `own`, like leaving it out,
                for a model that has its own, so that a recipe may take both from variables
    precision   of the products: bf16 is for GPUs
    chunk       inputs that the model is given at once; another number is another measurement
    """

    store: ClassVar = "vectors"
    actors: ClassVar[bool] = True
    batch: ClassVar[int] = 256

    model: str = Field("ViT-B-32", min_length=1)
    pretrained: str | None = Field(None, min_length=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    chunk: int = Field(32, ge=1)

    _own = field_validator("pretrained")(own_is_none)

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]  # the width is the model's
        width = read_config(self.model, self.pretrained, self.kind)["model_cfg"]["embed_dim"]
        return tuple(pa.field(name, pa.list_(pa.float16(), width)) for name in self.added_names)

    def file_digests(self) -> dict[str, tuple[str, str]]:
        return digests(self.model, self.pretrained, self.kind)

    def model_digest(self) -> str:
        """Names the model alone: vectors of pictures and of texts with the same one can be compared."""
        said = {"model": self.model, "pretrained": self.pretrained}
        return digest_of(said | {name: digest for name, (_, digest) in self.file_digests().items()})

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        digests(self.model, self.pretrained, where)
        read_config(self.model, self.pretrained, where)

    def try_out(self, where: str) -> None:
        """The weights are there and are those of the model."""
        found = digests(self.model, self.pretrained, where)
        _checked(self.model, self.pretrained, where, *[digest for _, digest in found.values()])

    def loaded(self) -> "ClipModel":
        return ClipModel.load(self.model, self.pretrained, self.precision, self.kind)


def maker_of(stage: Stage) -> str:
    """A digest of what made the vectors that a stage adds: of CLIP the model, whatever the batch and precision."""
    return stage.model_digest() if isinstance(stage, ClipVectors) else stage.digest()


@functools.cache
def _checked(model: str, pretrained: str | None, where: str, *digests: str) -> None:
    ClipModel.load(model, pretrained, "fp32", where)


class ClipModel:
    """Both towers, on a GPU where this process sees one. background: what transparent pictures were trained on."""

    def __init__(
        self, towers: Any, tokenize: Any, transform: Any, precision: str, background: str = "white", resize: str = ""
    ) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.towers, self._bf16 = towers.to(self.device).eval(), precision == "bf16"
        self.tokenize, self.transform, self.background, self._resize = tokenize, transform, background, resize
        size = towers.visual.image_size
        self._size = size if isinstance(size, int) else max(size)

    @classmethod
    def load(cls, model: str, pretrained: str | None, precision: str, where: str) -> "ClipModel":
        """RecipeError: no such model or weights, weights of another one, a tokenizer that cannot be had."""
        import open_clip

        config = read_config(model, pretrained, where)
        model_cfg, seen = {**config["model_cfg"]}, dict(config["preprocess_cfg"])
        background = config["background"]
        load, tag = _weights(model, pretrained, where)
        if tag.get("quick_gelu"):  # the weights were trained with it, whatever the name says
            model_cfg["quick_gelu"] = True
        for part, key in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
            if key.split("_")[0] + "_model_name" in model_cfg[part]:
                model_cfg[part] = {**model_cfg[part], key: False}
        towers = _built(model_cfg, load, pretrained or model, f"{where}.{'pretrained' if pretrained else 'model'}")
        exported = tag.get("export")
        if exported is not None and not seen:  # a .pt of ours under the name, or the model_cfg, of its architecture
            seen, background = dict(exported["preprocess_cfg"]), exported.get("background", "white")
        seen = {name: tag[name] for name in _PIXELS if name in tag} | seen
        seen = {name: seen[name] for name in _PIXELS if seen.get(name) is not None}
        seen = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD} | seen
        transform = open_clip.image_transform(towers.visual.image_size, is_train=False, **seen)
        tokenize = _tokenizer(model, pretrained, model_cfg["text_cfg"], where)
        return cls(towers, tokenize, transform, precision, background, seen.get("resize_mode", "shortest"))

    def images(self, pictures: list[Any], chunk: int) -> np.ndarray:
        """float16 [picture, value] of RGB pictures."""
        import torch

        rows = [self.prepared(each) for each in pictures]
        return self._vectors(rows, chunk, self.towers.encode_image, torch.stack)

    def prepared(self, picture: Any) -> Any:
        """An RGB picture as the image tower takes it, float32 [C, H, W]."""
        return self.transform(_strip(picture, self._resize, self._size))

    def autocast(self) -> Any:
        import torch

        return torch.autocast(self.device, torch.bfloat16, enabled=self._bf16)

    def texts(self, texts: list[str], chunk: int) -> np.ndarray:
        """float16 [text, value]."""
        import torch

        return self._vectors(list(self.tokenize(texts)), chunk, self.towers.encode_text, torch.stack)

    def _vectors(self, rows: list[Any], chunk: int, encode: Any, stack: Any) -> np.ndarray:
        import torch

        made = []
        for at in range(0, len(rows), chunk):
            some = rows[at : at + chunk]
            filled = stack([*some, *[torch.zeros_like(some[0])] * (chunk - len(some))]).to(self.device)
            with torch.inference_mode(), self.autocast():
                found = torch.nn.functional.normalize(encode(filled).float(), dim=-1)
            made.append(found[: len(some)].cpu().numpy().astype(np.float16))
        return np.concatenate(made)


def _strip(picture: Any, mode: str, size: int) -> Any:
    """A picture that is far longer than wide, as the transform can take it; any other is left alone."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    if mode == "shortest" and long > _LONG * short:  # all that is seen of it is its middle; scaled first: gigabytes
        x, y = (width - short) // 2, (height - short) // 2
        return picture.crop((x, y, x + short, y + short))
    if mode == "longest" and long > 2 * size * short:  # it would be scaled to less than a pixel
        from PIL import Image

        return picture.resize((size, 1) if width > height else (1, size), Image.Resampling.BICUBIC)
    return picture


def _built(model_cfg: dict[str, Any], load: Any, shown: str, where: str) -> Any:
    """The towers with their weights; RecipeError when these are of another model, damaged, or not finite."""
    import open_clip
    import torch

    kind = open_clip.CoCa if "multimodal_cfg" in model_cfg else open_clip.CustomTextCLIP
    hint = "name the model that the weights were trained as; `clipmill export RUN FOLDER` writes both together"
    try:
        towers = kind(**{name: value for name, value in model_cfg.items() if name != "custom_text"})
        load(towers)
    except RecipeError:
        raise
    except Exception as error:  # wrong keys or shapes, no checkpoint, a config that builds nothing
        raise RecipeError(where, f"{shown}: {one_line(error)}", "expected weights of this model", hint) from None
    odd = [name for name, each in towers.named_parameters() if not bool(torch.isfinite(each).all())]
    if odd:
        found = f"{shown}: {odd[0]} holds NaN or infinity"
        raise RecipeError(where, found, "expected finite weights", "use an earlier checkpoint")
    return towers


def _weights(model: str, pretrained: str | None, where: str) -> tuple[Any, dict[str, Any]]:
    """(a function that gives towers their weights, what the tag says of itself)."""
    import open_clip

    found = find_model(model, pretrained, where)
    if found.kind == "checkpoint":
        tag = read_config(model, pretrained, where)["trained_from"]
        said = open_clip.get_pretrained_cfg(tag["name"], tag["tag"]) if tag else {}
        pixels = {name: said[name] for name in ("mean", "std") if name in said}  # as training takes it
        return lambda towers: _give(towers, dict(checkpoint_tensors(found, where))), pixels
    path, tag = (found.weights[0], {}) if found.weights else _of_tag(model, pretrained or "", where)
    if path.endswith(".pt") and found.kind in ("name", "json"):
        try:
            tag = {"export": embedded(path)}
        except Exception:  # of another tool, or damaged: loading it says so
            tag = {}
    return lambda towers: open_clip.load_checkpoint(towers, path), tag


def _give(towers: Any, tensors: dict[str, Any]) -> None:
    if "logit_bias" not in tensors and towers.logit_bias is not None:
        tensors["logit_bias"] = towers.logit_bias.detach()
    if towers.logit_bias is None:
        tensors.pop("logit_bias", None)  # no vector depends on it
    own = towers.state_dict()
    for name in set(_SCALARS) & set(tensors):
        tensors[name] = tensors[name].reshape(own[name].shape)
    towers.load_state_dict(tensors)


def _of_tag(model: str, pretrained: str, where: str) -> tuple[str, dict[str, Any]]:
    import open_clip

    tags = [] if model.endswith(".json") else open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        expected = f"expected a file{f' or one of {chr(44).join(tags)}' if tags else ''}"
        hint = "give the path of the weights, or as `model` what `clipmill export RUN FOLDER` wrote"
        raise RecipeError(f"{where}.pretrained", f"{pretrained!r} is no file and no tag of {model}", expected, hint)
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    try:
        return open_clip.download_pretrained(tag), tag
    except Exception as error:  # whatever the hub's client raises without a network
        found, hint = f"{pretrained!r} cannot be downloaded: {one_line(error)}", "give the path of the file"
        raise RecipeError(f"{where}.pretrained", found, "", hint) from None


def _tokenizer(model: str, pretrained: str | None, text_cfg: dict[str, Any], where: str) -> Any:
    import open_clip

    length, options = text_cfg.get("context_length", 77), text_cfg.get("tokenizer_kwargs") or {}
    kind = find_model(model, pretrained, where).kind
    try:
        if kind in ("name", "folder"):  # a folder may hold the files of its tokenizer, too
            name = model if kind == "name" else f"local-dir:{model.removeprefix('local-dir:')}"
            return open_clip.get_tokenizer(name, context_length=length)
        if text_cfg.get("hf_tokenizer_name"):
            options = {"tokenizer_mode": text_cfg.get("tokenizer_mode"), **options}
            return open_clip.HFTokenizer(text_cfg["hf_tokenizer_name"], context_length=length, **options)
        return open_clip.SimpleTokenizer(context_length=length, **options)
    except Exception as error:  # a hub's client, a missing package
        hint = "use a model with open_clip's own tokenizer, or a folder that holds the tokenizer's files"
        raise RecipeError(f"{where}.model", f"its tokenizer cannot be loaded: {one_line(error)}", "", hint) from None


def as_column(vectors: np.ndarray, width: int) -> pa.Array:
    """float16 [row, width] as a column."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, width)
