"""The softmax loss: equal to the textbook's autograd for any split of the rows, never B x B, exact when learnt.

Letters: B rows of the whole batch, N rows of a rank, D features.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.errors import DataError
from tests.helpers import terms
from tests.helpers.ranks import run_ranks
from tests.helpers.simulated import run_simulated
from tests.helpers.textbook import softmax_gradients, softmax_loss
from training.ranks.peers import Peers
from training.terms import TERMS
from training.terms.softmax import Softmax
from training.terms.term import TermOutput


def _features(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, rows, width, generator=made, dtype=torch.float64)
    image_BD, text_BD = F.normalize(pair, dim=-1).to(dtype)
    return image_BD, text_BD


def _clip(
    settings: Softmax, image_ND: Tensor, text_ND: Tensor, log_scale: Tensor, valid_N: Tensor | None, peers: Peers
) -> TermOutput:
    valid_N = torch.ones(len(image_ND), dtype=torch.bool) if valid_N is None else valid_N
    features = {"image": image_ND, "text": text_ND}
    return settings.build()(features, {"log_scale": log_scale}, {"valid": valid_N}, peers)


def _on_rank(
    peers: Peers, loss: Softmax, image_BD: Tensor, text_BD: Tensor, valid_B: Tensor, counts: list[int], log_s: float
) -> TermOutput:
    own = slice(sum(counts[: peers.rank]), sum(counts[: peers.rank + 1]))
    log_scale = torch.tensor([log_s], dtype=image_BD.dtype)
    return _clip(loss, image_BD[own], text_BD[own], log_scale, valid_B[own], peers)


def _check(outputs: list[TermOutput], want: tuple[Tensor, ...], tolerance: float) -> None:
    """Every rank's loss, own rows and scale gradient, relative to the largest gradient."""
    loss, d_image_BD, d_text_BD, d_scale = want
    for output in outputs:
        assert abs(output.value.double() - loss) <= tolerance * max(1.0, abs(loss))
        assert abs(output.d_scalars["log_scale"].double() - d_scale).max() <= tolerance * max(1.0, abs(d_scale).max())
    for got, wanted in (("image", d_image_BD), ("text", d_text_BD)):
        whole_BD = torch.cat([output.grads[got] for output in outputs]).double()
        assert (whole_BD - wanted).abs().max() <= tolerance * max(wanted.abs().max().item(), 1e-3)


def whole(features, scalars, rows, smoothing=0.0):
    valid_B = rows["valid"]
    return softmax_loss(features["image"][valid_B], features["text"][valid_B], scalars["log_scale"], smoothing)


def smoothed(features, scalars, rows):
    return whole(features, scalars, rows, 0.1)


@st.composite
def _worlds(draw):
    counts = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(sum))
    rows = sum(counts)
    valid = draw(st.lists(st.booleans(), min_size=rows, max_size=rows).filter(any))
    return {
        "counts": counts,
        "valid_B": torch.tensor(valid),
        "loss": Softmax(tile=draw(st.sampled_from([1, 2, 3, 5, 64])), label_smoothing=draw(st.sampled_from([0, 0.1]))),
        "log_s": draw(st.floats(-2.0, math.log(100))),
        "features": _features(rows, draw(st.integers(1, 6)), draw(st.integers(0, 2**31))),
    }


@settings(max_examples=60, deadline=None)
@given(world=_worlds())
def test_any_split_mask_and_tile_gives_the_textbook_gradients(world: dict) -> None:
    image_BD, text_BD = world["features"]
    loss = world["loss"]
    outputs = run_simulated(
        _on_rank, len(world["counts"]), loss, image_BD, text_BD, world["valid_B"], world["counts"], world["log_s"]
    )
    log_scale = torch.tensor([world["log_s"]], dtype=torch.float64)
    want = softmax_gradients(image_BD, text_BD, log_scale, world["valid_B"], loss.label_smoothing)
    _check(outputs, want, 1e-11)
    assert all(output.metrics["pairs"] == int(world["valid_B"].sum()) for output in outputs)


def _gloo_cases(peers: Peers) -> list[tuple]:
    cases = []
    for counts in ([9] * peers.world, [5, 0, 11, 1][: peers.world]):
        for dtype in (torch.float32, torch.float64):
            image_BD, text_BD = _features(sum(counts), 16, seed=len(counts), dtype=dtype)
            valid_B = torch.arange(sum(counts)) % 4 != 1
            loss = Softmax(tile=4)
            output = _on_rank(peers, loss, image_BD, text_BD, valid_B, counts, math.log(50))
            cases.append((image_BD, text_BD, valid_B, output))
    return cases


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_gloo_ranks_give_the_textbook_gradients(world: int) -> None:
    for case in zip(*run_ranks(_gloo_cases, world), strict=True):
        image_BD, text_BD, valid_B, _ = case[0]
        want = softmax_gradients(image_BD, text_BD, torch.tensor([math.log(50)], dtype=image_BD.dtype), valid_B)
        _check([output for *_, output in case], want, 1e-11 if image_BD.dtype == torch.float64 else 3e-6)


def test_the_check_sees_a_loss_averaged_over_ranks() -> None:
    image_BD, text_BD = _features(8, 4, 0)
    valid_B = torch.ones(8, dtype=torch.bool)
    outputs = run_simulated(_on_rank, 2, Softmax(), image_BD, text_BD, valid_B, [4, 4], 1.0)
    want = softmax_gradients(image_BD, text_BD, torch.tensor([1.0], dtype=torch.float64), valid_B)
    _check(outputs, want, 1e-11)
    with pytest.raises(AssertionError):
        _check(outputs, (want[0], want[1] / 2, want[2] / 2, want[3]), 1e-11)
    with pytest.raises(AssertionError):
        _check(outputs, (want[0], want[1], want[2], want[3] / 2), 1e-11)


