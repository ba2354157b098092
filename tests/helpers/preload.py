"""What the fork server of `tests.helpers.ranks` imports once for all ranks."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch  # noqa: E402, F401

try:
    import deepspeed  # noqa: F401
except ImportError:
    pass
