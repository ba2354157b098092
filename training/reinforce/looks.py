"""One pair after another as the teachers see it: views drawn, pictures opened, vectors computed.

Letters: P pairs of a block, V views of a pair, M texts of a pair, S pictures or texts of a block, F features.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pipeline.contract.dataset import Dataset, RawPair
from pipeline.contract.pairs import EXTS, negatives_problem
from pipeline.contract.reinforced.side_cars import Written, vector_bytes
from pipeline.errors import DataError
from pipeline.images.decoder import Picture, Refused
from training.reader.images import drawn_view, stored_view
from training.reader.views import View
from training.reinforce.settings import ReinforceSettings

if TYPE_CHECKING:
    from training.towers.towers import Towers


class Looks:
    """`teachers`: by name, in eval mode, on `device`."""

    def __init__(
        self, settings: ReinforceSettings, seed: int, teachers: "dict[str, Towers]", device: torch.device
    ) -> None:
        self.settings, self.seed, self.teachers, self.device = settings, seed, teachers, device
        self.refused = 0  # pairs whose picture could not be opened

    def of_shard(self, dataset: Dataset, shard: int, between: Callable[[], None]) -> Iterator[Written]:
        """All pairs of a shard in order; `between` is called before each block of them."""
        block = max(1, self.settings.batch // self.settings.views)
        with ThreadPoolExecutor(self.settings.threads) as pool:
            for start in range(0, dataset.shards[shard].num_pairs, block):
                between()
                rows = range(start, min(start + block, dataset.shards[shard].num_pairs))
                yield from self._block(dataset.read_many(shard, rows), pool)

    def _block(self, pairs: list[RawPair], pool: ThreadPoolExecutor) -> Iterator[Written]:
        views = list(pool.map(self._views, pairs))
        self.refused += sum(not found for found in views)
        texts = [self._texts(pair) for pair in pairs]
        every = [text for found in texts for text in found]
        vectors: list[list[bytes]] = [[] for _ in pairs]
        for name, towers in self.teachers.items():
            pixels = self._pixels(pairs, views, towers.image_size, pool)
            image_SF = self._features(name, towers, "image", pixels)
            text_SF = self._features(name, towers, "text", every)
            for place, (of_image, of_text) in enumerate(
                zip(_split(image_SF, views), _split(text_SF, texts), strict=True)
            ):
                vectors[place] += [vector_bytes(self.settings.dtype, part) for part in (of_image, of_text)]
        for pair, found, said, parts in zip(pairs, views, texts, vectors, strict=True):
            yield Written(pair.uid, [as_stored(view) for view in found], said, b"".join(parts))

    def _views(self, pair: RawPair) -> list[View]:
        """None where the picture cannot be opened: such a pair is masked in training, too."""
        image = self.settings.image
        try:
            size = Picture(pair.image, EXTS, image.max_pixels).size
            views = [drawn_view(size, image, self.seed, view, pair.uid) for view in range(self.settings.views)]
            stored_view(pair.image, views[0], image, 8)
        except Refused:
            return []
        return views

    def _texts(self, pair: RawPair) -> list[str]:
        """Each text once: the captions, then the negatives if they are asked for."""
        wrong = pair.meta.get("negatives", []) if self.settings.negatives and not negatives_problem(pair.meta) else []
        return list(dict.fromkeys(each["text"] for each in [*pair.meta["captions"], *wrong]))

    def _pixels(
        self, pairs: list[RawPair], views: list[list[View]], size: int, pool: ThreadPoolExecutor
    ) -> list[np.ndarray]:
        every = [(pair.image, view) for pair, found in zip(pairs, views, strict=True) for view in found]
        return list(pool.map(lambda one: stored_view(one[0], one[1], self.settings.image, size), every))

    @torch.no_grad()
    def _features(self, name: str, towers: "Towers", side: str, given: list[Any]) -> np.ndarray:
        parts = [np.zeros((0, towers.embed_dim), np.float32)]
        for start in range(0, len(given), self.settings.batch):
            some = given[start : start + self.settings.batch]
            rows = {"image": torch.from_numpy(np.stack(some))} if side == "image" else {"tokens": towers.tokenize(some)}
            half = self.settings.precision == "bf16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                found = towers({key: column.to(self.device) for key, column in rows.items()}, frozenset({side}))[side]
            parts.append(_finite(found, name).float().cpu().numpy())
        return np.concatenate(parts)


def as_stored(view: View) -> dict[str, Any]:
    """As the side-car has it; `training.reader.stored` reads it again."""
    return {"box": list(view.box or ()), "flip": view.flip, "changes": [list(change) for change in view.changes]}


def _finite(features_SF: Tensor, name: str) -> Tensor:
    if not bool(torch.isfinite(features_SF).all()):
        raise DataError(f"reinforce: teacher {name}", "vectors that are not finite", "numbers", "use other weights")
    return features_SF


def _split(vectors_SF: np.ndarray, owned: list[Any]) -> list[np.ndarray]:
    """Of each pair its own rows."""
    return np.split(vectors_SF, np.cumsum([len(found) for found in owned])[:-1])
