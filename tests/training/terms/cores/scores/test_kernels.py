"""The kernels against float64 of a textbook, number for number, and through the compiler for GPUs that are not here."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.contrast import (
    check,
    hits,
    near,
    problems_of,
    sigmoid_parts,
    softened,
    softmax_parts,
    spread_out,
    whole_of,
)
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from training.ranks.peers import Peers
from training.terms.cores import CORES
from training.terms.cores.exchange import EXCHANGES
from training.terms.cores.exchange.interface import Block, Placed, Tile
from training.terms.cores.scores.running import FLOOR, Running
from training.terms.cores.scores.work import Asked
from training.terms.targets import TARGETS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py has a CPU interpret them
PARTS = {"softmax": softmax_parts, "sigmoid": sigmoid_parts}
ALL = {"masked", "twins", "extra", "queue", "weights"}
# Less than a block, one to the edge of it, and several with a ragged end: a block has 64 x 128 scores.
SHAPES = [(3, 5), (64, 128), (65, 129), (150, 300)]


class Scaled:
    """As much of `Scores` as kernels look at."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.scale = torch.ones((), dtype=dtype, device=DEVICE)


def kernels(dtype: torch.dtype):
    from training.terms.cores.scores.kernels import Kernels

    return Kernels(Scaled(dtype))


def scores(shape: tuple[int, int], dtype: torch.dtype, spread: float = 30.0) -> torch.Tensor:
    """Some of them masked, and all of one row and of one column."""
    made = torch.Generator().manual_seed(sum(shape))
    found = torch.randn(shape, generator=made, dtype=torch.float64) * spread
    found[torch.rand(shape, generator=made) < 0.1] = -torch.inf
    found[1], found[:, 2] = -torch.inf, -torch.inf
    return found.to(dtype).to(DEVICE)


