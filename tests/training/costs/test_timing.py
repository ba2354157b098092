"""Seconds by hand, of work that is made up."""

import pytest

from pipeline.plan.devices import Cluster, Device
from training.costs import timing
from training.costs.model import Group, Passes, Weights
from training.costs.watch import Operation, Work
from training.settings import TrainSettings
from training.terms.costs import StepSizes, TermCost

# 100 TFLOP/s in 16 bits, 10 in 32, 1 TB/s; ranks at 100 GB/s in a node and 10 out of it
DEVICE = Device("made up", 80, 100, 10, 1000, 100, 10, 20)
ONE, TWO = Cluster(DEVICE, 1, 8), Cluster(DEVICE, 2, 8)
TERA, GIGA = 10**12, 10**9


def test_an_operation_takes_as_long_as_the_peak_that_binds_it() -> None:
    products, moves = Operation(50 * TERA, GIGA, True), Operation(TERA, 70 * GIGA, True)
    assert timing.device_s(Work(((products, 1),)), ONE) == pytest.approx(1.0)  # half of 100 TFLOP/s are reached
    assert timing.device_s(Work(((moves, 3),)), ONE) == pytest.approx(0.3)  # 0.7 of 1,000 GB/s
    both = Work(((products, 2), (moves, 1)))
    assert timing.device_s(both, ONE) == pytest.approx(2.1)
    assert timing.device_s(Work(((products._replace(half=False), 1),)), ONE) == pytest.approx(10.0)


def test_a_pass_takes_no_less_than_the_host_needs() -> None:
    small = Work(((Operation(0, 1, True), 1000),))
    assert timing.work_s(small, ONE) == pytest.approx(1000 * timing.HOST_S)


def test_a_ring_over_nodes_is_as_fast_as_the_network() -> None:
    assert timing.wire_s(6 * GIGA, ONE) == pytest.approx(0.1)
    assert timing.wire_s(6 * GIGA, TWO) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rows", "chunk", "want"), [(64, 16, (4, 1.0)), (60, 16, (4, 0.75)), (7, 16, (1, 7 / 16)), (17, 16, (2, 1 / 16))]
)
def test_chunks_of_a_rank(rows: int, chunk: int, want: tuple[int, float]) -> None:
    assert timing.chunk_shares(rows, chunk) == pytest.approx(want)


def settings_of(pairs: int, chunk: int, exchange: str = "gather") -> TrainSettings:
    plain = {"data": ["x"], "output": "y", "steps": 3, "model": {"name": "ViT-B-32"}}
    loss = {"kind": "softmax", "exchange": exchange}
    return TrainSettings.model_validate({**plain, "loss": loss, "batch": {"global": pairs, "chunk": chunk}})


def work(seconds: float) -> Work:
    return Work(((Operation(int(seconds * 50 * TERA), 0, True), 1),))


def test_four_chunks_cost_three_forwards_without_a_graph_more() -> None:
    """Only the last chunk keeps its graph from the first pass (`training/step/grad_cache.py`)."""
    passes = Passes(work(1), work(2), work(4), kept=0, peak=0, rows=2.0e6, outputs=0.0)
    traffic = {"gradients": 6 * GIGA, "loss": 60 * GIGA}
    terms = [TermCost(flops=5 * TERA), TermCost(touched=700 * GIGA)]
    found = timing.seconds(settings_of(8 * 64, 16), ONE, Weights((Group((10,), 2),)), passes, traffic, 64, terms)
    assert found["first pass"] == pytest.approx(3 * 1 + 2)
    assert found["second pass"] == pytest.approx(3 * 2 + 4 * 4)
    assert found["copy of pixels"] == pytest.approx(64 * 2e6 / 20e9)
    assert found["reduction"] == pytest.approx(0.1) and found["loss"] == pytest.approx(1.0 + 1.0 + 1.0)
    alone = timing.seconds(settings_of(8 * 16, 16), ONE, Weights((Group((10,), 2),)), passes, traffic, 16, terms)
    assert (alone["first pass"], alone["second pass"]) == pytest.approx((2, 4))


def test_the_loss_is_four_products_of_its_scores_or_six() -> None:
    """2 b B D each, in fp32, half of 10 TFLOP/s; of `gather2` two are not made again where a rank meets itself."""
    pairs, rows, width = 2**16, 2**13, 1024
    scores = rows * pairs
    moved = 12 * 4 * scores / (0.7e12)
    sizes = StepSizes(8, pairs, {"image": (width,)})
    costs = [settings_of(pairs, 64, way).loss[0].costs(sizes) for way in ("ring", "gather2")]
    four, six = (timing.loss_s([cost], ONE) for cost in costs if cost)
    assert four - moved == pytest.approx(4 * 2 * scores * width / 5e12)
    again = 2 * 2 * rows * rows * width / 5e12
    assert six - (2 - 1 / 8) * moved == pytest.approx(6 * 2 * scores * width / 5e12 - again)


def test_an_optimizer_is_bound_by_memory() -> None:
    """Stage 1, the default: an eighth of it; gradient twice, weight and two moments read and written."""
    weights = Weights((Group((8 * 10**9,), 2),))
    assert timing.optimizer_s(settings_of(64, 8), ONE, weights) == pytest.approx(8 * 4e9 / 0.7e12)
