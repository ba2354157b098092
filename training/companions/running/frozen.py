"""A frozen model at work: its features of a step's rows, by chunk, as columns.

Letters: N rows, C channels, H and W pixels, L tokens, F features of the frozen model.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import RecipeError
from training.companions.running.companion import Companion
from training.engine.interface import Engine
from training.reader.batch import Batch
from training.rows import Rows, base_of, cut, group_of, named, owners_of, spans

if TYPE_CHECKING:
    from training.towers.towers import Towers

Tokenize = Callable[[list[str]], Tensor]
_PROBES = ["a photo of a cat", "Zwei BLAUE Kreise, 1998 (n.d.)", "", "猫の写真 ☃ naïve", "word " * 300]


class Frozen(Companion):
    """Not collective: each rank holds `towers` whole. `retold`: the tokenizer of captions, if it is not the step's."""

    def __init__(self, name: str, towers: "Towers", engine: Engine, retold: Tokenize | None = None) -> None:
        self.name, self._device, self._retold = name, engine.device, retold
        self._half = engine.settings.precision == "bf16"
        self.towers = towers.requires_grad_(False).eval().to(engine.device)

    def enrich(self, batch: Batch, wanted: frozenset[str], chunk: int) -> Rows:
        """`wanted` of its columns: [N, F], float32."""
        given = {f"{self.name}.{base}": base for base in ("image", "text")}
        outputs = {name: named(group_of(name), given[base_of(name)]) for name in wanted if base_of(name) in given}
        return self._features(batch, outputs, chunk) if outputs else {}

    @torch.no_grad()
    def _features(self, batch: Batch, outputs: dict[str, str], chunk: int) -> Rows:
        rows, want = self._eaten(batch, outputs), frozenset(outputs.values())
        owners, parts = owners_of(rows), []
        for start in range(0, max(batch.size, 1), chunk):
            piece = cut(rows, spans(owners, start, min(start + chunk, batch.size)))
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
                parts.append(self.towers(self._sized(piece), want))
        return {name: torch.cat([part[output] for part in parts]) for name, output in outputs.items()}

    def _eaten(self, batch: Batch, outputs: dict[str, str]) -> Rows:
        """The columns that the outputs are made of, with tokens of its own."""
        sides = {named(group_of(o), "image" if base_of(o) == "image" else "tokens") for o in outputs.values()}
        rows = {n: column for n, column in batch.rows.items() if n in sides or base_of(n) == "owner"}
        if self._retold is None:
            return rows
        if any("/" in name for name in sides if base_of(name) == "tokens"):
            found = (
                f"the teacher {self.name!r} has another tokenizer, and the texts of {sorted(sides)} are tokens alone"
            )
            raise RecipeError("train.companions", found, "a teacher with the tokenizer of train.model")
        if "tokens" in rows:
            rows["tokens"] = self._retold(batch.captions).to(self._device)
        return rows

    def _sized(self, rows: Rows) -> Rows:
        size = self.towers.image_size
        return {n: resized(column, size) if base_of(n) == "image" else column for n, column in rows.items()}


def resized(images_NCHW: Tensor, size: int) -> Tensor:
    """Squares of another side, as floats from 0 to 255; those of the right side as they are."""
    if images_NCHW.shape[-1] == size or not len(images_NCHW):
        return images_NCHW
    return F.interpolate(images_NCHW.float(), (size, size), mode="bicubic", antialias=True).clamp_(0, 255)


def same_tokens(one: Tokenize, other: Tokenize) -> bool:
    """Whether two tokenizers say the same, text lengths included."""
    a, b = one(_PROBES), other(_PROBES)
    return a.shape == b.shape and bool((a == b).all())
