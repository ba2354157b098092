"""What does the step cost beside open_clip's, whole and with gradient caching, and what does caching save in memory?

    python benchmarks/grad_cache.py                      # on this machine's CPU or GPU, a few minutes
    python benchmarks/grad_cache.py --batch 4096 --chunk 256 --model ViT-B-32
    python benchmarks/grad_cache.py --sides plain whole --steps 10 --rounds 8   # two of the six sides, more exactly

Six sides train the same open_clip towers with AdamW, each in a process of its own, in turns:
  plain     open_clip's ClipLoss and autograd over the whole batch: the usual step
  whole     clipmill's step with the batch as one chunk
  accum     open_clip's way to a large batch (--accum-freq): features of all chunks without a graph, then each chunk
            again with one, put between the others' features, and the loss of the whole batch for each chunk
  cached    clipmill's cached step, the batch in chunks
  off       the same with a second term (cyclip) of weight 0
  cached x8 as cached, a batch eight times as large
Printed: medians over rounds of the step time and of the process's peak memory above its state before the first step
(on a GPU: of allocated memory), and their ratios. K chunks cost K - 1 of K forwards more than a plain step, so about
1 + (K - 1) / 3K of its time when a backward costs two forwards.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import open_clip
import torch
from torch import Tensor

from training.engine.body import on_device
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import init_peers
from training.reader.batch import Batch
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.cyclip import Cyclip
from training.terms.softmax import Softmax
from training.towers.build import build_towers
from training.towers.settings import ModelSettings
from training.towers.towers import Towers

SIDES = ("plain", "whole", "accum", "cached", "off", "cached x8")
RATIOS = (
    ("time", "step_s", "whole", "plain", ""),
    ("time", "step_s", "cached", "plain", ", same batch"),
    ("time", "step_s", "cached", "accum", ", same chunk"),
    ("time", "step_s", "off", "cached", ""),
    ("memory", "peak_mb", "cached", "plain", ", same batch"),
    ("memory", "peak_mb", "cached x8", "cached", ""),
    ("memory", "peak_mb", "cached x8", "plain", " at 1x"),
)
SMALL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "head_width": 32, "layers": 4},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="an open_clip model name; default: a small one, 64 px")
    parser.add_argument("--batch", type=int, default=128, help="pairs a step")
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a process, after one that is not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    args = parser.parse_args()
    sides = {side: (args.batch, args.chunk) for side in SIDES}
    sides |= {"whole": (args.batch, args.batch), "cached x8": (8 * args.batch, args.chunk)}
    sides = {side: sides[side] for side in args.sides}
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, (batch, chunk) in sides.items():
            seen[side].append(in_own_process(vars(args) | {"side": side, "batch": batch, "chunk": chunk}))
            print(f"round {number + 1}/{args.rounds}  {side:<10} {json.dumps(seen[side][-1])}", flush=True)
    report({side: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for side, runs in seen.items()})


def report(medians: dict[str, dict[str, float]]) -> None:
    print(f"\n{'':<12}{'step':>10}{'peak memory':>15}{'final loss':>12}")
    for side, row in medians.items():
        print(f"{side:<12}{row['step_s']:>8.3f} s{row['peak_mb']:>12.0f} MB{row['loss']:>12.4f}")
    print()
    for what, key, side, peer, under in RATIOS:
        if side in medians and peer in medians:
            words = f"{what}, {side} / {peer}{under}"
            print(f"{words:<38}{medians[side][key] / medians[peer][key]:.2f}")


def in_own_process(settings: dict[str, Any]) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(settings, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit(
            f"{settings['side']}: the process died; batch {settings['batch']} may not fit in memory"
        ) from None
    finally:
        process.join()


def _measured(settings: dict[str, Any], end: Any) -> None:
    os.environ.pop("WORLD_SIZE", None)
    os.environ.pop("RANK", None)
    device = init_peers().device
    torch.manual_seed(0)
    model = ModelSettings(name=settings["model"]) if settings["model"] else ModelSettings(config=SMALL)
    towers = build_towers(model, seed=0)
    batch = _batch(towers, settings["batch"])
    step = (_theirs if settings["side"] in ("plain", "accum") else _ours)(towers, device, settings)
    before = _memory_mb(device, peak=False)
    losses = [step(batch)]
    times = []
    for _ in range(settings["steps"]):
        begun = time.perf_counter()
        losses.append(step(batch))
        times.append(time.perf_counter() - begun)
    peak = _memory_mb(device, peak=True) - before
    end.send({"step_s": round(statistics.median(times), 4), "peak_mb": round(peak, 1), "loss": round(losses[-1], 5)})


def _batch(towers: Towers, rows: int) -> Batch:
    size = (rows, 3, towers.image_size, towers.image_size)
    return Batch(
        step=0,
        rows={
            "image": torch.randint(0, 256, size, dtype=torch.uint8),
            "tokens": towers.tokenize([f"picture number {row}" for row in range(rows)]),
            "valid": torch.ones(rows, dtype=torch.bool),
        },
        uids=[f"{row:032x}" for row in range(rows)],
        captions=[""] * rows,
        epochs=[0] * rows,
    )


def _theirs(towers: Towers, device: torch.device, settings: dict[str, Any]) -> Callable[[Batch], float]:
    towers = towers.to(device).train()
    optimizer = torch.optim.AdamW(towers.parameters(), lr=1e-4, fused=True)
    loss_of = open_clip.ClipLoss()

    def features(rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bf16"):
            found = towers(rows)
        return found["image"], found["text"]

    def backward(image: Tensor, text: Tensor) -> float:
        loss = loss_of(image, text, towers.scalars()["log_scale"].exp())
        loss.backward()
        return loss.item()

    def whole(rows: dict[str, Tensor]) -> float:
        return backward(*features(rows))

    def accumulated(rows: dict[str, Tensor]) -> float:
        cut = {name: column.split(settings["chunk"]) for name, column in rows.items()}
        parts = [{name: pieces[at] for name, pieces in cut.items()} for at in range(len(cut["valid"]))]
        with torch.no_grad():
            kept = [features(part) for part in parts]
        for at, part in enumerate(parts):
            mine = [features(part) if n == at else each for n, each in enumerate(kept)]
            loss = backward(*(torch.cat(each) for each in zip(*mine, strict=True)))
        return loss

    def step(batch: Batch) -> float:
        loss = (accumulated if settings["side"] == "accum" else whole)(on_device(batch.rows, device))
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def _ours(towers: Towers, device: torch.device, settings: dict[str, Any]) -> Callable[[Batch], float]:
    engine = build_engine(towers, EngineSettings(zero_stage=0, precision=settings["precision"]), AdamW(), init_peers())
    terms = [Softmax(), *([Cyclip(weight=0.0)] if settings["side"] == "off" else [])]
    objective = build_objective(terms)
    return lambda batch: cached_step(engine, batch, objective, settings["chunk"], lr=1e-4).loss


def _memory_mb(device: torch.device, peak: bool) -> float:
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
