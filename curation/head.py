"""A head trained from a table of labels on vectors that lie in a pool: `clipmill head`.

A label names a picture, or a caption, that a curation with the vector stage has seen:

    sha256      of the bytes, for pictures
    text        the caption as the stage saw it, for captions
    uid, url    of a pair of the dataset at `curate.output`: its picture, or each of its captions

The order of the table, copies of a row and the cut of the pool change nothing.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from curation.methods.units import KEY, kept_schema, keys_of
from curation.methods.vectors.clip_model import maker_of
from curation.methods.vectors.fitting import Fitted, fit, outputs, quality
from curation.methods.vectors.heads import Said, as_file
from curation.methods.vectors.stored import matrix
from curation.pool.columns import Columns
from curation.settings import CurateSettings
from curation.stage import Measure
from curation.stage_order import added
from curation.table.arrow import whole
from curation.table.labels import Labels, read_labels
from curation.table.urls import canonical_url
from pipeline import storage
from pipeline.contract.dataset import open_dataset
from pipeline.draws import keyed_uniforms
from pipeline.errors import DataError, RecipeError
from pipeline.log import get_logger
from pipeline.settings import PathText, Settings

log = get_logger("head")
_CAPTIONS = "captions."
_LEAST = 10  # labels with a vector
_SLOTS = 64  # ranges of keys that columns are read in


class HeadSettings(Settings):
    """The `head` section of a recipe.

    Its file is what the stage `head` reads. `l2` weighs the squared weights against the mean loss; of several the one
    is taken that is best on the labels held out; the head that is written is then fitted to all of them.
    """

    labels: PathText = Field(description="csv, tsv, jsonl or parquet; one of the columns uid, url, sha256, text")
    label: str = Field("label", min_length=1, description="the column of the numbers")
    column: str = Field("image_vector", description="of the vectors: image_vector, or captions.text_vector")
    kind: Literal["ridge", "logistic"] = Field("ridge", description="any numbers, or from 0 to 1 as a probability")
    hidden: int | None = Field(None, ge=1, le=65536, description="units of one hidden layer; default: linear")
    l2: tuple[float, ...] = Field((1e-2, 1e-3, 1e-4, 1e-5), min_length=1)
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the pictures or captions that the figures are of")
    output: PathText

    @field_validator("l2", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("l2")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < each < 1e9 for each in value):
            raise ValueError("expected numbers above 0")
        return value

    @field_validator("output")
    @classmethod
    def _safetensors(cls, value: str) -> str:
        if not value.endswith(".safetensors"):
            raise ValueError("expected a name that ends in .safetensors")
        return value


class Trained(NamedTuple):
    """used: examples, one for each label of a picture or caption; unmatched: labels of nothing that has a vector; bad:
    rows without name or number; figures: on what was held out, by a head fitted to the rest."""

    path: str
    used: int
    unmatched: int
    bad: int
    l2: float
    figures: Mapping[str, float]


class _Examples(NamedTuple):
    """Sorted by key, then by label: vectors float16 [example, value]."""

    keys: list[str]
    vectors: np.ndarray
    labels: np.ndarray


def train_head(settings: HeadSettings, curation: CurateSettings, seed: int) -> Trained:
    """Writes the head. RecipeError before any work; DataError for labels of which nothing can be learnt."""
    at, stage = _stage(settings, curation)
    stage.check(f"curate.stages.{at}", curation.stages[:at])
    ways = ("uid", "url", "text" if settings.column.startswith(_CAPTIONS) else "sha256")
    labels = read_labels(settings.labels, settings.label, ways, "head.labels")
    named = _of_pairs(settings, curation, stage, labels) if labels.by in ("uid", "url") else None
    keys = named or {name: [key] for name, key in zip(labels.names, _keys(stage, labels.names), strict=True)}
    rows = [
        (key, float(number), name)
        for name, number in zip(labels.names, labels.numbers, strict=True)
        for key in keys.get(name, ())
    ]
    examples, seen = _with_vectors(curation, stage, settings.column, rows)
    unmatched = sum(name not in seen for name in labels.names)
    _check(settings, examples, unmatched, labels.bad)
    l2, figures = _chosen(settings, examples, seed)
    fitted = _fitted(settings, examples, l2, seed)
    if not fitted.converged:
        log.warning("head: not at its minimum after %d steps; a larger head.l2 makes it easier to find", fitted.steps)
    activation, output = "relu" if settings.hidden else "none", "sigmoid" if settings.kind == "logistic" else "plain"
    said = Said(maker_of(stage), settings.column, activation, output)  # type: ignore[arg-type]
    more = {"kind": settings.kind, "l2": l2, "labels": len(examples.keys), "held_out": figures}
    storage.publish_bytes(settings.output, as_file(fitted.layers, said, more))
    return Trained(settings.output, len(examples.keys), unmatched, labels.bad, l2, figures)


def _stage(settings: HeadSettings, curation: CurateSettings) -> tuple[int, Measure]:
    """The stage of the recipe that makes the vectors, and its number."""
    for at, stage in enumerate(curation.stages):
        if isinstance(stage, Measure) and stage.store == "vectors" and settings.column in added(stage):
            return at, stage
    found = f"no stage of the recipe adds vectors as {settings.column!r}"
    hint = "head.column=image_vector with `clip_image_vector`, captions.text_vector with `clip_text_vector`"
    raise RecipeError("head.column", found, "expected the column of a stage in curate.stages", hint)


def _keys(stage: Measure, names: list[str]) -> list[str]:
    """The key of each picture (by its sha256) or text in the pool."""
    field = stage.reads[0].removeprefix(_CAPTIONS)
    lowered = [name.lower() for name in names] if stage.unit == "image" else names
    return keys_of(stage, pa.table({field: pa.array(lowered, pa.string())}), {}).to_pylist()


def _of_pairs(settings: HeadSettings, curation: CurateSettings, stage: Measure, labels: Labels) -> dict[str, list[str]]:
    """The keys that each uid or url stands for, by the dataset; only labelled pairs are read, shard by shard."""
    try:
        data = open_dataset(curation.output)
    except DataError as error:
        hint = "clipmill curate RECIPE, or name labels by " + ("sha256" if stage.unit == "image" else "text")
        raise DataError(error.where, error.found, f"labels by {labels.by} are looked up in it", hint) from None
    canonical: dict[str, list[str]] = {}
    for name in set(labels.names):
        one = canonical_url("", name) or name if labels.by == "url" else name
        canonical.setdefault(one, []).append(name)
    wanted, found = pa.array(sorted(canonical), pa.string()), {}
    for number in range(len(data.shards)):
        at = np.flatnonzero(pc.is_in(data.table(number)[labels.by], wanted).to_numpy())
        for pair in data.read_many(number, at) if len(at) else ():
            meta = pair.meta
            image = [str(meta.get("stored_sha256") or meta.get("source_sha256") or meta["sha256"])]
            inputs = image if stage.unit == "image" else [each["text"] for each in meta["captions"]]
            for name in canonical[pair.uid if labels.by == "uid" else meta["url"]]:
                found[name] = _keys(stage, inputs)
    return found


def _with_vectors(
    curation: CurateSettings, stage: Measure, column: str, rows: list[tuple[str, float, str]]
) -> tuple[_Examples, set[str]]:
    """The examples of which the pool has the vector, and the names that they came by."""
    columns = Columns(curation.pool_folder, stage.digest(), kept_schema(stage), _SLOTS)
    wanted, field = pa.array(sorted({key for key, _, _ in rows}), pa.string()), column.removeprefix(_CAPTIONS)
    at: dict[str, int] = {}
    parts = []
    for slot in range(_SLOTS):
        some = columns.read(slot, slot + 1)
        some = some.filter(pc.and_(pc.is_in(some.column(KEY), wanted), pc.is_valid(some.column(field))))
        vectors, there = matrix(some.column(field))
        names = whole(some.column(KEY)).take(pa.array(there)).to_pylist()
        finite = np.isfinite(vectors.astype(np.float32)).all(axis=1) if len(names) else np.zeros(0, bool)
        for name in np.array(names, object)[finite]:
            at[name] = len(at)
        if finite.any():
            parts.append(vectors[finite])
    found = sorted((key, number, name) for key, number, name in rows if key in at)
    vectors = np.concatenate(parts)[[at[key] for key, _, _ in found]] if found else np.zeros((0, 0), np.float16)
    labels = np.array([number for _, number, _ in found])
    return _Examples([key for key, _, _ in found], vectors, labels), {name for _, _, name in found}


def _check(settings: HeadSettings, examples: _Examples, unmatched: int, bad: int) -> None:
    where, told = settings.labels, f"{unmatched} name nothing that has a vector here, {bad} have no name or number"
    if len(set(examples.keys)) < _LEAST:
        hint = "has `clipmill curate RECIPE` measured them, with this very model?"
        found = f"{len(set(examples.keys))} pictures or captions have a label and a vector; {told}"
        raise DataError(where, found, f"expected at least {_LEAST}", hint)
    least, most = float(examples.labels.min()), float(examples.labels.max())
    if settings.kind == "logistic" and not 0 <= least <= most <= 1:
        raise DataError(where, f"labels from {least:g} to {most:g}", "expected 0 to 1", "head.kind=ridge")
    if least == most:
        raise DataError(where, f"all labels are {least:g}", "expected different ones", "")


def _chosen(settings: HeadSettings, examples: _Examples, seed: int) -> tuple[float, dict[str, float]]:
    """The best l2 and its figures on what is held out: drawn by key, so that no picture is on both sides."""
    out = keyed_uniforms(seed, "held_out", examples.keys) < settings.held_out
    if not out.any() or out.all() or np.ptp(examples.labels[~out]) == 0:
        log.warning("head: too few labels to hold some out; head.l2=%g", settings.l2[0])
        return settings.l2[0], {}
    rest = _Examples([], examples.vectors[~out], examples.labels[~out])
    found = []
    for l2 in settings.l2:
        said = outputs(examples.vectors[out], _fitted(settings, rest, l2, seed).layers, settings.kind)
        found.append((l2, quality(said, examples.labels[out], settings.kind)))
    return min(found, key=lambda each: each[1]["loss"])


def _fitted(settings: HeadSettings, examples: _Examples, l2: float, seed: int) -> Fitted:
    return fit(examples.vectors, examples.labels, settings.kind, l2, settings.hidden, seed)
