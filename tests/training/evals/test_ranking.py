"""Where a query's best match stands, against a plain loop: ties, several matches, tiles of any width."""

import pytest
import torch

from training.evals import ranking


def _plain(queries, query_ids, keys, key_ids):
    found = []
    for query, own in zip(queries.tolist(), query_ids.tolist(), strict=True):
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys.tolist()]
        order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
        found.append(next(rank for rank, at in enumerate(order) if key_ids[at] == own))
    return found


@pytest.mark.parametrize("width", [1, 3, 8, 100])
def test_ranks_are_those_of_sorting_all_keys_with_ties_in_order_of_position(monkeypatch, width):
    monkeypatch.setattr(ranking, "COLUMNS", width)
    made = torch.Generator().manual_seed(width)
    queries, keys = (torch.randint(-2, 3, (number, 3), generator=made).float() for number in (40, 30))
    key_ids = torch.randint(0, 12, (30,), generator=made)  # several matches of most
    query_ids = key_ids[torch.randint(0, 30, (40,), generator=made)]
    ranks = ranking.ranks_of(queries, query_ids, keys, key_ids).tolist()
    assert ranks == _plain(queries, query_ids, keys, key_ids) and len(set(ranks)) > 5
    same = torch.ones(30, 3)  # towers that give every input the same features
    assert ranking.ranks_of(same, torch.arange(30), same, torch.arange(30)).tolist() == list(range(30))
