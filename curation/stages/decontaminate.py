"""Drops pairs that an evaluation set has, too: the same picture, a near copy of it, its words."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.reasons import sift
from curation.methods.references.items import listed_files, some_items
from curation.methods.references.pictures import last_step, step_of
from curation.methods.references.reference import Hits, Reference, Tests, nearest_vectors
from curation.methods.references.vectors import (
    PIECES_OF_A_SET,
    Embedder,
    check_reference,
    embedded,
    located,
    located_in,
    none_decodes,
    pieces_of,
    stored,
)
from curation.methods.rounds import Round
from curation.methods.vectors.stored import from_bytes
from curation.stage import Again, Against, Context, Picks, Piece, Reduce, Scores, Section, Stage, Verdicts
from curation.stage_order import added
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.errors import DataError
from pipeline.settings import PathText, Settings

_TESTS = ("bytes", "pixels", "near", "embedding", "caption")
_BY = {"set": pa.string(), "test": pa.string(), "item": pa.string(), "step": pa.int32()}
_COUNTS = pa.schema(_BY | {"pairs": pa.int64()})  # of the test `near` by steps of distance; of `caption` captions
_MOST_SHOWN = 20
_STATE = _COUNTS.append(pa.field("vector", pa.binary()))
_COUNTED = ("bytes", "pixels", "near", "caption")
_VECTOR = "vector"
"""The test of those rows of the state that hold the vectors of a set, in its order, and count nothing."""


class EvaluationSet(Settings):
    """`path`: as clip_benchmark lays it out, a dataset of clipmill, or images with captions beside them, local or any
    fsspec URL (methods/references/items.py). `vectors`: those of its pictures, where somebody has them (.npy, .npz or
    parquet, `key` being the array or column); without it `embed` of the stage makes them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    path: PathText
    vectors: PathText | None = None
    key: str | None = Field(None, min_length=1)


