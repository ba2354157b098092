"""Momentum towers and their queue: MoCo's in plain torch on one process, on any ranks, and after a restart."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import RecipeError
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_towers import TinyTowers, cut, tiny_batch
from training.companions.momentum import Momentum
from training.companions.running.companion import Companions
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.softmax import Softmax

LR, SIZE, STEPS = 0.03, 14, 5
OPTIMIZER = AdamW(lr=LR)
SETTINGS = Momentum(decay=0.6, queue=SIZE)
BOTH = frozenset({"image", "text"})


def _batch(step):
    batch = tiny_batch(8, step, every_valid=False)
    batch.rows["id"] = torch.arange(8) + 5 * step  # the last three come again in the next step
    return batch


def _walk(peers: Peers, stage: int, counts, steps, state=None, kept=None):
    objective = build_objective([Softmax(tile=4, queue="momentum")])
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=stage, check_cache=True), OPTIMIZER, peers)
    if state is not None:
        engine.load_full_state(state.__getitem__, steps[0])
    companions = Companions((SETTINGS.build(engine, 0),))
    if kept is not None:
        companions.load(kept.get)
    losses = []
    for step in steps:
        batch = cut(_batch(step), counts, peers.rank)
        losses.append(cached_step(engine, batch, objective, 3, LR, companions=companions).loss)
    return losses, dict(engine.full_state()), dict(companions.state())


@pytest.fixture(scope="module")
def textbook():
    """(losses, momentum weights, queued ids) of plain torch on the whole batch."""
    towers, slow = TinyTowers().double(), TinyTowers().double()
    groups = [{"params": [p], "weight_decay": OPTIMIZER.weight_decay * (p.ndim > 1)} for p in towers.parameters()]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=OPTIMIZER.betas, eps=OPTIMIZER.eps)
    images, texts, ids = torch.zeros(0, 6).double(), torch.zeros(0, 6).double(), torch.zeros(0).long()
    losses = []
    for step in range(STEPS):
        rows = _batch(step).rows
        valid, n = rows["valid"], int(rows["valid"].sum())
        said = {name: column[valid].detach() for name, column in slow(rows, BOTH).items()}
        other = ~torch.isin(ids, rows["id"])
        ours = {name: column[valid] for name, column in towers(rows, BOTH).items()}
        scale = towers.log_scale.exp()
        i2t = F.cross_entropy(scale * ours["image"] @ torch.cat([ours["text"], texts[other]]).T, torch.arange(n))
        t2i = F.cross_entropy(scale * ours["text"] @ torch.cat([ours["image"], images[other]]).T, torch.arange(n))
        optimizer.zero_grad()
        ((i2t + t2i) / 2).backward()
        optimizer.step()
        losses.append(((i2t + t2i) / 2).item())
        with torch.no_grad():
            towers.log_scale.clamp_(*towers.limits["log_scale"])
            for mine, theirs in zip(slow.parameters(), towers.parameters(), strict=True):
                mine.copy_(0.6 * mine + 0.4 * theirs)
        images, texts = torch.cat([images, said["image"]])[-SIZE:], torch.cat([texts, said["text"]])[-SIZE:]
        ids = torch.cat([ids, rows["id"][valid]])[-SIZE:]
    return losses, dict(slow.named_parameters()), ids


@pytest.mark.parametrize(("stage", "counts"), sampled([(0, [8]), (2, [5, 3]), (1, [4, 0, 4])], 0, 1))
def test_the_walk_is_the_textbooks_and_goes_on_after_a_restart_on_other_ranks(stage, counts, textbook):
    losses, weights, ids = textbook
    _, state, kept = run_ranks(_walk, 2, 1, [2, 6], range(3))[0]
    for start, given in ((0, ()), (3, (state, kept))):
        for got, _, end in run_ranks(_walk, len(counts), stage, counts, range(start, STEPS), *given):
            assert got == pytest.approx(losses[start:], rel=1e-4)
            assert torch.equal(end["momentum/queue/id"], ids)
            for name, want in weights.items():
                assert torch.allclose(end[f"momentum/towers/{name}"].double(), want, rtol=1e-3, atol=1e-4), name


def test_the_same_ranks_resume_bit_for_bit():
    (whole,) = run_ranks(_walk, 1, 0, [8], range(STEPS))
    ((_, state, kept),) = run_ranks(_walk, 1, 0, [8], range(3))
    ((_, _, end),) = run_ranks(_walk, 1, 0, [8], range(3, STEPS), state, kept)
    assert end.keys() == whole[2].keys() and all(torch.equal(end[name], whole[2][name]) for name in end)


def test_zero_3_is_refused():
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=0), OPTIMIZER, Peers.alone())
    engine.settings = EngineSettings(zero_stage=3)
    with pytest.raises(RecipeError, match="ZeRO-3"):
        SETTINGS.build(engine, 0)


def test_a_skipped_step_moves_neither_the_momentum_towers_nor_their_queue():
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=0), OPTIMIZER, Peers.alone())
    companions = Companions((SETTINGS.build(engine, 0),))
    objective = build_objective([Softmax(tile=4, queue="momentum")])
    cached_step(engine, _batch(0), objective, 3, LR, companions=companions)
    before = {name: tensor.clone() for name, tensor in companions.state()}
    spoilt = _batch(1)
    spoilt.rows["image"] = torch.full_like(spoilt.rows["image"].float(), torch.nan)
    assert cached_step(engine, spoilt, objective, 3, LR, companions=companions).skipped
    after = dict(companions.state())
    assert after.keys() == before.keys() and len(before) > 3
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
