"""The contrastive loss alone, forward and backward: time and memory against open_clip's.

    python benchmarks/loss.py                            # 16,384 pairs of 512 numbers, 2 threads
    python benchmarks/loss.py --pairs 32768 --rounds 1   # open_clip's side takes 16.5 GB there
    python benchmarks/loss.py --pairs 131072 --rounds 1 --alone
    python benchmarks/loss.py --device cuda --kernel triton --tile auto
    python benchmarks/loss.py --device cuda --kernel triton --tile auto

Besides both losses the four products of tiles alone, which are the least that a loss can do that keeps no scores. Each
side in a process of its own, in turns. Printed: medians over rounds of the seconds of a call after one that is not
counted, on the clock and of the processor (the clock alone says little beside other work), of the peak of memory
(resident, or of the GPU) above what it was before the first call, and their ratios. `--alone` leaves open_clip out.
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
from training.terms.cores.exchange.interface import tiles_of
from training.terms.cores.tiles import chosen_tile

PAGE = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16_384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--scale", type=float, default=14.3)
    parser.add_argument("--core", choices=sorted(CORES), default="softmax")
    parser.add_argument("--tile", default="auto", help="auto, a side, or rows,columns")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--kernel", choices=["torch", "triton"], default="torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=1, help="timed calls in a process, after one that is not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    sides = ["clipmill"] if args.alone else ["open_clip", "clipmill", "products"]
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side in sides:
            seen[side].append(in_own_process(side, vars(args)))
            print(f"round {number + 1}/{args.rounds}  {side:<10} {json.dumps(seen[side][-1])}", flush=True)
    if not args.alone:
        peer = medians(seen["open_clip"])
        for side in sides[1:]:
            ours = medians(seen[side])
            ratios = "  ".join(f"{key} {ours[key] / peer[key]:.3f}" for key in ours)
            print(f"{side + ' / open_clip':<22}{ratios}")


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
    device = torch.device(settings["device"])
    image, text = torch.randn(2, settings["pairs"], settings["width"], generator=made).to(device)
    image, text = F.normalize(image, dim=-1), F.normalize(0.5 * image + text, dim=-1)
    call = {"clipmill": _ours, "open_clip": _theirs, "products": _products}[side](
        image, text, math.log(settings["scale"]), settings
    )
    with Peak(device) as peak:
        call()
        settled(device)
        clock, processor = [], []
        for _ in range(settings["calls"]):
            begun, used = time.perf_counter(), time.process_time()
            call()
            settled(device)
            clock.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
    found = {"clock_s": statistics.median(clock), "processor_s": statistics.median(processor), "peak_mb": peak.mb}
    end.send({key: round(value, 3) for key, value in found.items()})


def settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Peak:
    """`mb`: the most memory there was at a time above what there was at the start."""

    def __init__(self, device: torch.device) -> None:
        self.mb, self._device, self._done = 0.0, device, threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._before = self._most = self._now()
        if self._device.type == "cpu":
            self._watcher.start()
        else:
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._device.type == "cpu":
            self._done.set()
            self._watcher.join()
        else:
            self._most = torch.cuda.max_memory_allocated(self._device)
        self.mb = (self._most - self._before) / 1e6

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def tile_of(settings: dict[str, Any], like: torch.Tensor) -> tuple[int, int]:
    wanted = settings["tile"]
    sides = wanted if wanted == "auto" else tuple(int(side) for side in (f"{wanted},{wanted}").split(",")[:2])
    return chosen_tile(sides, like.shape[1], Peers.alone(like.device))


def _ours(image: torch.Tensor, text: torch.Tensor, log_scale: float, settings: dict[str, Any]) -> Callable[[], Any]:
    peers, tile = Peers.alone(image.device), tile_of(settings, image)
    bias = image.new_full((1,), -10.0) if settings["core"] == "sigmoid" else None
    problem = Problem(image, text, image.new_full((1,), log_scale), bias)
    return lambda: CORES[settings["core"]](problem, None, peers, tile=tile, kernel=settings["kernel"])


def _products(image: torch.Tensor, text: torch.Tensor, log_scale: float, settings: dict[str, Any]) -> Callable[[], Any]:
    d_image, d_text = torch.zeros_like(image), torch.zeros_like(text)
    tall, wide = tile_of(settings, image)
    memory = image.new_empty(tall * wide)

    def call() -> None:
        for sweep in range(2):
            for rows, columns in tiles_of(slice(0, len(image)), slice(0, len(text)), (tall, wide)):
                x, y = image[rows], text[columns]
                scores = torch.mm(x, y.T, out=memory[: len(x) * len(y)].view(len(x), len(y)))
                if sweep:
                    d_image[rows].addmm_(scores, y)
                    d_text[columns].addmm_(scores.T, x)

    return call


def _theirs(image: torch.Tensor, text: torch.Tensor, log_scale: float, settings: dict[str, Any]) -> Callable[[], Any]:
    import open_clip.loss

    loss = open_clip.ClipLoss() if settings["core"] == "softmax" else open_clip.loss.SigLipLoss()
    bias = () if settings["core"] == "softmax" else (image.new_full((1,), -10.0).requires_grad_(),)

    def call() -> torch.Tensor:
        leaves = [image.detach().requires_grad_(), text.detach().requires_grad_()]
        scale = image.new_full((1,), log_scale).requires_grad_()
        value = loss(*leaves, scale.exp(), *bias)
        value.backward()
        return value

    return call


if __name__ == "__main__":
    main()
