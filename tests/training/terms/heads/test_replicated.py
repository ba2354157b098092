"""The map between widths, which a term trains by itself: as in plain torch, and bit for bit after a restart."""

import pytest
import torch

from tests.helpers.simulated import run_simulated
from tests.helpers.tiny_towers import WIDTH, cut, tiny_batch
from training.ranks.peers import Peers
from training.terms.feature_distill import FeatureDistill


def _batch(step):
    batch = tiny_batch(9, step, every_valid=False)
    made = torch.Generator().manual_seed(step)
    batch.rows["teacher.image"] = torch.randn(9, WIDTH + 3, generator=made, dtype=torch.float64)
    return batch


@pytest.mark.parametrize("counts", [[9], [2, 0, 7]])
@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_the_map_between_widths_trains_as_in_plain_torch_and_resumes_bit_for_bit(counts, distance):
    settings = FeatureDistill(of="image", distance=distance, lr_scale=2.0, weight_decay=0.1)
    features = [torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(n)).double() for n in range(4)]

    def on_rank(peers):
        term, rank = settings.build(), peers.rank
        own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        found = []
        for step in range(4):
            if step == 2:  # a restart, and a step that is skipped before it
                kept = dict(term.state())
                term = settings.build()
                term.load(kept.get)
                term({"image": features[0][own]}, {}, cut(_batch(0), counts, rank).rows, peers)
                term.after_step(0.05, skipped=True)
            out = term({"image": features[step][own]}, {}, cut(_batch(step), counts, rank).rows, peers)
            term.after_step(0.05, skipped=False)
            found.append((out.value, out.grads["image"]))
        return found, kept, dict(term.state())

    got = run_simulated(on_rank, len(counts))
    first = settings.build()
    first({"image": features[0]}, {}, _batch(0).rows, Peers.alone())
    weight = dict(first.state())["image/param"].double().clone().requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    for step in range(4):
        leaf, rows = features[step].clone().requires_grad_(), _batch(step).rows
        student, teacher = (leaf @ weight.T)[rows["valid"]], rows["teacher.image"][rows["valid"]]
        value = ((student - teacher) ** 2).sum(1).mean()
        if distance == "cosine":
            value = (1 - (student * teacher).sum(1) / student.norm(dim=1) / teacher.norm(dim=1)).mean()
        optimizer.zero_grad()
        value.backward()
        for found, _, _ in got:
            assert found[step][0].item() == pytest.approx(value.item(), rel=1e-9)
        assert torch.allclose(torch.cat([found[step][1] for found, _, _ in got]), leaf.grad, rtol=1e-7, atol=1e-10)
        optimizer.step()
    for _, _, end in got:
        assert torch.allclose(end["image/param"], weight.detach(), rtol=1e-8)
