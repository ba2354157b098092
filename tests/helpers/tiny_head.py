"""A head of a few weights, as the file that a recipe names."""

import functools
import tempfile
from pathlib import Path

import numpy as np


def layers(*sizes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """layers.0, layers.2, ...: as a Sequential with something between."""
    rng = np.random.default_rng(seed)
    made = {}
    for at, (width, out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        made[f"layers.{2 * at}.weight"] = rng.normal(size=(out, width)).astype(np.float32)
        made[f"layers.{2 * at}.bias"] = rng.normal(size=out).astype(np.float32)
    return made


@functools.cache
def kept(width: int) -> str:
    """One that lasts as long as the process."""
    from safetensors.numpy import save_file

    path = Path(tempfile.mkdtemp(prefix="tiny-head-")) / "head.safetensors"
    save_file(layers(width, 5, 3), path)
    return str(path)
