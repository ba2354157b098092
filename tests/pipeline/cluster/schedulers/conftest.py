from collections.abc import Iterator

import pytest

from tests.helpers import slurm_cluster
from tests.helpers.slurm_cluster import SlurmCluster


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A SLURM cluster of three nodes, the module's own."""
    if why := slurm_cluster.missing():
        pytest.skip(why)
    with SlurmCluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def idle(slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    """The same with every node up and no job of an earlier test left."""
    slurm.settle()
    yield slurm
    slurm.settle()
