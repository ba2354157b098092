"""An evaluation set as what pairs are held against: some 1 kB an item."""

import hashlib
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.images.pixels import Look, measured, seen
from curation.methods.lists.sets import NearSet
from curation.methods.references.items import items
from curation.methods.references.phrases import phrases
from curation.table.arrow import whole
from pipeline import storage
from pipeline.images.decoder import Picture, Refused
from pipeline.log import get_logger

log = get_logger("curation")
_BATCH = 256
Hits = list[tuple[str, int] | None]
"""Of each row the test that hit, and the number of the item; None without a hit."""


class Reference:
    """names: of the items, by number. undecodable: items of whose image only the bytes are known."""

    def __init__(
        self, path: str, where: str, radius: int | None, min_contrast: float, ngram: int | None, min_words: int
    ) -> None:
        self.names: list[str] = []
        self.undecodable = 0
        self._ngram, self._min_words, self._min_contrast = ngram, min_words, min_contrast
        self._bytes: dict[bytes, int] = {}
        self._pixels: dict[bytes, int] = {}
        self._phrases: dict[bytes, int] = {}
        self._of_hash: dict[int, list[tuple[int, bytes]]] = defaultdict(list)  # hash -> (item, thumbnail)
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
                self._take(looks)
        self._take(looks)
        self._near = NearSet(self._of_hash if radius is not None else (), radius or 0)
        if self.undecodable:
            log.warning("%s: %d images do not decode: known by their bytes", storage.shown(path), self.undecodable)

    def _look(self, body: bytes, number: int, looks: dict[int, Look]) -> None:
        try:
            _, looks[number] = seen(Picture(body))
        except Refused:
            self.undecodable += 1

    def _take(self, looks: dict[int, Look]) -> None:
        found = measured(list(looks.values()))
        for at, number in enumerate(looks):
            self._pixels.setdefault(bytes.fromhex(found["pixels"][at]), number)
            if found["contrast"][at] >= self._min_contrast:
                self._of_hash[found["phash"][at]].append((number, found["tiny_rgb"][at]))
        looks.clear()

    def _phrases_of(self, text: str) -> list[bytes]:
        if self._ngram is None:
            return []
        said = phrases(text, self._ngram, self._min_words)
        return [hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=12).digest() for each in said]

    def of_images(self, pairs: pa.Table, max_colour_distance: float | None) -> Hits:
        """bytes, pixels or near, the surest first."""
        near = self._nearest(pairs, max_colour_distance)
        hits: Hits = []
        columns = (pairs.column(name).to_pylist() for name in ("image_sha256", "pixels"))
        for at, (sha, pixels) in enumerate(zip(*columns, strict=True)):
            same = self._bytes.get(bytes.fromhex(sha or ""))
            equal = self._pixels.get(bytes.fromhex(pixels or ""))
            close = near.get(at)
            found = (("bytes", same), ("pixels", equal), ("near", close))
            hits.append(next(((test, item) for test, item in found if item is not None), None))
        return hits

    def _nearest(self, pairs: pa.Table, max_colour_distance: float | None) -> dict[int, int]:
        """Row -> the item that is nearest by the hash, of several as near the first."""
        sharp = pc.fill_null(pc.greater_equal(whole(pairs.column("contrast")), self._min_contrast), False)
        rows = np.flatnonzero(sharp.to_numpy(zero_copy_only=False))
        who, hashes = self._near.near(whole(pairs.column("phash")).take(pa.array(rows)).to_numpy())
        found: dict[int, int] = {}
        tiny = whole(pairs.column("tiny_rgb")).take(pa.array(rows)).to_pylist()
        for row, hash_ in zip(who.tolist(), hashes.tolist(), strict=True):
            if rows[row] in found:
                continue
            same = self._of_hash[hash_]
            theirs = np.frombuffer(b"".join(each for _, each in same), np.uint8).reshape(len(same), -1)
            mine = np.frombuffer(tiny[row], np.uint8)
            far = np.abs(theirs.astype(np.int16) - mine.astype(np.int16)).mean(axis=1)
            alike = np.flatnonzero(far <= (256 if max_colour_distance is None else max_colour_distance))
            if len(alike):
                found[int(rows[row])] = same[alike[0]][0]
        return found

    def of_texts(self, texts: list[str]) -> Hits:
        found: dict[str, tuple[str, int] | None] = {}
        for text in texts:
            if text not in found:
                shared = (self._phrases.get(phrase) for phrase in self._phrases_of(text))
                first = next((item for item in shared if item is not None), None)
                found[text] = None if first is None else ("caption", first)
        return [found[text] for text in texts]
