"""The columns of a piece of a step: pixels, tokens, keys and what else terms want of a pair.

Every column is a pure function of the pairs, the step and the keyed draws of (seed, epoch, uid).

Shape letters: N rows, C channels, H and W pixels, L tokens, M flat rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.contract.dataset import RawPair
from pipeline.draws import keyed_u64, keyed_uniform
from pipeline.images.decoder import Refused
from training.reader.captions.policy import CaptionPolicy, draw_caption
from training.reader.images import ImageSettings, train_image
from training.reader.negatives import draw_negatives
from training.reader.pairs import Map
from training.reader.stored.replay import Replayed
from training.rows import Rows
from training.scheduled import progress_of
from training.wanted import Wanted

Tokenize = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Columns:
    """Makes the columns of some pairs. `steps`: of the whole run, for policies that change over it."""

    image: ImageSettings
    image_size: int
    policy: CaptionPolicy
    tokenize: Tokenize
    seed: int
    steps: int
    wanted: Wanted

    def of(
        self, step: int, raw: list[RawPair], epochs: list[int], each: Map, kept: Replayed | None = None
    ) -> tuple[Rows, list[str], list[str]]:
        """(columns, the caption of each pair, why its image cannot be used or ""). `kept`: what is stored of each."""
        rows, reasons = self._pixels(raw, epochs, each, kept)
        groups, columns = self._texts(step, raw, epochs)
        texts = [text for (text,) in groups[""]]
        ids = [int(pair.uid[:16], 16) - (1 << 63) for pair in raw]
        keys = [
            keyed_u64(self.seed, "row", epoch, pair.uid) - (1 << 63) for pair, epoch in zip(raw, epochs, strict=True)
        ]
        rows |= columns | {"id": torch.tensor(ids, dtype=torch.int64), "key": torch.tensor(keys, dtype=torch.int64)}
        rows["valid"] = torch.tensor([not reason for reason in reasons], dtype=torch.bool)
        if kept is not None:
            rows |= kept.columns(groups, self.wanted.columns)
        for name in sorted(self.wanted.fields):
            rows[name] = torch.tensor([_number(pair.meta.get(name)) for pair in raw], dtype=torch.float64)
        return rows, texts, reasons

    def _pixels(
        self, raw: list[RawPair], epochs: list[int], each: Map, kept: Replayed | None
    ) -> tuple[Rows, list[str]]:
        if kept is not None and kept.asked.locked:
            return {}, kept.reasons()
        views, size = 1 + self.wanted.views, self.image_size
        images_NVCHW = np.zeros((len(raw), views, 3, size, size), dtype=np.uint8)

        def pixels(row: int, view: int) -> np.ndarray:
            if kept is not None and view == 0:
                return kept.pixels(row, raw[row].image, size)
            return train_image(raw[row].image, self.image, size, self.seed, epochs[row], raw[row].uid, view=view)

        def decode(row: int) -> str:
            try:
                for view in range(views):
                    images_NVCHW[row, view] = pixels(row, view)
            except Refused as refused:
                images_NVCHW[row] = 0
                return refused.reason
            return ""

        reasons = list(each(decode, range(len(raw))))
        if views == 1:
            return {"image": torch.from_numpy(images_NVCHW[:, 0])}, reasons
        further = torch.from_numpy(np.ascontiguousarray(images_NVCHW[:, 1:])).flatten(0, 1)
        owner = torch.arange(len(raw)).repeat_interleave(views - 1)
        first = torch.from_numpy(np.ascontiguousarray(images_NVCHW[:, 0]))
        return {"image": first, "views/image": further, "views/owner": owner}, reasons

    def _texts(self, step: int, raw: list[RawPair], epochs: list[int]) -> tuple[dict[str, list[list[str]]], Rows]:
        """The texts of each row, by group, and their tokens."""
        done, seed = progress_of(step, self.steps), self.seed
        pairs = list(zip(raw, epochs, strict=True))
        texts = [draw_caption(self.policy, p.meta["captions"], seed, epoch, p.uid, done) for p, epoch in pairs]
        groups, columns = {"": [[text] for text in texts]}, {"tokens": self.tokenize(texts)}
        drawn = {"positives": (self.wanted.positives, _further), "negatives": (self.wanted.negatives, _negatives)}
        for group, (most, draw) in drawn.items():
            if most:
                found = [draw(pair, text, most, seed, epoch) for (pair, epoch), text in zip(pairs, texts, strict=True)]
                groups[group] = found
                columns |= self._flat(group, found, columns["tokens"])
        return groups, columns

    def _flat(self, group: str, texts: list[list[str]], like: Tensor) -> Rows:
        every = [text for found in texts for text in found]
        owner = [row for row, found in enumerate(texts) for _ in found]
        tokens = self.tokenize(every) if every else like[:0]
        return {f"{group}/tokens": tokens, f"{group}/owner": torch.tensor(owner, dtype=torch.int64)}


def _further(pair: RawPair, caption: str, most: int, seed: int, epoch: int) -> list[str]:
    """At most `most` other captions of the pair, each text once; a larger `most` only adds."""
    texts = {each["text"] for each in pair.meta["captions"]} - {caption}
    return sorted(texts, key=lambda text: (keyed_uniform(seed, "positive", epoch, pair.uid, text), text))[:most]


def _negatives(pair: RawPair, caption: str, most: int, seed: int, epoch: int) -> list[str]:
    return draw_negatives(pair.meta, caption, most, seed, epoch, pair.uid)


def _number(value: object) -> float:
    """NaN for what is no number: terms leave such rows out."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else float("nan")
