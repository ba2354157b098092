"""Tasks in this process."""

import os

from curation.runner.calls import Call, Pool
from curation.runner.cluster import cluster
from curation.settings import RaySettings
from pipeline.signals import StopSignals


def product(job, number):
    return job["factor"] * number, os.getpid()


def test_calls_run_in_order_in_this_process():
    with cluster(RaySettings(address="inline"), StopSignals()) as place:
        place.give({"factor": 3})
        found = [result for _, result in place.run([Call(product, (n,), "d") for n in range(3)])]
        assert found == [(3 * n, os.getpid()) for n in range(3)]


def test_calls_of_a_pool_do_too():
    with cluster(RaySettings(address="inline"), StopSignals()) as place:
        place.give({"factor": 3})
        calls = [Call(product, (n,), "d", gpus=1, memory=1 << 40, pool=Pool("m", 2, 4)) for n in range(3)]
        assert [result[0] for _, result in place.run(calls, "label")] == [0, 3, 6]
