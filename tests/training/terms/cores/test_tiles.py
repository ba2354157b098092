"""A tile as it is wanted, or one of those that were tried, the same on every rank."""

import pytest

from pipeline.errors import ClipmillError
from tests.helpers.simulated import run_simulated
from training.ranks.peers import Peers
from training.terms.cores import tiles
from training.terms.cores.tiles import chosen_tile, fastest
from training.terms.sigmoid import Sigmoid
from training.terms.softmax import Softmax
from training.terms.uniformity_alignment import UniformityAlignment


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


def test_terms_that_ask_for_it_get_what_was_kept_or_is_fastest_and_others_stay(monkeypatch) -> None:
    monkeypatch.setattr(tiles, "fastest", lambda candidates, width, device: (8, 32))
    terms = (Softmax(tile="auto"), Softmax(name="other", tile="auto"), Sigmoid(tile=64), UniformityAlignment())
    found, chosen = tiles.with_tiles(terms, 8, Peers.alone(), {"other": (4, 4), "gone": (1, 1)})
    assert chosen == {"softmax": (8, 32), "other": (4, 4)} and found[2:] == terms[2:]
    assert [one.sides for one in found[:3]] == [(8, 32), (4, 4), (64, 64)]
    assert tiles.with_tiles(terms[2:], 8, Peers.alone(), {"sigmoid": (4, 4)}) == (terms[2:], {})
    with pytest.raises(ClipmillError, match="tile is auto"):
        _ = terms[0].sides
