"""The average is the textbook's on any world size and ZeRO stage, moves between them, and is lent without a trace."""

import functools

import pytest
import torch

from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_towers import TinyTowers, cut, tiny_batch
from training.companions.ema import Ema
from training.companions.running.companion import Companions
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.softmax import Softmax

ROWS = {1: [12], 2: [5, 7], 3: [0, 9, 3]}
SETTINGS = Ema(decay=0.7, every_steps=2)
WHERE = [(2, 1), (3, 0), (3, 3)]
ALL = [*WHERE, *(pytest.param(where, marks=pytest.mark.exhaustive) for where in [(1, 0), (2, 3), (3, 2)])]
WANT = frozenset({"image", "text"})


def _engine(peers, stage):
    towers = TinyTowers()
    towers.text[2].bias.requires_grad_(False)  # what is not trained has no average
    return build_engine(towers, EngineSettings(zero_stage=stage), AdamW(lr=0.03), peers)


def _step(engine, companions, step, spoil=False):
    batch = cut(tiny_batch(12, seed=step), ROWS[engine.peers.world], engine.peers.rank)
    objective, lr = build_objective([Softmax(tile=8)]), 0.03
    if spoil:  # the log scale makes the loss infinite
        objective = build_objective([Softmax(tile=8, weight=3e38), Softmax(name="other", weight=3e38)])
    return cached_step(engine, batch, objective, 4, lr, companions=companions)


def _params(engine):
    return {name: parts["param"] for name, parts in engine.full_state() if "param" in parts}


def _walk(peers: Peers, stage: int):
    """Weights after each of five steps; the average after three and after five; of a restart after three, too."""
    engine = _engine(peers, stage)
    companions = Companions((SETTINGS.build(engine, 0),))
    weights = [_params(engine)]
    for step in range(5):
        _step(engine, companions, step)
        weights.append(_params(engine))
        if step == 2:
            kept, state = dict(companions.state()), dict(engine.full_state())
            steps = engine.optimizer_steps
    again = _engine(peers, stage)
    again.load_full_state(state.__getitem__, steps)
    resumed = Companions((SETTINGS.build(again, 0),))
    resumed.load(kept.get)
    for step in (3, 4):
        _step(again, resumed, step)
    held = sum(part.numel() for part in companions.each[0]._average.values())
    return weights, kept, dict(companions.state()), dict(resumed.state()), held


@pytest.fixture(scope="module")
def walked():
    return functools.cache(lambda where: run_ranks(_walk, *where))


@pytest.mark.parametrize("where", ALL)
def test_the_average_is_the_textbooks_and_a_restart_changes_no_bit_of_it(where, walked):
    for weights, _, average, resumed, _ in walked(where):
        assert "ema/text.2.bias" not in average and len(average) == len(weights[0]) - 1
        for name, tensor in average.items():
            want = weights[0][name.removeprefix("ema/")].double()
            for steps in (2, 4):  # of five, every second one
                decay = min(0.7, (1 + steps) / (10 + steps)) ** 2
                want = decay * want + (1 - decay) * weights[steps][name.removeprefix("ema/")].double()
            assert torch.allclose(tensor.double(), want, rtol=1e-6, atol=1e-7), name
            assert torch.equal(tensor, resumed[name]), name
            assert not torch.equal(tensor, weights[5][name.removeprefix("ema/")]), name


@pytest.mark.parametrize("where", ALL)
def test_each_element_is_averaged_on_one_rank(where, walked):
    found = walked(where)
    assert sum(held for *_, held in found) == sum(tensor.numel() for tensor in found[0][2].values())


def _arrive(peers: Peers, stage: int, kept):
    engine = _engine(peers, stage)
    companion = SETTINGS.build(engine, 0)
    Companions((companion,)).load(kept.get)
    loaded = {f"ema/{name}": tensor for name, tensor in companion.state()}
    rows = tiny_batch(6).rows
    with engine.lent(companion.whole):
        inside = engine.evaluate(rows, WANT)
        scalar = engine.scalars()["log_scale"]
    outside = engine.evaluate(rows, WANT)
    step = _step(engine, Companions((companion,)), 0)
    return loaded, inside, outside, scalar, step.loss, step.grad_norm, _params(engine)


@pytest.mark.parametrize("where", [(2, 0), (2, 3), pytest.param((3, 2), marks=pytest.mark.exhaustive)])
def test_it_is_read_on_any_world_and_lent_to_forwards_without_a_trace(where, walked):
    kept = walked((2, 1))[0][1]
    towers = TinyTowers()
    rows = tiny_batch(6).rows
    plain = towers(rows, WANT)
    towers.load_state_dict({n.removeprefix("ema/"): tensor for n, tensor in kept.items()}, strict=False)
    averaged = towers(rows, WANT)
    untouched = run_ranks(_plain_step, *where)
    for rank, (loaded, inside, outside, scalar, loss, norm, after) in enumerate(run_ranks(_arrive, *where, kept)):
        assert all(torch.equal(loaded[name], kept[name]) for name in kept)
        for name in WANT:
            assert torch.allclose(inside[name], averaged[name], atol=1e-6)
            assert torch.allclose(outside[name], plain[name], atol=1e-6)
            assert not torch.allclose(inside[name], outside[name], atol=1e-3)
        assert scalar == kept["ema/log_scale"].item()
        assert (loss, norm) == untouched[rank][:2]
        assert all(torch.equal(after[name], untouched[rank][2][name]) for name in after)


def _plain_step(peers: Peers, stage: int):
    engine = _engine(peers, stage)
    engine.evaluate(tiny_batch(6).rows, WANT)
    step = _step(engine, Companions(), 0)
    return step.loss, step.grad_norm, _params(engine)


def test_a_skipped_step_does_not_move_it_and_a_run_without_one_starts_from_the_weights(caplog):
    engine = _engine(Peers.alone(), 0)
    companions = Companions((Ema(decay=0.5, warmup=False).build(engine, 0),))
    before = dict(companions.state())
    with caplog.at_level("INFO"):
        companions.load({}.get)
    assert "starts from their weights" in caplog.text
    assert _step(engine, companions, 0, spoil=True).skipped
    assert all(torch.equal(tensor, before[name]) for name, tensor in companions.state())
    assert not _step(engine, companions, 0).skipped
    for name, tensor in companions.state():
        want = (before[name] + _params(engine)[name.removeprefix("ema/")]) / 2
        assert torch.allclose(tensor, want, atol=1e-7)
