"""Two towers of a few hundred parameters with the interface of `training.towers`, for tests of engines."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.reader.batch import Batch
from training.rows import Rows, base_of, group_of, named, owners_of, spans
from training.rows import cut as cut_rows
from training.wanted import LOG_SCALE, Head, Scalar

SIDE, LENGTH, WORDS, WIDTH = 4, 5, 17, 6
GIVEN = {"image": "image", "tokens": "text"}
TOKEN_OUTPUTS = ("patches", "words", "word_mask", "caption_logits")


class TinyTowers(nn.Module):
    """uint8 images (N, 3, 4, 4) and tokens (N, 5) in, normalised features of width 6 out.

    The middle layer's 7 units are divided by no number of ranks: partitions of it end in padding.
    """

    def __init__(
        self,
        seed: int = 0,
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        scalars: Sequence[Scalar] = (LOG_SCALE,),
        heads: Sequence[Head] = (),
    ) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.image = nn.Sequential(
                nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 7), nn.GELU(), nn.LayerNorm(7), nn.Dropout(dropout),
                nn.Linear(7, WIDTH, bias=False),
            )  # fmt: skip
            self.text = nn.Sequential(nn.EmbeddingBag(WORDS, 7), nn.LayerNorm(7), nn.Linear(7, WIDTH))
            self.heads = nn.ModuleDict({head.name: nn.Linear(WIDTH, head.width) for head in heads})
        self.names = tuple(sorted({"log_scale", *(scalar.name for scalar in scalars)}))
        starts = {LOG_SCALE.name: LOG_SCALE} | {scalar.name: scalar for scalar in scalars}
        for name in self.names:
            self.register_parameter(name, nn.Parameter(torch.tensor([starts[name].init])))
        self.limits = {
            n: (one.low, one.high) for n, one in starts.items() if one.low > -math.inf or one.high < math.inf
        }
        self.image_size = SIDE
        self.register_buffer("seen", torch.zeros(1))
        self.to(dtype)

    def scalars(self) -> dict[str, nn.Parameter]:
        return {name: self.get_parameter(name) for name in self.names}

    def forward(self, rows: Rows, want: frozenset[str] | None = None) -> Rows:
        if want is None:
            want = frozenset(GIVEN[name] for name in rows if name in GIVEN)
        found = {}
        for name in sorted(want):
            group, base = group_of(name), base_of(name)
            if base in ("image", "masked") or base in self.heads:
                pixels = (rows[named(group, "image")].to(self.log_scale.dtype) - 128) / 64
                if base == "masked":  # half of a picture
                    pixels = torch.cat([pixels[:, :, : SIDE // 2], torch.zeros_like(pixels[:, :, SIDE // 2 :])], dim=2)
                features = self.image(pixels)
                features = self.heads[base](features) if base in self.heads else features
                found[name] = F.normalize(self._wide(features), dim=-1)
            elif base in TOKEN_OUTPUTS:
                found[name] = getattr(self, f"_{base}")(rows)
            else:
                found[name] = F.normalize(self._wide(self.text(rows[named(group, "tokens")])), dim=-1)
        return found

    def _patches(self, rows: Rows) -> Tensor:
        """[N, 4, 6]: a row of pixels each, the others grey."""
        pixels = (rows["image"].to(self.log_scale.dtype) - 128) / 64
        alone = [pixels * (torch.arange(SIDE) == row)[:, None] for row in range(SIDE)]
        return F.normalize(self._wide(torch.stack([self.image(part) for part in alone], 1)), dim=-1)

    def _words(self, rows: Rows) -> Tensor:
        return F.normalize(self._wide(self.text(rows["tokens"].reshape(-1, 1))), dim=-1).unflatten(0, (-1, LENGTH))

    def _word_mask(self, rows: Rows) -> Tensor:
        return self._wide(lengths_mask(rows["tokens"]))

    def _caption_logits(self, rows: Rows) -> Tensor:
        """[N, 4, 17]: of the picture and the last word, against every word of the vocabulary."""
        said = self._words(rows)[:, :-1] + self._patches(rows).mean(1, keepdim=True)
        return 4 * said @ F.normalize(self._wide(self.text(torch.arange(WORDS)[:, None])), dim=-1).T

    def _wide(self, features_ND: Tensor) -> Tensor:
        return features_ND.to(self.log_scale.dtype)


def lengths_mask(tokens_NL: Tensor) -> Tensor:
    """1 for some of the first words of a text, at least one: how many the first token says."""
    return (torch.arange(tokens_NL.shape[1]) <= tokens_NL[:, :1] % tokens_NL.shape[1]).float()


def tiny_batch(rows: int, seed: int = 0, every_valid: bool = True, groups: dict[str, int] | None = None) -> Batch:
    """`rows` random pairs; with `every_valid` false, each fourth is masked.

    `groups`: most entries of a row in flat groups; `views` have as many in every row, others from none up to that many.
    """
    made = torch.Generator().manual_seed(seed)
    batch = Batch(
        step=0,
        rows={
            "image": torch.randint(0, 256, (rows, 3, SIDE, SIDE), generator=made, dtype=torch.uint8),
            "tokens": torch.randint(0, WORDS, (rows, LENGTH), generator=made),
            "valid": torch.ones(rows, dtype=torch.bool) if every_valid else torch.arange(rows) % 4 != 1,
            "id": torch.arange(rows),
            "key": torch.arange(rows),
        },
        uids=[f"{row:032x}" for row in range(rows)],
        captions=[""] * rows,
        epochs=[0] * rows,
    )
    for group, most in (groups or {}).items():
        batch.rows |= _flat(group, most, rows, made)
    return batch


def _flat(group: str, most: int, rows: int, made: torch.Generator) -> Rows:
    many_N = torch.full((rows,), most) if group == "views" else torch.randint(0, most + 1, (rows,), generator=made)
    owner_M = torch.arange(rows).repeat_interleave(many_N)
    shape = (len(owner_M), 3, SIDE, SIDE) if group == "views" else (len(owner_M), LENGTH)
    drawn = torch.randint(0, WORDS, shape, generator=made)
    column = {"views/image": (drawn * 15).to(torch.uint8)} if group == "views" else {f"{group}/tokens": drawn}
    return column | {f"{group}/owner": owner_M}


def cut(batch: Batch, counts: list[int], rank: int) -> Batch:
    """Rank `rank`'s rows of `batch`, when ranks hold `counts` rows."""
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    lists = {name: getattr(batch, name)[own] for name in ("uids", "captions", "epochs")}
    return Batch(step=batch.step, rows=cut_rows(batch.rows, spans(owners_of(batch.rows), own.start, own.stop)), **lists)
