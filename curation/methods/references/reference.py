"""An evaluation set as what pairs are held against: some 3 kB an item."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.images.phash import SIDE
from curation.images.pixels import TINY_SIDE, Look, measured, seen
from curation.methods.pictures.registration import Looks
from curation.methods.references.items import items
from curation.methods.references.phrases import phrases
from curation.methods.references.pictures import Near, PictureSet
from curation.methods.vectors.clusters import unit_vectors
from curation.methods.vectors.stored import matrix
from curation.table.arrow import whole
from pipeline import storage
from pipeline.images.decoder import Picture, Refused
from pipeline.log import get_logger
from pipeline.settings import Settings

log = get_logger("curation")
_BATCH = 256
_COSINES = 1 << 22  # of a matrix at once
Hits = list[tuple[str, int] | None]
"""Of each row the test that hit, and the number of the item; None without a hit."""


class Tests(Settings):
    """What near copies and shared captions are: as in the stage `decontaminate`."""

    max_difference: float | None
    max_colour_difference: float
    min_contrast: float
    most_compared: int
    ngram: int | None
    min_words: int


class Reference:
    """names: of the items, by number. undecodable: items of whose image only the bytes are known."""

    def __init__(self, path: str, where: str, tests: Tests) -> None:
        self.names: list[str] = []
        self.undecodable = 0
        self._tests = tests
        self._bytes: dict[bytes, int] = {}
        self._pixels: dict[bytes, int] = {}
        self._phrases: dict[bytes, int] = {}
        self._numbers: list[int] = []  # of the items whose pictures can be laid over others
        shown: list[tuple[bytes, bytes, float]] = []
        looks: dict[int, Look] = {}
        for number, item in enumerate(items(path, where)):
            self.names.append(item.name)
            for text in item.captions:
                for phrase in self._phrases_of(text):
                    self._phrases.setdefault(phrase, number)
            if item.image is not None:
                self._bytes.setdefault(hashlib.sha256(item.image).digest(), number)
                self._look(item.image, number, looks)
            if len(looks) == _BATCH:
                self._take(looks, shown)
        self._take(looks, shown)
        self._pictures = PictureSet(_looks_of(shown))
        if self.undecodable:
            log.warning("%s: %d images do not decode: known by their bytes", storage.shown(path), self.undecodable)

    def _look(self, body: bytes, number: int, looks: dict[int, Look]) -> None:
        try:
            _, looks[number] = seen(Picture(body))
        except Refused:
            self.undecodable += 1

    def _take(self, looks: dict[int, Look], shown: list[tuple[bytes, bytes, float]]) -> None:
        found = measured(list(looks.values()))
        for at, number in enumerate(looks):
            self._pixels.setdefault(bytes.fromhex(found["pixels"][at]), number)
            if self._tests.max_difference is not None and found["contrast"][at] >= self._tests.min_contrast:
                self._numbers.append(number)
                shown.append(
                    (found["grey"][at], found["tiny_rgb"][at], found["width"][at] / max(found["height"][at], 1))
                )
        looks.clear()

    def _phrases_of(self, text: str) -> list[bytes]:
        if self._tests.ngram is None:
            return []
        said = phrases(text, self._tests.ngram, self._tests.min_words)
        return [hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=12).digest() for each in said]

    def equal(self, pairs: pa.Table) -> Hits:
        """By bytes, else by pixels."""
        hits: Hits = []
        columns = (pairs.column(name).to_pylist() for name in ("image_sha256", "pixels"))
        for sha, pixels in zip(*columns, strict=True):
            found = (
                ("bytes", self._bytes.get(bytes.fromhex(sha or ""))),
                ("pixels", self._pixels.get(bytes.fromhex(pixels or ""))),
            )
            hits.append(next(((test, item) for test, item in found if item is not None), None))
        return hits

    def near(self, pairs: pa.Table) -> Near:
        """The rows, the numbers of the items that each may be a near copy of, and how far they are apart."""
        tests = self._tests
        if tests.max_difference is None or not len(self._pictures):
            return Near(*np.zeros((2, 0), np.int64), *np.zeros((2, 0)))
        sharp = pc.fill_null(pc.greater_equal(whole(pairs.column("contrast")), tests.min_contrast), False)
        rows = np.flatnonzero(sharp.to_numpy(zero_copy_only=False))
        some = pairs.select(["grey", "tiny_rgb", "width", "height"]).take(pa.array(rows))
        plain = [some.column(name).to_pylist() for name in some.column_names]
        seen = [(grey, tiny, wide / max(high, 1)) for grey, tiny, wide, high in zip(*plain, strict=True)]
        near = self._pictures.near(_looks_of(seen), tests.most_compared)
        alike = (near.colour < tests.max_colour_difference) & np.isfinite(near.grey)
        item = np.array(self._numbers, np.int64)[near.item[alike]]
        return Near(rows[near.row[alike]], item, near.grey[alike], near.colour[alike])

    def of_texts(self, texts: list[str]) -> Hits:
        found: dict[str, tuple[str, int] | None] = {}
        for text in texts:
            if text not in found:
                shared = (self._phrases.get(phrase) for phrase in self._phrases_of(text))
                first = next((item for item in shared if item is not None), None)
                found[text] = None if first is None else ("caption", first)
        return [found[text] for text in texts]


def nearest_vectors(column: pa.ChunkedArray, wanted: np.ndarray, min_cosine: float) -> np.ndarray:
    """int64 [row]: which of `wanted` (float16 [item, value]) has the greatest cosine with each vector of the column, of
    equal ones the first; -1 where that is below `min_cosine`, or there is no vector. In exact arithmetic."""
    vectors, rows = matrix(column)
    found, items_ = np.full(len(column), -1), unit_vectors(wanted)
    step = max(_COSINES // max(len(items_), 1), 1)
    for at in range(0, len(vectors) if len(items_) else 0, step):
        likeness = unit_vectors(vectors[at : at + step]) @ items_.T
        best = likeness.argmax(axis=1)
        near = likeness[np.arange(len(best)), best] >= min_cosine
        found[rows[at : at + step]] = np.where(near, best, -1)
    return found


def _looks_of(shown: list[tuple[bytes, bytes, float]]) -> Looks:
    num = len(shown)
    grey = np.frombuffer(b"".join(each for each, _, _ in shown), np.uint8).reshape(num, SIDE, SIDE)
    tiny = np.frombuffer(b"".join(each for _, each, _ in shown), np.uint8).reshape(num, TINY_SIDE, TINY_SIDE, 3)
    return Looks(grey, tiny, np.array([ratio for _, _, ratio in shown], np.float64))
