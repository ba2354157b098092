"""The table of devices, and what a cluster of them is."""

import pytest

from pipeline.errors import UsageError
from pipeline.plan import devices
from pipeline.plan.devices import DEVICES, cluster_of


def test_every_device_is_in_the_docstring_that_has_its_source() -> None:
    assert all(f" {name} " in (devices.__doc__ or "").replace(",", " ") for name in DEVICES)


def test_every_figure_is_there() -> None:
    for device in DEVICES.values():
        figures = [value for value in vars(device).values() if not isinstance(value, str)]
        assert len(figures) == 7 and min(figures) > 0
        assert device.bf16_tflops >= device.fp32_tflops and device.link_gb_s >= device.network_gb_s


def test_a_ring_is_as_fast_as_its_slowest_hop() -> None:
    assert cluster_of("h100", 1, 8).wire_gb_s == 450
    assert cluster_of("h100", 2, 8).wire_gb_s == 50
    assert cluster_of("h100", 2, 8, network_gbit=100).wire_gb_s == 100 / 8 / 8  # a node's, shared by eight
    assert cluster_of("l4", 2, 1, network_gbit=8000).wire_gb_s == 25


def test_what_is_given_counts() -> None:
    found = cluster_of("a100", 4, 2, storage_gb_s=7.0, cores=12, used=0.3, price=2.0)
    assert (found.ranks, found.storage_gb_s, found.cores, found.used, found.price) == (8, 7.0, 12, 0.3, 2.0)
    assert (found.in_words(), cluster_of().in_words()) == ("4 nodes of 2 x a100", "8 x h100")


def test_an_unknown_device_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="'v100' is not in the table; one of a100, a100-40, h100"):
        cluster_of("v100")
