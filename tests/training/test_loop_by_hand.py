"""A run from a recipe in which no setting has its default is the run that torch and open_clip make of the same numbers.

The other run is written down here: open_clip's own model, torch's AdamW, the losses as their papers have them on the
whole batch, one process. Of the project it uses the keyed draws, the order and the tokenizer, which have their own
tests. What would otherwise pass is a setting that is lost between the recipe and the place that should read it.
"""

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pipeline.contract.manifest import Manifest
from pipeline.contract.shards import write_shard
from pipeline.draws import keyed_u64, keyed_uniform
from pipeline.recipe import load
from pipeline.settings import Settings
from tests.helpers.datasets import make_pair
from tests.helpers.lanes import sampled
from tests.helpers.tiny_run import metrics, train_here, write_eval_set, write_recipe
from training.checkpoint.save import find, load_weights
from training.ranks.peers import Peers
from training.reader.order import Order
from training.settings import TrainSettings

SEED, PAIRS, BATCH, STEPS, SIZE, PATCH, LENGTH = 7, 24, 16, 3, 12, 4, 10
MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": PATCH},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
SOFTMAX: dict[str, Any] = {
    "kind": "softmax", "name": "told", "weight": [[0.0, 0.5], [1.0, 1.5]], "exchange": "ring", "tile": 5,
    "wire": "bf16", "kernel": "triton", "positives": 2, "negatives": 1, "pair_weight": "quality",
    "target": {"kind": "captions", "among": "each", "smoothing": 0.2, "positive_margin": 0.3, "negative_margin": 0.4},
}  # fmt: skip
SPREAD: dict[str, Any] = {
    "kind": "uniformity_alignment", "name": "spread", "weight": 0.3, "alpha": 3.0, "t": 1.5, "uniformity": 0.6,
    "tile": 7,
}  # fmt: skip
ADAMW: dict[str, Any] = {
    "lr": 0.01, "weight_decay": 0.5, "betas": [0.5, 0.7], "eps": 0.001, "lr_scales": {"image": 0.4},
    "layer_decay": {"text": 0.6}, "no_decay": ["positions"],
}  # fmt: skip
WEIGHTS = {"alt": 1.0, "rewrite": 3.0}
OTHERS = {
    "model.name": "`config` is its alternative",
    "loss.0.queue": "wants the momentum companion: test_loop_companions.py",
    "image.views": "wants a term that reads them: terms/test_views.py",
    "stages": "test_loop_stages.py",
    "preset": "the alternative of stages",
    "schedule.decay_share": "`decay_steps` is its alternative",
}


def test_no_setting_of_the_recipe_has_its_default(tmp_path: Path) -> None:
    given = load(str(_recipe(tmp_path, "both", "bf16"))).section("train", TrainSettings)
    alike = dict(_defaults(given, ""))
    lock = {"model.lock_image", "model.lock_text"}  # each in a case of its own
    assert {path for path in alike if path not in OTHERS} == lock, alike


