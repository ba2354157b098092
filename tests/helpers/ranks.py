"""Runs a function on N gloo processes and returns what each gave back.

A fork server imports torch (and what else a test names) once; each rank is then a fork of it, so a run costs tenths
of a second rather than an import of torch per rank. Call `run_ranks` with several cases batched into one function
where setting up matters.
"""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

_PRELOAD = ["tests.helpers.preload"]


def run_ranks(function: Callable[..., Any], world: int, *args: Any, timeout_s: float = 240.0) -> list[Any]:
    """`function(peers, *args)` on each of `world` processes; their results in rank order.

    `function` must be importable (defined at the top of a test module or helper); arguments and results are pickled.
    The first rank that raises ends the others, and its traceback is the AssertionError raised here. A run longer than
    `timeout_s` is ended and fails.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        ends, processes = [], []
        for rank in range(world):
            ours, theirs = context.Pipe(duplex=False)
            job = pickle.dumps((function, args))
            process = context.Process(target=_rank_main, args=(job, rank, world, folder, theirs), daemon=True)
            process.start()
            theirs.close()
            ends.append(ours)
            processes.append(process)
        try:
            return _collected(ends, time.monotonic() + timeout_s, timeout_s)
        finally:
            for process in processes:
                process.join(timeout=5)
                if process.is_alive():
                    process.kill()
                    process.join()


def _collected(ends: list[Connection], deadline: float, timeout_s: float) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(ends):
        pending = [end for rank, end in enumerate(ends) if rank not in results]
        ready = wait(pending, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            missing = [rank for rank in range(len(ends)) if rank not in results]
            raise AssertionError(f"ranks {missing} of {len(ends)} gave no result in {timeout_s} s")
        for end in ready:
            rank = ends.index(end)
            try:
                passed, value = pickle.loads(end.recv_bytes())
            except EOFError:
                raise AssertionError(f"rank {rank} of {len(ends)} died without a word") from None
            if not passed:
                raise AssertionError(f"rank {rank} of {len(ends)} raised:\n{value}")
            results[rank] = value
    return [results[rank] for rank in range(len(ends))]


def _rank_main(job: bytes, rank: int, world: int, folder: str, end: Connection) -> None:
    os.environ.update(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo", DS_ACCELERATOR="cpu")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)  # ranks meet through a file, and nothing may lean on a launcher's variables
    # As pytest's own filter in pyproject.toml, which a process of its own does not have.
    warnings.filterwarnings("error", module=r"(pipeline|curation|training|tests|benchmarks)\b")
    try:
        import torch

        from training.ranks.peers import init_peers

        torch.set_num_threads(1)
        function, args = pickle.loads(job)
        peers = init_peers("gloo", 60.0, "cpu", f"file://{Path(folder) / 'meet'}", rank, world)
        answer = (True, function(peers, *args))
        peers.close()
    except BaseException:
        answer = (False, traceback.format_exc())
    end.send_bytes(pickle.dumps(answer))
    end.close()
