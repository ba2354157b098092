"""A tile as it is wanted, or one of those that were tried, the same on every rank."""

import pytest

from tests.helpers.simulated import run_simulated
from training.ranks.peers import Peers
from training.terms.cores import tiles
from training.terms.cores.tiles import chosen_tile, fastest


def test_a_wanted_tile_is_taken():
    assert chosen_tile(64, 8, Peers.alone()) == (64, 64)
    assert chosen_tile((32, 128), 8, Peers.alone()) == (32, 128)


def test_no_other_word_is_understood():
    with pytest.raises(ValueError, match="'big'"):
        chosen_tile("big", 8, Peers.alone())


def test_the_fastest_by_score_is_chosen(monkeypatch):
    seconds = {(2, 2): 4.0, (4, 4): 8.0, (2, 8): 10.0}
    monkeypatch.setattr(tiles, "_seconds", lambda sides, width, device: seconds[sides])
    assert fastest(tuple(seconds), 8, Peers.alone().device) == (4, 4)


def test_all_ranks_take_the_choice_of_rank_0(monkeypatch):
    monkeypatch.setattr(tiles, "_CANDIDATES", {"cpu": ((8, 8), (16, 16), (8, 32))})
    choices = run_simulated(lambda peers: chosen_tile("auto", 8, peers), 3)
    assert len(set(choices)) == 1 and choices[0] in tiles._CANDIDATES["cpu"]
