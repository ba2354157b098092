"""What the fork server of `tests.helpers.ranks` imports once for all ranks: building an optimizer pulls in thousands
of modules of torch and DeepSpeed, seconds for each rank of each test otherwise."""

import atexit
import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch  # noqa: E402
import torch._dynamo  # noqa: E402, F401

torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
try:
    import deepspeed
    import deepspeed.runtime.zero.muon.muon_optimizer
    import deepspeed.runtime.zero.stage3  # noqa: F401
except ImportError:
    pass

gc.freeze()  # a full collection over all these modules takes a rank a second, and DeepSpeed asks for several
atexit.register(gc.unfreeze)  # else extension modules complain of leaks when the server ends
