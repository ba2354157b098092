"""The sharded classifier is a dense one: value, gradients, trained weights and restarts on any number of ranks."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.ranks import run_ranks
from tests.helpers.simulated import run_simulated
from tests.helpers.tiny_towers import WIDTH, TinyTowers, cut, tiny_batch
from training.companions.running.companion import Companions, OfTerm
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.heads import sharded
from training.terms.label_head import LabelHead

CLASSES, LR = 23, 0.05
SETTINGS = LabelHead(classes=CLASSES, field="kind", scale=9.0, margin=0.2, tile=3, lr_scale=2.0, weight_decay=0.1)
SHARES = [[10], [6, 4], [0, 7, 3], [3, 2, 1, 4]]


def _batch(step):
    """Rows of which some are masked, and some have no label, or none that is a class."""
    batch = tiny_batch(10, step, every_valid=False)
    kind = torch.randint(0, CLASSES, (10,), generator=torch.Generator().manual_seed(step)).double()
    kind[[2, 3, 6]] = torch.tensor([float("nan"), -1.0, CLASSES], dtype=torch.float64)
    kind[7] = kind[8]
    batch.rows["kind"] = kind
    return batch


def _dense(features, weight, rows, margin=0.2):
    """CosFace over all classes in plain torch."""
    kind, own = rows["kind"], rows["valid"].clone()
    own[[2, 3, 6]] = False
    label = kind[own].long()
    cosine = F.normalize(features[own], dim=1) @ F.normalize(weight, dim=1).T
    accuracy = (cosine.argmax(1) == label).double().mean()
    return F.cross_entropy(9.0 * (cosine - margin * F.one_hot(label, CLASSES).double()), label), accuracy


def _whole(state):
    """The classes' weights of a state that was saved in blocks."""
    blocks = sorted((int(name.split("/")[-1]), tensor) for name, tensor in state.items() if "param/" in name)
    return torch.cat([tensor for _, tensor in blocks])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(sharded, "BLOCK", 5)


FEATURES = [3 * torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(n)).double() for n in range(4)]


def _walk(peers, counts, term, steps, spoil=False):
    found, rank = [], peers.rank
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    for step in steps:
        out = term({"image": FEATURES[step][own]}, {}, cut(_batch(step), counts, rank).rows, peers)
        term.after_step(LR, skipped=spoil)
        found.append(out)
    return found


