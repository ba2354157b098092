"""What does gradient caching cost in time, and what does it save in memory?

    python benchmarks/grad_cache.py                      # on this machine's CPU or GPU, a few minutes
    python benchmarks/grad_cache.py --batch 4096 --chunk 256 --model ViT-B-32

Three sides train the same open_clip towers with AdamW, each in a process of its own, in turns:
  plain     open_clip's ClipLoss and autograd over the whole batch: the usual step
  cached    clipmill's cached step, the batch in chunks
  cached x8 the same chunk, a batch eight times as large
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

from training.engine.body import on_device
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import init_peers
from training.reader.batch import Batch
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.softmax import Softmax
from training.towers.build import build_towers
from training.towers.settings import ModelSettings
from training.towers.towers import Towers

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
    args = parser.parse_args()
    sides = {"plain": (args.batch, None), "cached": (args.batch, args.chunk), "cached x8": (8 * args.batch, args.chunk)}
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, (batch, chunk) in sides.items():
            seen[side].append(in_own_process(side, vars(args) | {"batch": batch, "chunk": chunk}))
            print(f"round {number + 1}/{args.rounds}  {side:<10} {json.dumps(seen[side][-1])}", flush=True)
    report({side: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for side, runs in seen.items()})


def report(medians: dict[str, dict[str, float]]) -> None:
    plain, cached, larger = (medians[side] for side in ("plain", "cached", "cached x8"))
    print(f"\n{'':<12}{'step':>10}{'peak memory':>15}{'final loss':>12}")
    for side, row in medians.items():
        print(f"{side:<12}{row['step_s']:>8.3f} s{row['peak_mb']:>12.0f} MB{row['loss']:>12.4f}")
    print(f"\ntime, cached / plain, same batch      {cached['step_s'] / plain['step_s']:.2f}")
    print(f"memory, cached / plain, same batch    {cached['peak_mb'] / plain['peak_mb']:.2f}")
    print(f"memory, cached x8 / cached            {larger['peak_mb'] / cached['peak_mb']:.2f}")
    print(f"memory, cached x8 / plain at 1x       {larger['peak_mb'] / plain['peak_mb']:.2f}")


def in_own_process(side: str, settings: dict[str, Any]) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(settings, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit(f"{side}: the process died; batch {settings['batch']} may not fit in memory") from None
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
    step = _plain(towers, device, settings) if settings["chunk"] is None else _cached(towers, settings)
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


def _plain(towers: Towers, device: torch.device, settings: dict[str, Any]) -> Callable[[Batch], float]:
    towers = towers.to(device).train()
    optimizer = torch.optim.AdamW(towers.parameters(), lr=1e-4, fused=True)
    loss_of = open_clip.ClipLoss()

    def step(batch: Batch) -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bf16"):
            found = towers(on_device(batch.rows, device))
        loss = loss_of(found["image"], found["text"], towers.scalars()["log_scale"].exp())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def _cached(towers: Towers, settings: dict[str, Any]) -> Callable[[Batch], float]:
    engine = build_engine(towers, EngineSettings(zero_stage=0, precision=settings["precision"]), AdamW(), init_peers())
    objective = build_objective([Softmax()])
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
