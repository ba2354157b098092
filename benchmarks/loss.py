"""The contrastive loss alone, forward and backward: time and memory against open_clip's.

    python benchmarks/loss.py                            # 16,384 pairs of 512 numbers, 2 threads
    python benchmarks/loss.py --pairs 32768 --rounds 1   # open_clip's side takes 16.5 GB there
    python benchmarks/loss.py --pairs 131072 --rounds 1 --alone

Each side in a process of its own, in turns. Printed: medians over rounds of the seconds of a call after one that is not
counted, on the clock and of the processor (the clock alone says little beside other work), of the peak of resident
memory above what it was before the first call, and their ratios. `--alone` leaves open_clip out.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from training.ranks.peers import Peers
from training.terms.cores import CORES, Problem
from training.terms.cores.tiles import chosen_tile

PAGE = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16_384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--scale", type=float, default=14.3)
    parser.add_argument("--core", choices=sorted(CORES), default="softmax")
    parser.add_argument("--tile", default="auto", help="auto, a side, or rows,columns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=1, help="timed calls in a process, after one that is not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    sides = ["clipmill"] if args.alone else ["open_clip", "clipmill"]
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side in sides:
            seen[side].append(in_own_process(side, vars(args)))
            print(f"round {number + 1}/{args.rounds}  {side:<10} {json.dumps(seen[side][-1])}", flush=True)
    medians = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in seen.items()
    }
    if not args.alone:
        peer, ours = medians["open_clip"], medians["clipmill"]
        print("\nclipmill / open_clip  " + "  ".join(f"{key} {ours[key] / peer[key]:.3f}" for key in ours))


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def in_own_process(side: str, settings: dict[str, Any]) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(side, settings, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit(f"{side}: the process died; {settings['pairs']} pairs may not fit in memory") from None
    finally:
        process.join()


def _measured(side: str, settings: dict[str, Any], end: Any) -> None:
    torch.set_num_threads(settings["threads"])
    made = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, settings["pairs"], settings["width"], generator=made)
    image, text = F.normalize(image, dim=-1), F.normalize(0.5 * image + text, dim=-1)
    call = {"clipmill": _ours, "open_clip": _theirs}[side](image, text, math.log(settings["scale"]), settings)
    before, most, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    clock, processor = [], []
    for _ in range(settings["calls"]):
        begun, used = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    done.set()
    watcher.join()
    found = {"clock_s": statistics.median(clock), "processor_s": statistics.median(processor)}
    found["peak_mb"] = (most[0] - before) / 1e6
    end.send({key: round(value, 3) for key, value in found.items()})


def _ours(image: torch.Tensor, text: torch.Tensor, log_scale: float, settings: dict[str, Any]) -> Callable[[], Any]:
    wanted = settings["tile"]
    sides = wanted if wanted == "auto" else tuple(int(side) for side in (f"{wanted},{wanted}").split(",")[:2])
    tile = chosen_tile(sides, image.shape[1], Peers.alone())
    bias = torch.tensor([-10.0]) if settings["core"] == "sigmoid" else None
    problem = Problem(image, text, torch.tensor([log_scale]), bias)
    return lambda: CORES[settings["core"]](problem, None, Peers.alone(), tile=tile)


def _theirs(image: torch.Tensor, text: torch.Tensor, log_scale: float, settings: dict[str, Any]) -> Callable[[], Any]:
    import open_clip.loss

    loss = open_clip.ClipLoss() if settings["core"] == "softmax" else open_clip.loss.SigLipLoss()
    bias = () if settings["core"] == "softmax" else (torch.tensor([-10.0], requires_grad=True),)

    def call() -> torch.Tensor:
        leaves = [image.detach().requires_grad_(), text.detach().requires_grad_()]
        scale = torch.tensor([log_scale], requires_grad=True)
        value = loss(*leaves, scale.exp(), *bias)
        value.backward()
        return value

    return call


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


if __name__ == "__main__":
    main()