DTYPES = {torch.float32: 2e-6, torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_fold_has_the_maxima_and_sums_of_exponentials_of_rows_and_columns(shape, dtype):
    given = scores(shape, dtype)
    (R, C), work = shape, kernels(dtype)
    rows, columns = (Running(given.new_full((n,), FLOOR), given.new_zeros(n)) for n in (R, C))
    for part in (given, given / 2):  # two tiles: the second one adds to the first
        work.fold(rows, columns, part.clone())
    both = torch.stack([given, given / 2]).double()
    for running, sums, tops in (
        (rows, both.logsumexp((0, 2)), both.amax((0, 2))),
        (columns, both.logsumexp((0, 1)), both.amax((0, 1))),
    ):
        there = sums.isfinite()
        assert torch.equal(running.top.double()[there], tops[there])
        assert (running.top[~there] == FLOOR).all() and (running.total[~there] == 0).all()
        found = running.top.double() + running.total.double().log()
        assert torch.allclose(found[there], sums[there], rtol=DTYPES[dtype])


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_a_fold_leaves_out_the_side_that_does_not_count(side):
    given = scores((70, 130), torch.float64)
    length = given.shape[0 if side == "rows" else 1]
    running = Running(given.new_full((length,), FLOOR), given.new_zeros(length))
    kernels(torch.float64).fold(*((running, None) if side == "rows" else (None, running)), given)
    wanted = given.double().logsumexp(1 if side == "rows" else 0)
    assert torch.allclose(running.top + running.total.log(), wanted, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities_are_both_exponentials_and_nothing_where_a_side_has_no_weight(shape, dtype):
    given = scores(shape, dtype, 3.0)
    (R, C), made = shape, torch.Generator().manual_seed(0)
    shift_R, shift_C = (torch.rand(n, generator=made, dtype=torch.float64).to(dtype).to(DEVICE) for n in (R + 4, C))
    shift_R[4], shift_C[1] = torch.inf, torch.inf
    block = Block(0, {"shift": shift_C})
    tile = Tile(slice(14, 14 + R), slice(0, C), True, True, block, {"shift": shift_C}, {})
    found = kernels(dtype).probabilities(tile, given.clone(), Placed(shift_R, 10))
    wide = given.double()
    wanted = (wide - shift_R[4:, None].double()).exp() + (wide - shift_C.double()).exp()
    assert torch.allclose(found.double(), wanted, rtol=20 * DTYPES[dtype], atol=0)


@pytest.mark.parametrize("with_", [(), ("weights",), ("spread",), ("weights", "spread")], ids="+".join)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_questions_have_the_losses_and_gradients_of_rows_and_columns(shape, dtype, with_):
    given = scores(shape, dtype, 5.0)
    (R, C), made = shape, torch.Generator().manual_seed(0)
    row_R, column_C, spread_RC = (
        torch.rand(size, generator=made, dtype=torch.float64).to(dtype).to(DEVICE) for size in (R, C, (R, C))
    )
    new = given.new_zeros
    rows, columns = Asked(new(R), new(R) + FLOOR, new(R)), Asked(new(C), new(C) + FLOOR)
    weights = (row_R, column_C) if "weights" in with_ else None
    spread = spread_RC if "spread" in with_ else None
    found = kernels(dtype).questions(given.clone(), rows, columns, weights, spread)
    wide = given.double()
    loss, d = F.softplus(wide), wide.sigmoid()
    if weights:
        d = d * (row_R[:, None].double() + column_C.double())
    if spread is not None:
        d = d - spread_RC.double()
    near(found, d, DTYPES[dtype])
    for got, wanted in ((rows.loss, loss.sum(1)), (columns.loss, loss.sum(0)), (rows.d_total, d.sum(1))):
        near(got, wanted, DTYPES[dtype])
    assert torch.equal(rows.top, given.amax(1).clamp(min=FLOOR))
    assert torch.equal(columns.top, given.amax(0).clamp(min=FLOOR))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_loss_of_an_easy_rival_keeps_its_digits(dtype):
    """softplus(-20) is 2e-9, of which a logarithm of 1 + exp(-20) in float32 has nothing; a step has B x B of them."""
    given = torch.linspace(-60, 60, 241, dtype=torch.float64)[:, None].to(dtype).to(DEVICE)
    rows = Asked(given.new_zeros(241), given.new_full((241,), FLOOR), given.new_zeros(241))
    kernels(dtype).questions(given.clone(), rows, None, None, None)
    wide = given[:, 0].double()
    wanted = wide.clamp(min=0) + (-wide.abs()).exp().log1p()
    assert torch.allclose(rows.loss.double(), wanted, rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("traits", [set(), ALL], ids=["plain", "all"])
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("core", CORES)
def test_a_core_gives_the_gradients_of_the_whole_step(core, exchange, traits):
    [problem] = problems = problems_of([7], traits)
    whole = whole_of(problems)
    output = CORES[core](moved(problem), None, Peers.alone(), exchange=exchange, tile=5, kernel="triton")
    check([home(output)], whole, PARTS[core](whole), bias=core == "sigmoid")
    i2t, t2i = hits(whole, many=core == "sigmoid")
    near(output.metrics["acc_i2t"].cpu(), i2t, 1e-9)
    near(output.metrics["acc_t2i"].cpu(), t2i, 1e-9)


def test_a_soft_target_is_taken_off():
    [problem] = problems = problems_of([6], {"twins", "weights"})
    target, whole = TARGETS["teacher"](scale=9, share=0.4), whole_of(problems)
    output = CORES["softmax"](moved(problem), target, Peers.alone(), tile=4, kernel="triton")
    rows, columns = softened(whole, whole.row_fields["teacher.image"], whole.text_fields["teacher.text"], 9, 0.4)
    check([home(output)], whole, softmax_parts(whole, lambda step: spread_out(step, rows, columns)))


def test_a_nan_feature_makes_the_loss_nan_rather_than_hiding():
    for core in CORES:
        [problem] = problems_of([5], set())
        problem.image_ND[2, 0] = torch.nan
        assert CORES[core](moved(problem), None, Peers.alone(), kernel="triton").value.isnan()


def test_processes_give_the_gradients_of_the_whole_step():
    counts = [3, 4]
    outputs = run_ranks(_on_rank, 2, counts)
    for place, core in enumerate(CORES):
        whole = whole_of(problems_of(counts, ALL))
        check([found[place] for found in outputs], whole, PARTS[core](whole), bias=core == "sigmoid")
        assert torch.equal(outputs[0][place].value, outputs[1][place].value)


def _on_rank(peers: Peers, counts: list[int]) -> list:
    problem = problems_of(counts, ALL)[peers.rank]
    return [CORES[core](problem, None, peers, exchange="gather2", tile=3, kernel="triton") for core in CORES]


def moved(problem):
    from dataclasses import fields, replace

    def there(value):
        if isinstance(value, dict):
            return {name: tensor.to(DEVICE) for name, tensor in value.items()}
        return None if value is None else value.to(DEVICE)

    return replace(problem, **{field.name: there(getattr(problem, field.name)) for field in fields(problem)})


def home(output):
    from dataclasses import fields, replace

    def back(value):
        return {name: t.cpu() for name, t in value.items()} if isinstance(value, dict) else value.cpu()

    given = {field.name: getattr(output, field.name) for field in fields(output)}
    return replace(output, **{name: back(value) for name, value in given.items() if value is not None})


COMPILED = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from training.terms.cores.scores import kernels

FIXED = {"WEIGHED": True, "SPREAD": True, "TERMS": 8, "TALL": kernels._TALL, "WIDE": kernels._WIDE}
for kernel in (kernels._fold, kernels._probabilities, kernels._questions):
    kinds = {"R": "i32", "C": "i32", "floor": "fp32"}
    signature = {name: "constexpr" if name in FIXED else kinds.get(name, "*fp32") for name in kernel.arg_names}
    fixed = {(at,): FIXED[name] for at, name in enumerate(kernel.arg_names) if name in FIXED}
    aligned = [(at,) for at, name in enumerate(kernel.arg_names) if signature[name][0] == "*"]
    source = ASTSource(kernel, signature, fixed, {at: [["tt.divisibility", 16]] for at in aligned})
    made = compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"num_warps": kernels._WARPS})
    print(kernel.__name__, len(made.asm["cubin"]))
"""


@pytest.mark.parametrize("generation", sampled([80, 90, 100], 1), ids=["A100", "H100", "B200"])
def test_the_kernels_compile_for_gpus(generation, tmp_path):
    """To machine code, by the compiler's own assembler, which needs no GPU."""
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(generation)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    sizes = dict(line.split() for line in done.stdout.splitlines())
    assert set(sizes) == {"_fold", "_probabilities", "_questions"} and all(int(size) > 1000 for size in sizes.values())