class _LargestTensor(TorchDispatchMode):
    """Remembers the most elements any operation's result had."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(part, Tensor):
                self.largest = max(self.largest, part.untyped_storage().nbytes() // part.element_size())
        return out


def test_no_tensor_is_larger_than_a_tile_or_the_features() -> None:
    rows, width, tile = 700, 8, 64
    image_BD, text_BD = _features(rows, width, 0, torch.float32)
    with _LargestTensor() as seen:
        _clip(Softmax(tile=tile), image_BD, text_BD, torch.zeros(1), None, Peers.alone())
    assert seen.largest <= max(tile * tile, rows * width)
    with _LargestTensor() as seen:
        _clip(Softmax(tile=rows), image_BD, text_BD, torch.zeros(1), None, Peers.alone())
    assert seen.largest == rows * rows, "the probe sees a B x B matrix where there is one"


def test_learnt_pairs_keep_their_gradient_in_float32() -> None:
    """At s = 100 and cosines of 1 against 0.8, p_ii rounds to 1 in float32, yet loss and gradient keep their digits."""
    image_BD = F.normalize(torch.eye(8, dtype=torch.float64) + 0.6, dim=-1)
    output = _clip(Softmax(), image_BD.float(), image_BD.float(), torch.tensor([math.log(100)]), None, Peers.alone())
    valid_B = torch.ones(8, dtype=torch.bool)
    loss, d_image_BD, *_ = softmax_gradients(image_BD.float(), image_BD.float(), torch.tensor([math.log(100)]), valid_B)
    assert 0 < loss < 1e-6
    assert abs(output.value.float() - loss) < 1e-3 * loss
    assert (output.grads["image"] - d_image_BD).abs().max() < 1e-3 * d_image_BD.abs().max()


def test_masked_rows_may_hold_anything_and_get_zero() -> None:
    image_BD, text_BD = _features(6, 4, 1)
    image_BD[2], text_BD[4] = torch.nan, torch.inf
    valid_B = torch.tensor([True, True, False, True, False, True])
    output = _clip(Softmax(), image_BD, text_BD, torch.ones(1).double(), valid_B, Peers.alone())
    assert output.value.isfinite() and output.metrics["pairs"] == 4
    for gradient_ND in (output.grads["image"], output.grads["text"]):
        assert gradient_ND.isfinite().all()
        assert (gradient_ND[~valid_B] == 0).all() and (gradient_ND[valid_B] != 0).all()


def test_a_nan_feature_makes_the_loss_nan_rather_than_hiding() -> None:
    image_BD, text_BD = _features(6, 4, 1)
    image_BD[2, 0] = torch.nan
    assert _clip(Softmax(), image_BD, text_BD, torch.ones(1), None, Peers.alone()).value.isnan()


def test_nothing_valid_anywhere_is_an_error() -> None:
    with pytest.raises(DataError, match="no valid pair"):
        _clip(Softmax(), *_features(3, 4, 1), torch.ones(1), torch.zeros(3, dtype=torch.bool), Peers.alone())


def test_accuracy_counts_hits_per_direction_and_a_tie_is_a_miss() -> None:
    image_BD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    text_BD = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    output = _clip(Softmax(tile=2), image_BD, text_BD, torch.zeros(1), None, Peers.alone())
    # Image 0 ties between texts 0 and 1, image 1 prefers text 2, image 2 hits; text 0 hits, text 1 prefers image 0.
    assert output.metrics["acc_i2t"] == pytest.approx(1 / 3)
    assert output.metrics["acc_t2i"] == pytest.approx(2 / 3)
    assert output.metrics["loss_i2t"] + output.metrics["loss_t2i"] == pytest.approx(2 * output.value.item(), rel=1e-6)
    collapsed = _clip(
        Softmax(), image_BD[:1].repeat(4, 1), image_BD[:1].repeat(4, 1), torch.zeros(1), None, Peers.alone()
    )
    assert collapsed.metrics["acc_i2t"] == 0 and collapsed.value.item() == pytest.approx(math.log(4))


def test_the_table_names_the_loss() -> None:
    assert TERMS["softmax"] is Softmax
    assert TERMS["softmax"].model_validate({"tile": 8}).kind == "softmax"


def test_the_textbook_agrees_with_finite_differences() -> None:
    """The yardstick itself: without this, a shared mistake would pass."""
    image_BD, text_BD = _features(4, 3, 2)
    log_scale = torch.tensor([1.3], dtype=torch.float64)
    *_, d_scale = softmax_gradients(image_BD, text_BD, log_scale, torch.ones(4, dtype=torch.bool))
    step = 1e-6
    rise = softmax_loss(image_BD, text_BD, log_scale + step) - softmax_loss(image_BD, text_BD, log_scale - step)
    assert d_scale.item() == pytest.approx((rise / (2 * step)).item(), rel=1e-7)


CASES = [terms.Case(Softmax(tile=3), whole), terms.Case(Softmax(tile=64, label_smoothing=0.1), smoothed)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("counts", terms.SHARES)
@pytest.mark.parametrize("case", CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked) -> None:
    terms.check_features(case, counts, masked)


@pytest.mark.parametrize(
    ("world", "stage", "counts", "chunks"), [(1, 0, [9], 3), (2, 2, [7, 3], 2), (3, 3, [4, 0, 5], 2)]
)
def test_five_steps_walk_the_path_of_plain_torch(world, stage, counts, chunks) -> None:
    terms.check_steps(CASES[0], world, stage, counts, chunks, steps=5)