class Decontaminate(Reduce):
    """A pair whose image a set has goes (bytes, pixels, near, embedding); a caption that shares words with one of a set
    goes (caption), and the pair with the last of them. The detail is <set>/<item>, of the first set of the recipe that
    hits, by its surest test. It stands behind image_decode, and with `min_cosine` behind clip_image_vector.

    max_difference, max_colour_difference, most_compared
                         what a near copy is, re-encoded, resized, cropped or framed: as in perceptual_duplicates, and
                         found in the same way; where many are like an item by degrees, those before a gap
                         (methods/references/pictures.py). max_difference null: no near copies
    min_contrast         flatter images are found by bytes and pixels alone
    min_cosine           of image_vector with the vector of an item (embedding); null: no look at vectors
    embed                the model that the pictures of the sets are shown to, once, in pieces of 1,024: that of
                         clip_image_vector
    ngram                words in a row that two captions share, whatever case and signs; null: no look at captions
    min_words            shorter captions are nobody's: "a red car" is not taken from a set. Those shorter than `ngram`
                         must be equal

    Reasons: bytes, pixels, near, embedding, caption.
    """

    kind: Literal["decontaminate"] = "decontaminate"
    version: ClassVar[int] = 2  # 2: near copies by sketches and registration; vectors

    sets: tuple[EvaluationSet, ...] = Field(min_length=1)
    max_difference: float | None = Field(0.25, gt=0)
    max_colour_difference: float = Field(40.0, ge=0, le=510)
    most_compared: int = Field(32, ge=1, le=1024)
    min_contrast: float = Field(4.0, ge=0)
    min_cosine: float | None = Field(None, gt=0, le=1)
    embed: Embedder | None = None
    ngram: int | None = Field(8, ge=1)
    min_words: int = Field(6, ge=1)

    @model_validator(mode="after")
    def _names_differ(self) -> "Decontaminate":
        names = [each.name for each in self.sets]
        twice = sorted({each for each in names if names.count(each) > 1})
        if twice:
            raise ValueError(f"two sets are named {twice[0]}")
        if self.min_cosine is None and (self.embed is not None or any(each.vectors for each in self.sets)):
            raise ValueError("vectors of the sets, and no min_cosine from which on a pair is an item")
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        looks = ("grey", "width", "height") if self.max_difference is not None else ()
        vectors = ("image_vector",) if self.min_cosine is not None else ()
        return ("image_sha256", "pixels", "contrast", "tiny_rgb", *looks, *vectors, "captions.text")

    def files(self) -> dict[str, str]:
        paths = {f"sets.{at}.path": each.path for at, each in enumerate(self.sets)}
        return paths | {f"sets.{at}.vectors": each.vectors for at, each in enumerate(self.sets) if each.vectors}

    def file_digests(self) -> dict[str, tuple[str, str]]:
        return super().file_digests() | (self.embed.file_digests(f"{self.kind}.embed") if self.embed else {})

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        by = next((stage for stage in before if "image_vector" in added(stage)), None)
        for at, each in enumerate(self.sets):
            listed_files(each.path, f"{where}.sets.{at}.path")
            if self.min_cosine is not None:
                name = "vectors" if each.vectors else "path"
                check_reference(
                    each.vectors or each.path, self.embed, f"{where}.sets.{at}.{name}", f"{where}.embed", by
                )
        super().check(where, before)

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        """How often each item is hit, and of near pictures how far they are: what copies are depends on the others."""
        counted: Counter[tuple[str, str, str, int]] = Counter()
        for at, each in enumerate(self.sets):
            reference = self._known(at)
            hits = filter(None, (*reference.equal(pairs), *reference.of_texts(_texts_of(pairs))))
            counted.update((each.name, test, reference.names[item], 0) for test, item in hits)
            near = reference.near(pairs)
            steps = zip(near.item.tolist(), step_of(near.grey).tolist(), strict=True)
            counted.update((each.name, "near", reference.names[item], step) for item, step in steps)
        rows = [(*key, number) for key, number in sorted(counted.items())]
        return pa.Table.from_pylist([dict(zip(_COUNTS.names, row, strict=True)) for row in rows], schema=_COUNTS)

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        both = pa.concat_tables([_COUNTS.empty_table(), *partials])
        summed = both.group_by(list(_BY)).aggregate([("pairs", "sum")]).rename_columns(_COUNTS.names)
        return summed.sort_by([(name, "ascending") for name in _BY])

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        pieces = PIECES_OF_A_SET * len(self._embedded_here())
        return (Round(), Round(pieces, asks=False)) if pieces else (Round(),)

    def _embedded_here(self) -> list[EvaluationSet]:
        return [each for each in self.sets if self.min_cosine is not None and not each.vectors]

    def pieces(self, state: pa.Table) -> int:
        return pieces_of(located_in(state).num_rows) if "file" in state.column_names else 0

    def finish_piece(self, partial: pa.Table | None, piece: int, state: pa.Table, ctx: Context) -> Piece:
        assert self.embed is not None  # checked before any work
        told = embedded(located_in(state), piece, self.embed, self.kind)
        return Piece(told.slice(0, 0), told)

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        """The counts, and the vectors of the sets: those of pictures are made in pieces, in a round of its own."""
        if state is None:
            known = [self._vectors_of(at) for at, each in enumerate(self.sets) if self.min_cosine and each.vectors]
            found = pa.concat_tables([_STATE.empty_table(), partial, *known], promote_options="default")
            places = [located(each.path, f"{self.kind}.sets", f"{each.name}/") for each in self._embedded_here()]
            return Again(pa.concat_tables([found, *places], promote_options="default"), asks=False) if places else found
        made = [state.filter(pc.is_null(state["file"])).select(_STATE.names)]
        for each in self._embedded_here():
            mine = partial.filter(pc.starts_with(partial["name"], f"{each.name}/"))
            if not mine.num_rows:
                raise none_decodes(each.path)
            names = [name.removeprefix(f"{each.name}/") for name in mine["name"].to_pylist()]
            made.append(_as_state(each.name, names, mine["vector"].to_pylist()))
        return pa.concat_tables(made)

    def _vectors_of(self, at: int) -> pa.Table:
        """_STATE of the vectors that somebody has made of a set."""
        each, names = self.sets[at], self._known(at).names
        vectors = stored(each.vectors or "", each.key, f"{self.kind}.sets.{at}")
        if len(names) != len(vectors):
            said = f"{len(vectors)} vectors, where the set has {len(names)} items"
            raise DataError(each.vectors or each.path, said, "one for each item, in the order of their names", "")
        return _as_state(each.name, names, [vector.astype("<f2").tobytes() for vector in vectors])

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        flat = explode(pairs)
        reason, detail = np.full(pairs.num_rows, None, object), np.full(pairs.num_rows, None, object)
        text_reason, text_detail = np.full(flat.num_rows, None, object), np.full(flat.num_rows, None, object)
        counts: Counter[str] = Counter()
        for at, each in enumerate(self.sets):
            reference = self._known(at)
            images = self._of_images(pairs, reference, state.filter(pc.equal(state["set"], each.name)))
            texts = reference.of_texts(_texts_of(pairs))
            counts.update(f"{each.name}: {hit[0]}" for hit in filter(None, (*images, *texts)))
            _note(images, each.name, reference, reason, detail)
            _note(texts, each.name, reference, text_reason, text_detail)
        # Captions of a pair that is dropped for its image are not counted as dropped for their words.
        lost = (reason != None)[whole(flat.column(ROW)).to_numpy()]  # noqa: E711  # element by element
        text_reason[lost] = None
        found = sift(flat, _texts(text_reason), pairs.num_rows, _texts(text_detail))
        return Verdicts(
            reason=pc.coalesce(_texts(reason), found.reason),
            detail=pc.coalesce(_texts(detail), found.detail),
            captions=found.captions,
            caption_drops=found.caption_drops,
            counts=dict(counts),
        )

    def shown(self, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> list[Scores | Picks]:
        """Of each set and test some of the pairs that went, each beside its item."""
        reason, detail = whole(verdicts.reason), whole(verdicts.detail)
        found: list[Scores | Picks] = []
        for at, each in enumerate(self.sets):
            of_set = pc.fill_null(pc.starts_with(detail, f"{each.name}/"), False)
            for place, test in enumerate(_TESTS):
                hit = pc.and_(of_set, pc.fill_null(pc.equal(reason, test), False))
                rows = np.flatnonzero(hit.to_numpy(zero_copy_only=False))
                against = detail.take(pa.array(rows, pa.int64()))
                title = f"{each.name}: {test}, each beside its item"
                found.append(Picks(title, rows, place=at * len(_TESTS) + place, against=against))
        return found

    def held_against(self, names: Sequence[str]) -> Mapping[str, Against]:
        found: dict[str, Against] = {}
        for at, each in enumerate(self.sets):
            wanted = {name.removeprefix(f"{each.name}/") for name in names if name.startswith(f"{each.name}/")}
            for item in some_items(each.path, f"{self.kind}.sets.{at}.path", wanted) if wanted else ():
                found[f"{each.name}/{item.name}"] = Against(item.image, next(iter(item.captions), ""))
        return found

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        others = counts.get("others", {})
        table = [(each.name, *(others.get(f"{each.name}: {test}", 0) for test in _TESTS)) for each in self.sets]
        columns = ("set", *(f"pairs: {test}" for test in _TESTS[:-1]), "captions")
        said = "What the crawl had of each evaluation set, by the surest test; a pair may hit several sets."
        found = [Section("Evaluation sets", said, columns, tuple(table))]
        if state is None:
            return found
        for each in self.sets:
            most = _most_hit(state.filter(pc.equal(state["set"], each.name)), self.max_difference or 0.0)
            found += [Section(f"Hit most often of {each.name}", "", ("item", *_COUNTED), most)] if most else []
        return found

    def _of_images(self, pairs: pa.Table, reference: Reference, state: pa.Table) -> Hits:
        """By the surest test. `state`: of this set."""
        number = {name: at for at, name in enumerate(reference.names)}
        hits = reference.equal(pairs)
        last = np.zeros(len(number), np.int64)
        for name, step in _last_steps(state, self.max_difference or 0.0).items():
            last[number[name]] = step
        near = reference.near(pairs)
        copies = (step_of(near.grey) <= last[near.item]) & (near.grey < (self.max_difference or 0.0))
        order = np.flatnonzero(copies)[np.lexsort((near.item[copies], near.grey[copies], near.row[copies]))]
        for row, item in zip(near.row[order].tolist(), near.item[order].tolist(), strict=True):
            hits[row] = hits[row] or ("near", item)
        if self.min_cosine is not None:
            vectors = state.filter(pc.equal(state["test"], _VECTOR))
            found = nearest_vectors(pairs.column("image_vector"), from_bytes(vectors["vector"]), self.min_cosine)
            names = vectors["item"].to_pylist()
            for row in np.flatnonzero(found >= 0).tolist():
                hits[row] = hits[row] or ("embedding", number[names[found[row]]])
        return hits

    def _known(self, at: int) -> Reference:
        return _reference(self, at, self.file_digests()[f"sets.{at}.path"][1])


def _as_state(name: str, items: list[str], vectors: list[bytes]) -> pa.Table:
    num = len(items)
    columns = [[name] * num, [_VECTOR] * num, items, [0] * num, [0] * num, vectors]
    return pa.table(columns, schema=_STATE)


@functools.lru_cache(maxsize=64)
def _reference(stage: Decontaminate, at: int, digest: str) -> Reference:
    """Read once a process and content."""
    where, path = f"{stage.kind}.sets.{at}.path", stage.sets[at].path
    return Reference(path, where, Tests(**{name: getattr(stage, name) for name in Tests.model_fields}))


def _last_steps(state: pa.Table, most: float) -> dict[str, int]:
    """How far copies of each item go: of those that something is near to."""
    found: dict[str, list[tuple[int, int]]] = {}
    near = state.filter(pc.equal(state["test"], "near"))
    for item, step, pairs in zip(*(near[name].to_pylist() for name in ("item", "step", "pairs")), strict=True):
        found.setdefault(item, []).append((step, pairs))
    told = {item: np.array(some) for item, some in found.items()}
    return {item: last_step(some[:, 0], some[:, 1], most) for item, some in told.items()}


def _most_hit(state: pa.Table, most: float) -> tuple[tuple[str | int, ...], ...]:
    """Who of a set was hit by what, each test by itself: the twenty hit most often."""
    last, hit = _last_steps(state, most), Counter[tuple[str, str]]()
    for row in state.filter(pc.is_in(state["test"], pa.array(_COUNTED))).drop_columns(["vector"]).to_pylist():
        if row["test"] != "near" or row["step"] <= last[row["item"]]:
            hit[row["item"], row["test"]] += row["pairs"]
    total = Counter[str]()
    for (item, _), number in hit.items():
        total[item] += number
    shown = sorted(total, key=lambda item: (-total[item], item))[:_MOST_SHOWN]
    return tuple((item, *(hit[item, test] for test in _COUNTED)) for item in shown)


def _texts_of(pairs: pa.Table) -> list[str]:
    return explode(pairs).column("text").to_pylist()


def _note(hits: Hits, name: str, reference: Reference, reason: np.ndarray, detail: np.ndarray) -> None:
    for row, hit in enumerate(hits):
        if hit is not None and reason[row] is None:
            reason[row], detail[row] = hit[0], f"{name}/{reference.names[hit[1]]}"


def _texts(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.string())
