"""Stored views shown again, and stored vectors as columns of a step.

Letters: N rows, M flat rows, F numbers of a vector.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.contract.reinforced.manifest import ReinforcedManifest
from pipeline.contract.reinforced.side_cars import Reinforced, ReinforcedSet, open_reinforced
from pipeline.draws import keyed_u64
from pipeline.errors import DataError, RecipeError
from pipeline.images.decoder import Refused
from pipeline.settings import digest_of
from training.reader.images import ImageSettings, stored_view
from training.reader.pairs import Map, Pairs, by_shard
from training.reader.stored.asked import StoredSet
from training.reader.views import View
from training.rows import Rows, base_of, group_of
from training.wanted import FIXED

_WHERE = "train.companions: stored"
_BYTES_A_VIEW, _BYTES_A_PAIR = 128, 256  # of an index held in memory
NO_VIEW = "no_stored_view"


class Replay:
    """The set of each dataset of a run, opened. DataError when one is missing or of other data; RecipeError when the
    recipe asks for a teacher that it does not have, or opens pictures in another way than the teachers did."""

    def __init__(self, pairs: Pairs, asked: StoredSet, image: ImageSettings, seed: int) -> None:
        self.asked, self._pairs, self._image, self._seed = asked, pairs, image, seed
        self._sets = {dataset.url: open_reinforced(dataset, asked.name) for dataset in pairs.datasets}
        self.manifest = next(iter(self._sets.values())).manifest
        for one in self._sets.values():
            _check(one, self.manifest, asked, image)
        self.digest = _digest(one.manifest for one in self._sets.values())

    def keep_open(self, lanes: int, window: int) -> None:
        a_pair = _BYTES_A_PAIR + _BYTES_A_VIEW * self.manifest.views
        for one in self._sets.values():
            shards = self._pairs.shards_open(lanes, window, a_pair)
            one.keep_open(min(shards, len(one.manifest.shards)))

    def read(
        self, shards: np.ndarray, rows: np.ndarray, uids: list[str], epochs: list[int], each: Map = map
    ) -> "Replayed":
        """Of pairs, in the order asked. DataError for bytes that are others than were written."""

        def fetch(shard: int, wanted: np.ndarray) -> list[Reinforced]:
            dataset, number = self._pairs.place(shard)
            return self._sets[dataset.url].read_many(number, wanted)

        found: list[Reinforced] = by_shard(shards, rows, fetch, each)
        for pair, uid in zip(found, uids, strict=True):
            if pair.uid != uid:
                raise DataError(f"reinforced set {self.asked.name}", f"pair {pair.uid}", f"pair {uid}")
        which = [self._which(pair, epoch) for pair, epoch in zip(found, epochs, strict=True)]
        return Replayed(self.asked, self.manifest.dtype, self._image, found, which)

    def _which(self, pair: Reinforced, epoch: int) -> int:
        """Its views in turn, from one that is drawn: each is seen once before one is seen again."""
        if not pair.views:
            return -1
        return (keyed_u64(self._seed, "stored_view", pair.uid) + epoch) % len(pair.views)

    def require_tower(self, digest: str) -> None:
        """RecipeError unless the vectors of `locked` are those of the image tower with this digest."""
        entry = self.manifest.teacher(self.asked.locked or "")
        if entry is not None and entry.image != digest:
            found = f"{entry.name!r} of the set {self.asked.name!r} has other weights, sizes or pixels than train.model"
            hint = "write a set with this very model: clipmill reinforce RECIPE; or leave `locked` out"
            raise RecipeError(f"{_WHERE}.locked", found, f"image tower {digest}, not {entry.image}", hint)


def stored_digest(pairs: Pairs, name: str) -> str:
    """What a checkpoint keeps of the sets of that name: views and vectors of each dataset. Manifests alone are read.
    DataError as `Replay`."""
    return _digest(ReinforcedManifest.load(dataset.url, name) for dataset in pairs.datasets)


def _digest(manifests: Iterable[ReinforcedManifest]) -> str:
    return digest_of([manifest.digest() for manifest in manifests])


def _check(found: ReinforcedSet, like: ReinforcedManifest, asked: StoredSet, image: ImageSettings) -> None:
    has = found.manifest
    place = f"{_WHERE}, set {asked.name} of {found.dataset}"
    known = [one.name for one in has.teachers]
    for name in (*asked.teachers, *([asked.locked] if asked.locked else [])):
        if name not in known:
            hint = f"teachers: [{', '.join(known)}]; clipmill reinforce RECIPE writes others"
            raise RecipeError(place, f"no teacher {name!r}", f"one of {', '.join(known)}", hint)
    if (has.dtype, has.teachers) != (like.dtype, like.teachers):
        raise RecipeError(place, "other teachers or numbers than in the first dataset", "the same of all datasets")
    then = ImageSettings.model_validate(has.image)
    for field in ("resize", "background", "max_pixels"):
        if (was := getattr(then, field)) != (now := getattr(image, field)):
            hint = f"train.image.{field}={was}"
            raise RecipeError(f"train.image.{field}", f"found {now!r}", f"the set {asked.name} has {was!r}", hint)


@dataclass(frozen=True)
class Replayed:
    """What is stored of the rows of a piece, and which view each is to show."""

    asked: StoredSet
    dtype: str
    image: ImageSettings
    pairs: list[Reinforced]
    which: list[int]

    def reasons(self) -> list[str]:
        """Why a row has no picture, or ""."""
        return ["" if view >= 0 else NO_VIEW for view in self.which]

    def pixels(self, row: int, data: bytes, size: int) -> np.ndarray:
        """uint8 [3, size, size], as the teachers saw it where they are of this size. Refused with a reason."""
        if self.which[row] < 0:
            raise Refused(NO_VIEW)
        return stored_view(data, view_of(self.pairs[row].views[self.which[row]]), self.image, size)

    def columns(self, texts: dict[str, list[list[str]]], wanted: frozenset[str]) -> Rows:
        """Those of `wanted` that are stored, and the locked tower's features. `texts`: of each row, by group."""
        found: Rows = {}
        for name in sorted(wanted):
            teacher, _, side = base_of(name).rpartition(".")
            if teacher not in self.asked.teachers:
                continue
            if side == "text":
                found[name] = self._texts(teacher, texts[group_of(name)])
            elif group_of(name):
                raise RecipeError(_WHERE, f"a term wants {name}", "vectors of the picture itself: its views are stored")
            else:
                found[name] = self._images(teacher)
        if self.asked.locked is not None:
            found[FIXED] = self._images(self.asked.locked).float()
        return found

    def _images(self, teacher: str) -> Tensor:
        """[N, F]; zeros for a row without a picture, which does not count."""
        vectors = [pair.vectors[teacher][0] for pair in self.pairs]
        shown = [own[which] if which >= 0 else None for own, which in zip(vectors, self.which, strict=True)]
        return self._numbers(shown, vectors)

    def _texts(self, teacher: str, texts: list[list[str]]) -> Tensor:
        """[M, F] of the texts of all rows."""
        rows = []
        for pair, own in zip(self.pairs, texts, strict=True):
            for text in own:
                place = pair.row_of(text)
                if place is None:
                    hint = "clipmill reinforce RECIPE reinforce.fresh=true; with reinforce.negatives=true for negatives"
                    where = f"reinforced set {self.asked.name}, pair {pair.uid}"
                    raise DataError(where, f"no vectors of the text {text[:60]!r}", "of every text in use", hint)
                rows.append(pair.vectors[teacher][1][place])
        return self._numbers(rows, [pair.vectors[teacher][1] for pair in self.pairs])

    def _numbers(self, rows: list[np.ndarray | None], like: list[np.ndarray]) -> Tensor:
        """As they are stored, not widened: half the bytes on the way to the device."""
        numbers = np.zeros((len(rows), like[0].shape[1]), like[0].dtype)
        for place, row in enumerate(rows):
            if row is not None:
                numbers[place] = row
        if self.dtype == "bf16":
            return torch.from_numpy(numbers.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(numbers)


def view_of(kept: dict[str, Any]) -> View:
    """Of a side-car's view."""
    box = tuple(kept["box"]) or None
    return View(box, kept["flip"], tuple((name, by) for name, by in kept["changes"]))