@pytest.mark.parametrize("counts", SHARES)
def test_four_steps_are_those_of_a_dense_classifier_with_a_restart_on_other_ranks_between(counts):
    left = run_simulated(_first_half, 2)
    assert all(torch.equal(left[0][name], left[1][name]) for name in left[0])
    assert _whole(left[0]).shape == (CLASSES, WIDTH)

    def second_half(peers):
        term = SETTINGS.build()
        term.load(left[0].get)
        waiting = dict(term.state())  # before anything was asked of it
        _walk(peers, counts, term, [1], spoil=True)
        return _walk(peers, counts, term, [2, 3]), waiting, dict(term.state())

    got = run_simulated(second_half, len(counts))
    start = SETTINGS.build()
    start({"image": FEATURES[0]}, {}, _batch(0).rows, Peers.alone())
    weight = _whole(dict(start.state())).clone().requires_grad_()
    assert weight.std().item() == pytest.approx(1, abs=0.3) and len(weight.unique()) == weight.numel()
    optimizer = torch.optim.AdamW([weight], lr=2 * LR, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    for step in range(4):
        leaf = FEATURES[step].clone().requires_grad_()
        value, accuracy = _dense(leaf, weight, _batch(step).rows)
        optimizer.zero_grad()
        value.backward()
        if step >= 2:
            outs = [found[step - 2] for found, _, _ in got]
            for out in outs:
                assert out.value.item() == pytest.approx(value.item(), rel=1e-9)
                assert (out.metrics["acc"].item(), out.metrics["labelled"].item()) == (accuracy.item(), 4)
            grads = torch.cat([out.grads["image"] for out in outs])
            assert torch.allclose(grads, leaf.grad, rtol=1e-8, atol=1e-11)
        optimizer.step()
    for _, waiting, end in got:
        assert waiting.keys() == left[0].keys() and all(torch.equal(waiting[n], left[0][n]) for n in waiting)
        assert torch.allclose(_whole(end), weight.detach(), rtol=1e-8, atol=1e-11)


def _first_half(peers):
    term = SETTINGS.build()
    _walk(peers, [4, 6], term, [0, 1])
    return dict(term.state())


def test_more_ranks_than_classes_and_a_step_without_a_label_are_no_trouble():
    settings = LabelHead(classes=2, field="kind")

    def on_rank(peers):
        term, batch = settings.build(), tiny_batch(6)
        batch.rows["kind"] = torch.tensor([0.0, 1, 1, 0, 1, 0])
        rows = cut(batch, [3, 2, 1], peers.rank).rows
        out = term({"image": torch.ones(len(rows["valid"]), WIDTH)}, {}, rows, peers)
        rows = rows | {"kind": torch.full_like(rows["kind"], -1)}
        none = term({"image": torch.ones(len(rows["valid"]), WIDTH)}, {}, rows, peers)
        return out.value.item(), none.value.item(), none.grads["image"].abs().sum().item(), dict(term.state())

    for value, without, gradient, state in run_simulated(on_rank, 3):
        assert value > 0 and without == gradient == 0 and _whole(state).shape == (2, WIDTH)


@pytest.mark.parametrize("classes", [64, 1000])
def test_each_rank_holds_its_share_and_what_travels_does_not_grow_with_the_classes(classes):
    found = run_ranks(_moved, 2, classes)
    assert [held for held, _ in found] == [classes // 2] * 2
    assert [moved for _, moved in found] == [moved for _, moved in run_ranks(_moved, 2, 32)]


def _moved(peers: Peers, classes: int):
    term = LabelHead(classes=classes, field="kind").build()
    rows = _batch(0).rows | {"kind": torch.zeros(10)}
    before = peers.moved
    term({"image": torch.ones(10, WIDTH)}, {}, rows, peers)
    return len(term.head._weight), peers.moved - before


def _train(peers: Peers, stage: int, counts):
    sharded.BLOCK = 5
    objective = build_objective([SETTINGS])
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=stage), AdamW(lr=LR), peers)
    companions = Companions(tuple(OfTerm(*item) for item in objective.keeping.items()))
    values = [
        cached_step(engine, cut(_batch(step), counts, peers.rank), objective, 3, LR, companions=companions).loss
        for step in range(3)
    ]
    return values, dict(engine.full_state())["image.1.weight"]["param"], _whole(dict(companions.state()))


@pytest.mark.parametrize(("stage", "counts"), [(2, [7, 3]), (3, [3, 0, 7])])
def test_towers_and_classes_train_together_as_in_plain_torch(stage, counts):
    got = run_ranks(_train, len(counts), stage, counts)
    towers = TinyTowers().double()
    start = SETTINGS.build()
    start({"image": torch.ones(10, WIDTH)}, {}, _batch(0).rows, Peers.alone())
    weight = _whole(dict(start.state())).double().requires_grad_()
    decays = [{"params": [p], "weight_decay": 0.2 if p.ndim > 1 else 0.0} for p in towers.parameters()]
    chosen = AdamW(lr=LR)
    for group in decays:
        group["weight_decay"] = chosen.weight_decay if group["weight_decay"] else 0.0
    optimizers = [
        torch.optim.AdamW(decays, lr=LR, betas=chosen.betas, eps=chosen.eps),
        torch.optim.AdamW([weight], lr=2 * LR, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1),
    ]
    for step in range(3):
        value, _ = _dense(towers(_batch(step).rows, frozenset({"image"}))["image"], weight, _batch(step).rows)
        for optimizer in optimizers:
            optimizer.zero_grad()
        value.backward()
        for parameter in towers.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for optimizer in optimizers:
            optimizer.step()
        for values, _, _ in got:
            assert values[step] == pytest.approx(value.item(), rel=1e-4)
    for _, of_tower, of_head in got:
        assert torch.allclose(of_tower.double(), towers.image[1].weight, rtol=1e-3, atol=1e-4)
        assert torch.allclose(of_head.double(), weight, rtol=1e-3, atol=1e-4)
