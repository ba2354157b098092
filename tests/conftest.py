"""What holds for every test: the lanes, and how many examples hypothesis draws in each.

quick       `make quick`: not those marked `slow` or `exhaustive`
default     `make test`: not those marked `exhaustive`; of a product of cases a sample (tests/helpers/lanes.py)
exhaustive  `make exhaustive`: those marked so, and every test of hypothesis with all its examples
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Where there is no GPU, kernels are interpreted; Triton looks at this as it is loaded, in every process.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# No test times anything: on a busy machine hypothesis' own limit of 200 ms an example would.
settings.register_profile("clipmill", deadline=None, max_examples=40)
settings.register_profile("exhaustive", deadline=None, max_examples=200)
settings.load_profile("clipmill")

SLURM = ("tests/pipeline/cluster/schedulers/test_slurm",)
NODES = tuple(
    f"tests/pipeline/cluster/{name}"
    for name in ("k8s/test_reconcile_pods", "k8s/test_kinds_ray_job", "node/test_wrapper_training", "node/test_joining")
)
"""Whole clusters on this machine, mostly waiting: one of each sort at a time, beside everything else."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, as a file stays on one process: clusters, then files by their slow tests."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(
        key=lambda item: (not item.nodeid.startswith(SLURM), not item.nodeid.startswith(NODES), -slow[item.path])
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays on one process, so that what its tests share is made once, and so do all clusters of a sort."""
    from xdist.scheduler import LoadFileScheduling

    class Lanes(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            lanes = (name for name, paths in (("slurm", SLURM), ("nodes", NODES)) if nodeid.startswith(paths))
            return next(lanes, None) or super()._split_scope(nodeid)

    return Lanes(config, log)
