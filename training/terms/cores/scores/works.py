"""Who makes sums and gradients of scores, by name; triton is loaded only where it is asked for."""

import os
from importlib.util import find_spec

from pipeline.errors import RecipeError
from training.terms.cores.scores.plain import Plain
from training.terms.cores.scores.scores import Scores
from training.terms.cores.scores.work import Work


def work_of(kernel: str, scores: Scores, fused: bool) -> Work:
    """`kernel`: torch or triton."""
    if kernel == "torch":
        return Plain(scores, fused)
    from training.terms.cores.scores.kernels import Kernels

    return Kernels(scores)


def check_kernel(term: str, kernel: str, device: str) -> None:
    """RecipeError: triton where it cannot run. `device`: its type. A CPU runs it for tests (TRITON_INTERPRET=1)."""
    if kernel == "torch":
        return
    missing = find_spec("triton") is None
    if missing or (device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1"):
        found = "without the package triton" if missing else f"on {device}"
        raise RecipeError(f"train.loss: {term}.kernel", f"triton {found}", "a GPU and triton", "kernel: torch")
