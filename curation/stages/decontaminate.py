"""Drops pairs that an evaluation set has, too: the same picture, a near copy of it, its words."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.reasons import sift
from curation.methods.references.items import listed_files
from curation.methods.references.reference import Hits, Reference
from curation.stage import Context, Reduce, Section, Stage, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.settings import PathText, Settings

_TESTS = ("bytes", "pixels", "near", "caption")
_STATE = pa.schema(
    [("set", pa.string()), ("test", pa.string()), ("item", pa.string()), ("pairs", pa.int64())]
)  # pairs, of the test `caption` captions, that hit an item


class EvaluationSet(Settings):
    """`path`: as clip_benchmark lays it out, a dataset of clipmill, or images with captions beside them, local or any
    fsspec URL (methods/references/items.py)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    path: PathText


class Decontaminate(Reduce):
    """A pair whose image a set has goes (bytes, pixels, near); a caption that shares words with one of a set goes
    (caption), and the pair with the last of them. The detail is <set>/<item>, of the first set of the recipe that hits,
    by its surest test. It stands behind image_decode.

    radius               of the perceptual hash, in bits; null: no near copies
    max_colour_distance  mean levels between the 8 x 8 thumbnails of near copies: the hash sees no colour
    min_contrast         flatter images are found by bytes and pixels alone
    ngram                words in a row that two captions share, whatever case and signs; null: no look at captions
    min_words            shorter captions are nobody's: "a red car" is not taken from a set. Those shorter than `ngram`
                         must be equal
    """

    kind: Literal["decontaminate"] = "decontaminate"
    reads: ClassVar[tuple[str, ...]] = (
        "image_sha256", "pixels", "phash", "contrast", "tiny_rgb", "captions.text",
    )  # fmt: skip

    sets: tuple[EvaluationSet, ...] = Field(min_length=1)
    radius: int | None = Field(4, ge=0, le=16)
    max_colour_distance: float | None = Field(10.0, ge=0, le=255)
    min_contrast: float = Field(4.0, ge=0)
    ngram: int | None = Field(8, ge=1)
    min_words: int = Field(6, ge=1)

    @model_validator(mode="after")
    def _names_differ(self) -> "Decontaminate":
        names = [each.name for each in self.sets]
        twice = sorted({each for each in names if names.count(each) > 1})
        if twice:
            raise ValueError(f"two sets are named {twice[0]}")
        return self

    def files(self) -> dict[str, str]:
        return {f"sets.{at}.path": each.path for at, each in enumerate(self.sets)}

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        for at, each in enumerate(self.sets):
            listed_files(each.path, f"{where}.sets.{at}.path")
        super().check(where, before)

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        counted: Counter[tuple[str, str, str]] = Counter()
        for each, reference in self._references():
            images, texts = self._hits(pairs, reference)
            counted.update((each, test, reference.names[item]) for test, item in filter(None, (*images, *texts)))
        rows = [(*key, number) for key, number in sorted(counted.items())]
        return pa.Table.from_pylist([dict(zip(_STATE.names, row, strict=True)) for row in rows], schema=_STATE)

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        both = pa.concat_tables([_STATE.empty_table(), *partials])
        summed = both.group_by(["set", "test", "item"]).aggregate([("pairs", "sum")]).rename_columns(_STATE.names)
        return summed.sort_by([(name, "ascending") for name in _STATE.names])

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        flat = explode(pairs)
        reason, detail = np.full(pairs.num_rows, None, object), np.full(pairs.num_rows, None, object)
        text_reason, text_detail = np.full(flat.num_rows, None, object), np.full(flat.num_rows, None, object)
        for name, reference in self._references():
            images, texts = self._hits(pairs, reference)
            _note(images, name, reference, reason, detail)
            _note(texts, name, reference, text_reason, text_detail)
        # Captions of a pair that is dropped for its image are not counted as dropped for their words.
        lost = (reason != None)[whole(flat.column(ROW)).to_numpy()]  # noqa: E711  # element by element
        text_reason[lost] = None
        found = sift(flat, _texts(text_reason), pairs.num_rows, _texts(text_detail))
        return Verdicts(
            reason=pc.coalesce(_texts(reason), found.reason),
            detail=pc.coalesce(_texts(detail), found.detail),
            captions=found.captions,
            caption_drops=found.caption_drops,
        )

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        rows = (state if state is not None else _STATE.empty_table()).to_pylist()
        table = []
        for each in self.sets:
            mine = [row for row in rows if row["set"] == each.name]
            by_test = [sum(row["pairs"] for row in mine if row["test"] == test) for test in _TESTS]
            table.append((each.name, *by_test, len({row["item"] for row in mine})))
        columns = ("set", *(f"pairs: {test}" for test in _TESTS[:3]), "captions", "items of the set that were hit")
        said = "What the crawl had of each evaluation set, as the stage found it; a pair may hit several sets."
        return [Section("Evaluation sets", said, columns, tuple(table))]

    def _hits(self, pairs: pa.Table, reference: Reference) -> tuple[Hits, Hits]:
        texts = explode(pairs).column("text").to_pylist()
        return reference.of_images(pairs, self.max_colour_distance), reference.of_texts(texts)

    def _references(self) -> list[tuple[str, Reference]]:
        return [(each.name, _reference(self, at, digest)) for at, (each, digest) in enumerate(self._named())]

    def _named(self) -> list[tuple[EvaluationSet, str]]:
        return [(each, digest) for each, (_, digest) in zip(self.sets, self.file_digests().values(), strict=True)]


@functools.lru_cache(maxsize=64)
def _reference(stage: Decontaminate, at: int, digest: str) -> Reference:
    """Read once a process and content."""
    where, path = f"{stage.kind}.sets.{at}.path", stage.sets[at].path
    return Reference(path, where, stage.radius, stage.min_contrast, stage.ngram, stage.min_words)


def _note(hits: Hits, name: str, reference: Reference, reason: np.ndarray, detail: np.ndarray) -> None:
    for row, hit in enumerate(hits):
        if hit is not None and reason[row] is None:
            reason[row], detail[row] = hit[0], f"{name}/{reference.names[hit[1]]}"


def _texts(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.string())