def _defaults(settings: Settings, path: str) -> Any:
    """(path, value) of every setting that has its default."""
    for name, field in type(settings).model_fields.items():
        value, where = getattr(settings, name), f"{path}{name}"
        if isinstance(value, Settings) and where not in OTHERS:
            yield from _defaults(value, f"{where}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Settings):
            for number, one in enumerate(value):
                yield from _defaults(one, f"{where}.{number}.")
        elif name != "kind" and not field.is_required() and value == field.get_default(call_default_factory=True):
            yield where, value


CASES = [("both", "fp32"), ("both", "bf16"), ("image", "fp32"), ("text", "fp32")]


@pytest.mark.parametrize(("trained", "precision"), sampled(CASES, 0))
def test_three_steps_from_a_recipe_are_those_made_by_hand(tmp_path: Path, trained: str, precision: str) -> None:
    recipe = _recipe(tmp_path, trained, precision)
    assert train_here(recipe, 2) == ["", ""]
    by_hand = _Hand(tmp_path, trained, precision)
    began = by_hand.weights()
    for step in range(STEPS):
        by_hand.step(step)
    rows = metrics(tmp_path / "train")
    exact = precision == "fp32"  # but for features on the wire: one that rounds the other way moves a loss by some 5e-6
    assert [row["loss"] for row in rows] == pytest.approx(by_hand.losses, rel=2e-5 if exact else 2e-3)
    assert [row["grad_norm"] for row in rows] == pytest.approx(by_hand.norms, rel=1e-5 if exact else 1e-2)
    assert min(by_hand.norms) > 0.5 and [row["lr"] for row in rows] == pytest.approx(by_hand.rates)
    given = load(str(recipe)).section("train", TrainSettings)
    towers = given.towers(SEED)
    found = find(tmp_path / "train" / "checkpoints", Peers.alone())
    assert found is not None and found.state.step == STEPS
    for average, wanted in ((None, by_hand.weights()), ("slow", by_hand.average)):
        load_weights(towers, found, average)
        ours = towers.native_state_dict()
        for name, want in wanted.items():
            moved, tower = (want - began[name]).norm(), "image" if name.startswith("visual.") else "text"
            assert (ours[name] - want).norm() <= (1e-3 if exact else 0.03) * moved, (average, name)
            assert bool(moved) == (trained in ("both", tower) or name == "logit_scale"), name


def _recipe(folder: Path, trained: str, precision: str) -> Path:
    _write_data(folder / "data")
    for name in ("whole", "image", "text"):
        torch.manual_seed(len(name))
        model: Any = open_clip.CLIP(**(MODEL if name == "whole" else _sized()))
        model.logit_scale.data.fill_(math.log(20))
        torch.save(model.state_dict(), folder / f"{name}.pt")
    sets = [{"kind": "retrieval", "name": "pairs", "path": str(write_eval_set(folder / "pairs", 9, "txt"))}]
    return write_recipe(
        folder, steps=STEPS, fresh=True, accept_changes=True, on_nonfinite="stop", max_nonfinite=3,
        model={
            "config": MODEL, "pretrained": str(folder / "whole.pt"), "text_pretrained": str(folder / "text.pt"),
            "image_pretrained": str(folder / "image.pt"), "image_size": SIZE, "context_length": LENGTH,
            "mean": [0.3, 0.4, 0.5], "std": [0.2, 0.3, 0.4], "patch_dropout": 0.5, "grad_checkpointing": True,
            "lock_image": trained == "text", "lock_text": trained == "image",
        },
        image={"resize": "pad", "crop_scale": [0.4, 0.8], "flip": True, "background": "black", "max_pixels": 10_000},
        batch={"global": BATCH, "chunk": 3}, loss=[SOFTMAX, SPREAD],
        companions=[{"kind": "ema", "name": "slow", "decay": 0.6, "warmup": False, "every_steps": 2}],
        optimizer=ADAMW | ({"layer_decay": {}} if trained == "image" else {}),
        schedule={"kind": "wsd", "warmup_steps": 1, "decay_steps": 2, "shape": "linear", "final_fraction": 0.2},
        captions={"kind": "weighted", "weights": WEIGHTS, "default": 0.5, "per": "source"},
        reader={"lanes": 4, "window": 5, "workers": 0, "prefetch": 3, "piece": 3,
                "threads": 1, "max_bad_fraction": 1.0},
        engine={"zero_stage": 2, "precision": precision, "grad_clip": 0.05, "check_cache": True},
        checkpoint={"every_steps": 2, "every_minutes": 50.0, "keep_last": 1, "failures_per_gpu_day": 0.001},
        eval={"of": "both", "every_steps": 3, "sets": sets, "batch": 7},
    )  # fmt: skip


def _sized() -> dict[str, Any]:
    sizes = {"vision_cfg": {"image_size": SIZE}, "text_cfg": {"context_length": LENGTH}}
    return MODEL | {part: MODEL[part] | size for part, size in sizes.items()}


def _write_data(folder: Path) -> None:
    """Noise with a transparent border, one to four captions, none to two negatives, weights that some lack."""
    made = np.random.default_rng(0)
    pairs = []
    for number in range(PAIRS):
        out = io.BytesIO()
        pixels = made.integers(0, 256, (20 + number % 5, 16 + number % 7, 4), dtype=np.uint8)
        pixels[:3, :, 3] = 0
        Image.fromarray(pixels, "RGBA").save(out, "PNG")
        sources = ["alt", "title", "rewrite:a", "rewrite:b"][: 1 + number % 4]
        texts = [{"text": f"{source} of {number}", "source": source} for source in sources]
        wrong = [{"text": f"not {n} of {number}", "source": "count"} for n in range(number % 3)]
        meta = {"captions": texts, "negatives": wrong} | ({"quality": 0.2 + number % 5} if number % 4 else {})
        pairs.append(make_pair(number, "png", out.getvalue(), **meta))
    entries = [write_shard(str(folder), shard, iter(pairs[shard::2])) for shard in range(2)]
    Manifest(name="by hand", num_pairs=PAIRS, shards=entries).save(str(folder))


class _Hand:
    """The same run: one process, the whole batch, autograd through everything."""

    def __init__(self, folder: Path, trained: str, precision: str) -> None:
        self.half = precision == "bf16"
        self.model: Any = open_clip.CLIP(**_sized())
        kept = {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("whole", "image", "text")}
        of = lambda name: "whole" if name == "logit_scale" else "image" if name.startswith("visual.") else "text"  # noqa: E731
        self.model.load_state_dict({name: kept[of(name)][name] for name in self.model.state_dict()})
        self.dropout = self.model.visual.patch_dropout = _Keep()
        self.tokenize = open_clip.SimpleTokenizer(context_length=LENGTH)
        self.shards = [[*range(shard, PAIRS, 2)] for shard in range(2)]
        self.order = Order([len(s) for s in self.shards], seed=SEED, global_batch=BATCH, lanes=4, window=5)
        self.pairs = _read_back(folder)
        frozen = {"image": lambda n: not n.startswith(("visual.", "logit")), "text": lambda n: n.startswith("visual.")}
        groups = []
        for name, parameter in self.model.named_parameters():
            if trained in frozen and frozen[trained](name):
                parameter.requires_grad_(False)
                continue
            decays = parameter.ndim > 1 and "positional_embedding" not in name
            scale = 0.4 if name.startswith("visual.") else 1.0 if name == "logit_scale" else 0.6 ** _depth(name)
            scale = 1.0 if trained == "image" and not name.startswith("visual.") else scale
            groups.append({"params": [parameter], "weight_decay": 0.5 if decays else 0.0, "scale": scale})
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.5, 0.7), eps=0.001)
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[float] = []
        self.average = self.weights()

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.named_parameters()}

    def step(self, step: int) -> None:
        drawn = self.order.draw(step)
        places = zip(drawn.epoch.tolist(), drawn.shard.tolist(), drawn.row.tolist(), strict=True)
        rows = [(epoch, self.pairs[self.shards[shard][row]]) for epoch, shard, row in places]
        self.model.train()
        loss = self._loss(rows, step / STEPS)
        self.optimizer.zero_grad()
        loss.backward()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        norm = float(torch.stack([p.grad.norm() for p in parameters]).norm())
        torch.nn.utils.clip_grad_norm_(parameters, 0.05)
        # warm-up of one step, then two of decay from the peak to a fifth of it, the last of them not yet at its end
        rate = 0.01 * [1.0, 0.2 + 0.8 * 1.0, 0.2 + 0.8 * 0.5][step]
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.step()
        self.model.logit_scale.data.clamp_(0, math.log(100))
        self.losses.append(float(loss.detach()))
        self.norms.append(norm)
        self.rates.append(rate)
        if step == 1:  # every second step, with the decay of two
            now = self.weights()
            self.average = {name: old.lerp(now[name], 0.64) for name, old in self.average.items()}

    def _loss(self, rows: list[tuple[int, dict[str, Any]]], progress: float) -> Tensor:
        pixels = torch.stack([_picture(pair, epoch) for epoch, pair in rows])
        self.dropout.keys = [keyed_u64(SEED, "row", epoch, pair["uid"]) for epoch, pair in rows]
        texts, owners, first = _texts(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            images = self.model.encode_image(pixels)
            words = self.model.encode_text(self.tokenize(texts))
        images, words = F.normalize(images.float(), dim=-1), F.normalize(words.float(), dim=-1)
        owner = torch.tensor(owners)
        uids = [pair["uid"] for _, pair in rows]
        twin = torch.tensor([[a == b for b in uids] for a in uids])
        told = _told(images, words, owner, twin, self.model.logit_scale.exp(), _qualities(rows))
        return (0.5 + progress) * told + 0.3 * _spread(images, words[first], twin)


def _told(images: Tensor, words: Tensor, owner: Tensor, twin: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """CLIP's loss with several captions, each for itself, smoothing, margins, hard negatives and weights of pairs."""
    N, M = len(images), len(words)
    travelled = words + (words.bfloat16().float() - words).detach()  # features travel in half precision
    own = owner == torch.arange(N)[:, None]
    rival = ~own & ~(twin[:, owner.clamp(min=0)] & (owner >= 0))
    scores = scale * images @ travelled.T + torch.where(own, -0.3, 0.4)
    among = scores.masked_fill(~rival, -torch.inf)
    off_rows, off_columns = 0.2 / M, 0.2 / N
    each = torch.logaddexp(among.logsumexp(1, keepdim=True), scores) - scores
    each = each + off_rows * (rival.sum(1, keepdim=True) * scores - (scores * rival).sum(1, keepdim=True))
    i2t = (each * own).sum(1) / own.sum(1)
    asks = owner >= 0
    t2i = torch.logaddexp(among.logsumexp(0, keepdim=True), scores) - scores
    t2i = t2i + off_columns * (rival.sum(0) * scores - (scores * rival).sum(0))
    t2i = (t2i * own).sum(0)[asks]
    column_weight = weight[owner[asks]]
    rows = (i2t * weight).sum() / weight.sum()
    return (rows + (t2i * column_weight).sum() / column_weight.sum()) / 2


def _spread(images: Tensor, texts: Tensor, twin: Tensor) -> Tensor:
    """Wang and Isola (2020), with alpha 3, t 1.5 and 0.6 times the mean uniformity."""

    def uniformity(points: Tensor) -> Tensor:
        squares = (points[:, None] - points).square().sum(-1)[~twin]
        return (-1.5 * squares).exp().mean().log()

    alignment = (images - texts).norm(dim=1).pow(3).mean()
    return alignment + 0.6 * (uniformity(images) + uniformity(texts)) / 2


def _texts(rows: list[tuple[int, dict[str, Any]]]) -> tuple[list[str], list[int], list[int]]:
    """(texts, the row of each or -1, where the rows' own captions are): theirs, then two further ones, one negative."""
    texts = [_caption(pair["captions"], keyed_uniform(SEED, "caption", epoch, pair["uid"])) for epoch, pair in rows]
    owners, first = [*range(len(rows))], [*range(len(rows))]
    for row, (epoch, pair) in enumerate(rows):
        further = {each["text"] for each in pair["captions"]} - {texts[row]}
        found = sorted(further, key=lambda text: keyed_uniform(SEED, "positive", epoch, pair["uid"], text))[:2]  # noqa: B023
        texts, owners = texts + found, owners + [row] * len(found)
    for epoch, pair in rows:
        wrong = [each["text"] for each in pair.get("negatives", [])]
        found = sorted(wrong, key=lambda text: keyed_uniform(SEED, "negative", epoch, pair["uid"], text))[:1]  # noqa: B023
        texts, owners = texts + found, owners + [-1] * len(found)
    return texts, owners, first


def _caption(captions: list[dict[str, str]], uniform: float) -> str:
    """`rewrite` has weight 3 for all rewrites together, `alt` 1, all others together a half."""
    kinds = [each["source"].partition(":")[0] for each in captions]
    kinds = [kind if kind in WEIGHTS else "" for kind in kinds]
    weights = [{**WEIGHTS, "": 0.5}[kind] / kinds.count(kind) for kind in kinds]
    if len(captions) == 1:
        return captions[0]["text"]
    at = int(np.searchsorted(np.cumsum(weights), uniform * sum(weights), side="right"))
    return captions[at]["text"]


def _qualities(rows: list[tuple[int, dict[str, Any]]]) -> Tensor:
    return torch.tensor([pair.get("quality", 1.0) for _, pair in rows], dtype=torch.float32)


def _picture(pair: dict[str, Any], epoch: int) -> Tensor:
    """Over black, a keyed part of it on a black square, mirrored or not; normalised."""

    def draw(name: str) -> float:
        return keyed_uniform(SEED, name, epoch, pair["uid"])

    picture = Image.new("RGB", pair["image"].size, (0, 0, 0))
    picture.paste(pair["image"], (0, 0), pair["image"])
    area = 0.4 + 0.4 * draw("crop_area")
    ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draw("crop_aspect"))
    width = min(picture.width * math.sqrt(area * ratio), picture.width)
    height = min(picture.height * math.sqrt(area / ratio), picture.height)
    left, top = draw("crop_left") * (picture.width - width), draw("crop_top") * (picture.height - height)
    long = max(width, height) / SIZE
    shape = (max(1, round(width / long)), max(1, round(height / long)))
    part = picture.resize(shape, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    square = Image.new("RGB", (SIZE, SIZE), (0, 0, 0))
    square.paste(part, ((SIZE - shape[0]) // 2, (SIZE - shape[1]) // 2))
    pixels = np.asarray(square, np.float32) / 255
    pixels = pixels[:, ::-1] if draw("flip") < 0.5 else pixels
    pixels = (pixels - np.float32([0.3, 0.4, 0.5])) / np.float32([0.2, 0.3, 0.4])
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class _Keep(nn.Module):
    """Half of the patches of each picture: those whose SplitMix64 number, as a signed one, is among the least."""

    keys: list[int]

    def forward(self, tokens: Tensor) -> Tensor:
        patches = tokens.shape[1] - 1
        kept = []
        for key in self.keys:
            draws = [_signed(_mixed(key - (1 << 63) + p * 0x9E3779B97F4A7C15)) for p in range(1, patches + 1)]
            least = sorted(sorted(range(patches), key=draws.__getitem__)[: patches // 2])
            kept.append([0, *(1 + at for at in least)])
        return torch.stack([row[at] for row, at in zip(tokens, kept, strict=True)])


def _mixed(word: int) -> int:
    word &= (1 << 64) - 1
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = ((word ^ (word >> shift)) * factor) & ((1 << 64) - 1)
    return word ^ (word >> 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _depth(name: str) -> int:
    """Of a text tower of two blocks: 0 behind them, 1 and 2 the last and the first, 3 before them."""
    if name.startswith("transformer.resblocks."):
        return 2 - int(name.split(".")[2])
    return 3 if name in ("token_embedding.weight", "positional_embedding") else 0


def _read_back(folder: Path) -> list[dict[str, Any]]:
    """The pairs in the order of their numbers, out of the shards' tars."""
    found: dict[int, dict[str, Any]] = {}
    for number, path in enumerate(sorted((folder / "data").glob("**/*.tar"))):
        with tarfile.open(path) as tar:
            bodies = {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]
        keys = sorted({name.partition(".")[0] for name in bodies})
        for row, key in enumerate(keys):
            meta = json.loads(bodies[f"{key}.json"])
            image = Image.open(io.BytesIO(bodies[f"{key}.png"]))
            found[number + 2 * row] = {**meta, "image": image}
    return [found[number] for number in range(PAIRS)]
