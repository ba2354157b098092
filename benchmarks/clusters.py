"""Seconds and memory of clusters of vectors: a round of k-means at 1e3, 1e4 and 1e5 centres, flat and in two levels,
beside numpy's plain Lloyd; and greedy semantic duplicates of one cluster.

    python benchmarks/clusters.py [rows] [width ...]
    python benchmarks/clusters.py bound [rows] [width] [k ...]      # assignment alone, beside torch's product and max
    python benchmarks/clusters.py pieces [rows] [width] [k]         # a task's share of a round, centres in mapped files

Vectors are made up: Gaussian clouds. Each figure is of a process of its own, with two threads of BLAS.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_THREADS = "2"


def made_up(rows: int, width: int, clouds: int, seed: int = 0) -> np.ndarray:
    """float32 [row, value] of unit length, in multiples of 2^-24."""
    from curation.methods.vectors.clusters import units

    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clouds, width)).astype(np.float32)
    found = np.empty((rows, width), np.float32)
    for at in range(0, rows, 4096):
        some = centres[rng.integers(0, clouds, min(4096, rows - at))]
        found[at : at + 4096] = units(some + 0.5 * rng.normal(size=some.shape))
    return found


def ours(vectors: np.ndarray, centres: np.ndarray) -> None:
    from curation.methods.vectors.clusters import moved, sums_of
    from curation.methods.vectors.nearest import assigned, blocks_of

    own, _ = assigned(vectors, blocks_of(centres))
    moved(sums_of(vectors, own), centres)


def levels(vectors: np.ndarray, centres: np.ndarray) -> None:
    """The same number of centres in two levels: that each vector finds its own."""
    from curation.methods.vectors.levels import Levels

    each = round(len(centres) ** 0.5)
    Levels(centres[:each], lambda at: centres[at * each : (at + 1) * each], each).assigned(vectors)


def plain(vectors: np.ndarray, centres: np.ndarray) -> None:
    """Lloyd as it is mostly written: float32, a block of rows against all centres, np.add.at."""
    own = np.empty(len(vectors), np.int64)
    step = max(1, 256_000_000 // len(centres) // 4)
    for at in range(0, len(vectors), step):
        own[at : at + step] = (vectors[at : at + step] @ centres.T).argmax(axis=1)
    sums = np.zeros(centres.shape)
    np.add.at(sums, own, vectors)


def assign(vectors: np.ndarray, centres: np.ndarray) -> None:
    from curation.methods.vectors.nearest import assigned, blocks_of

    assigned(vectors, blocks_of(centres))


def torch_max(vectors: np.ndarray, centres: np.ndarray) -> None:
    """What no assignment to all centres can be much faster than: float32 products, tile by tile, and their maxima."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    there, all_ = torch.from_numpy(vectors), torch.from_numpy(centres)
    for at in range(0, len(there), 2048):
        best = torch.full((len(there[at : at + 2048]),), -torch.inf)
        for first in range(0, len(all_), 1024):
            values, _ = (there[at : at + 2048] @ all_[first : first + 1024].T).max(dim=1)
            best = torch.maximum(best, values)


def greedy(vectors: np.ndarray, _: np.ndarray) -> None:
    from curation.methods.vectors.neighbours import first_kept

    first_kept(vectors, 0.95)


def bound(rows: int = 4_000, width: int = 512, *ks: int) -> None:
    """Medians of three, alternating, of one thread and by its CPU time: other work on the machine shows little."""
    print("| k | what | vectors/s of CPU | peak MB above the start |\n| --- | --- | --- | --- |")
    for k in ks or (1_000, 10_000, 50_000):
        found: dict[str, list[dict[str, float]]] = {"torch_max": [], "assign": [], "levels": []}
        for _ in range(3):
            for what, runs in found.items():
                runs.append(measured(what, rows, width, k, "1"))
        for what, runs in found.items():
            runs.sort(key=lambda run: run["cpu"])
            above = max(run["peak_mb"] - run["before_mb"] for run in runs)
            print(f"| {k:,} | {what} | {rows / runs[1]['cpu']:,.0f} | {above} |", flush=True)


def pieces(rows: int = 500, width: int = 512, k: int = 1_000_000) -> None:
    """What a task of a flat round does, at any k: centres lie in files of 4,096, as the runner leaves them."""
    from curation.methods.vectors.clusters import sums_of, units
    from curation.methods.vectors.nearest import assigned, blocks_of

    vectors = made_up(rows, width, rows)
    with tempfile.TemporaryDirectory() as folder:
        starts = range(0, k, 4096)
        for at in starts:
            rng = np.random.default_rng(at)
            some = units(rng.standard_normal((min(4096, k - at), width), np.float32))
            np.save(f"{folder}/{at}.npy", some)

        def blocks() -> Iterator[tuple[int, np.ndarray]]:
            for at in starts:
                yield from blocks_of(np.load(f"{folder}/{at}.npy", mmap_mode="r"), at)()

        Path("/proc/self/clear_refs").write_text("5")
        before, since = _peak(), time.process_time()
        own, _ = assigned(vectors, blocks)
        found = sums_of(vectors, own)
        seconds, above = time.process_time() - since, _peak() - before >> 10
        rates = f"{rows / seconds:.0f} vectors/s of CPU, {2e-9 * rows * width * k / seconds:.0f} GFLOP/s"
        print(f"{rows:,} vectors of {width}, {k:,} centres, {k * width * 4 >> 20} MiB in files: {rates}")
        print(f"peak {above} MB above the start; sums {found.nbytes >> 20} MiB")


def one(what: str, rows: int, width: int, k: int) -> None:
    vectors = made_up(rows, width, min(max(k, 1), rows))
    centres = made_up(k, width, min(max(k, 1), 4096), 1) if k else vectors[:0]
    globals()[what](vectors[:8], centres[:8])  # imports, and what libraries set up
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before, since, cpu = _peak(), time.perf_counter(), time.process_time()
    globals()[what](vectors, centres)
    seconds, cpu, peak = time.perf_counter() - since, time.process_time() - cpu, _peak()
    print(json.dumps({"seconds": round(seconds, 2), "cpu": cpu, "peak_mb": peak >> 10, "before_mb": before >> 10}))


def _peak() -> int:
    """KiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def measured(what: str, rows: int, width: int, k: int, threads: str = _THREADS) -> dict[str, float]:
    command = [sys.executable, __file__, "one", what, str(rows), str(width), str(k)]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main(rows: int = 20_000, widths: tuple[int, ...] = (64, 512)) -> None:
    print("| what | vectors | width | k | seconds | peak MB (before) |\n| --- | --- | --- | --- | --- | --- |")
    cases = [(what, rows, w, k) for w in widths for k in (10**3, 10**4, 10**5) for what in ("plain", "ours", "levels")]
    for what, number, width, k in [*cases, *(("greedy", rows, width, 0) for width in widths)]:
        found = measured(what, number, width, k)
        shown = f"{found['seconds']} | {found['peak_mb']} ({found['before_mb']})"
        print(f"| {what} | {number:,} | {width} | {k:,} | {shown} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], *map(int, sys.argv[3:]))
    elif sys.argv[1:2] == ["bound"]:
        bound(*map(int, sys.argv[2:]))
    elif sys.argv[1:2] == ["pieces"]:
        pieces(*map(int, sys.argv[2:]))
    else:
        main(*([int(sys.argv[1]), tuple(map(int, sys.argv[2:])) or (64, 512)] if sys.argv[1:] else []))
