"""The pieces that terms across ranks are put together from, against dense autograd; no block larger than a tile."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.lanes import examples
from tests.helpers.simulated import run_simulated
from training.terms.across.everyone import Everyone
from training.terms.across.lse import dots, rivals_lse
from training.terms.across.retrieval import retrieved
from training.terms.across.sums import all_lse, all_products, all_sum


def gradients(counts, piece, *wholes):
    """(values by rank, gradients of all rows): of the pieces' results weighed by fixed numbers."""
    edges = [sum(counts[:rank]) for rank in range(len(counts) + 1)]
    ids = torch.arange(edges[-1]) // 2

    def on_rank(peers):
        own = slice(edges[peers.rank], edges[peers.rank + 1])
        rows = {"id": ids[own], "valid": torch.ones(counts[peers.rank], dtype=torch.bool)}
        leaves = [whole[own].clone().requires_grad_() for whole in wholes]
        found = piece(leaves, Everyone.of(rows, peers))
        given = weights(found, own)
        return found.detach(), torch.autograd.grad(found, leaves, given)

    outputs = run_simulated(on_rank, len(counts))
    return [value for value, _ in outputs], [torch.cat(parts) for parts in zip(*(g for _, g in outputs), strict=True)]


def weights(found, own):
    """By row: 1, 2, 3, ...; a number for all ranks has the weight 1 on each."""
    if found.dim() == 0:
        return torch.ones_like(found)
    by_row = torch.arange(1.0 + own.start, 1.0 + own.stop, dtype=found.dtype)
    return by_row.view(-1, *[1] * (found.dim() - 1)).expand_as(found).contiguous()


SHARES = st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(lambda counts: sum(counts) > 2)


@given(SHARES, st.integers(1, 9), st.integers(0, 99))
@examples(60)
def test_rows_told_from_rivals_and_retrieved_as_in_the_dense_form(counts, tile, seed):
    made, n = torch.Generator().manual_seed(seed), sum(counts)
    x, y = (torch.randn(n, 3, generator=made, dtype=torch.float64) for _ in range(2))
    ids = torch.arange(n) // 2
    dense = {
        "lse": lambda a, b: (a @ b.T).masked_fill(ids[:, None] == ids, -torch.inf).logsumexp(1),
        "retrieved": lambda a, b: (1.5 * a @ b.T).softmax(1) @ b,
    }
    pieces = {
        "lse": lambda leaves, everyone: rivals_lse(dots, leaves[:1], leaves[1:], (), everyone, tile),
        "retrieved": lambda leaves, everyone: retrieved(*leaves, 1.5, everyone, tile),
    }
    for name, form in dense.items():
        leaves = [whole.clone().requires_grad_() for whole in (x, y)]
        value = form(*leaves)
        want = torch.autograd.grad(value, leaves, weights(value, slice(0, n)))
        values, got = gradients(counts, pieces[name], x, y)
        assert torch.allclose(torch.cat(values), value.detach()), name
        for ours, theirs in zip(got, want, strict=True):
            assert torch.allclose(ours, theirs), name


@pytest.mark.parametrize("counts", [(5,), (2, 0, 3)])
def test_sums_are_of_all_ranks_on_each(counts):
    made = torch.Generator().manual_seed(1)
    x, y = (torch.randn(5, 3, generator=made, dtype=torch.float64) for _ in range(2))
    forms = {
        "sum": (lambda a, b: a.square().sum(), lambda v, e: all_sum(v[0].square().sum(1), e)),
        "lse": (lambda a, b: (a * b).sum(1).logsumexp(0), lambda v, e: all_lse((v[0] * v[1]).sum(1), e)),
        "products": (lambda a, b: (a.T @ b).square().sum(), lambda v, e: all_products(v[0], v[1], e).square().sum()),
    }
    for dense, piece in forms.values():
        leaves = [whole.clone().requires_grad_() for whole in (x, y)]
        value = dense(*leaves)
        want = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        values, got = gradients(counts, lambda v, e, piece=piece: piece(v, e) + 0 * v[1].sum(), x, y)
        assert all(torch.allclose(one, value.detach()) for one in values)
        assert all(torch.allclose(ours, theirs) for ours, theirs in zip(got, want, strict=True))


def test_no_block_is_larger_than_a_tile():
    sizes = []

    def watched(rows, candidates, scalars):
        sizes.append((len(rows[0]), len(candidates[0])))
        return dots(rows, candidates, scalars)

    x = torch.randn(11, 3)
    gradients([11], lambda leaves, everyone: rivals_lse(watched, leaves, leaves, (), everyone, 4), x)
    assert max(map(max, sizes)) == 4 and len(sizes) == 2 * 9
