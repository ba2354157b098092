"""Evaluations: clip_benchmark's numbers, the same for any number of ranks, from tars that are checked."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ClipmillError, DataError, RecipeError
from tests.helpers.places import shared_files
from tests.helpers.simulated import run_simulated
from tests.helpers.tiny_run import write_eval_set
from training.evals import EVALS, ranking, zero_shot
from training.evals.classification import ranks_of_label
from training.evals.data import load_images, open_rows
from training.evals.model import Model, in_blocks
from training.evals.ranking import ranks_of
from training.evals.retrieval import Retrieval
from training.evals.zero_shot import ZeroShot
from training.ranks.peers import Peers
from training.reader.images import ImageSettings


class FakeTowers:
    """Features that are a fixed projection of the pixels' mean or the text's bytes; sizes and tokens as real towers."""

    image_size = 8

    def __init__(self) -> None:
        made = torch.Generator().manual_seed(0)
        self.pixels_CD, self.words_LD = torch.randn(3, 12, generator=made), torch.randn(16, 12, generator=made)

    def tokenize(self, texts: list[str]) -> Tensor:
        return torch.tensor([list(text.encode()[:16].ljust(16)) for text in texts])

    def __call__(self, rows: dict[str, Tensor], want: frozenset[str] = frozenset()) -> dict[str, Tensor]:
        found = {}
        if "image" in rows:
            means_NC = rows["image"].float().mean((2, 3)) / 255
            found["image"] = F.normalize((means_NC - 0.4) @ self.pixels_CD, dim=-1)
        if "tokens" in rows:
            found["text"] = F.normalize((rows["tokens"].float() / 128 - 0.6) @ self.words_LD, dim=-1)
        return found


def model_of(peers: Peers, batch: int = 16) -> Model:
    towers = FakeTowers()
    return Model(towers, towers, ImageSettings(resize="squash"), peers, batch)


def recall_by_topk(scores_QK: Tensor, matches_QK: Tensor, k: int) -> float:
    """clip_benchmark's rule in its own words: at least one true positive among topk."""
    top_Qk = scores_QK.topk(k, dim=1).indices
    return (matches_QK.gather(1, top_Qk).sum(1) > 0).float().mean().item()


@pytest.mark.parametrize("tile", [4, 8192])
def test_collapsed_towers_score_as_chance_and_not_as_perfect(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(ranking, "COLUMNS", tile)
    same_ND, ids_N = torch.ones(20, 4) / 2, torch.arange(20)
    assert ranks_of(same_ND, ids_N, same_ND, ids_N).tolist() == list(range(20))
    assert ranks_of_label(torch.ones(3, 6), torch.tensor([0, 2, 5])).tolist() == [0, 2, 5]


def test_features_that_are_not_finite_are_an_error() -> None:
    model = model_of(Peers.alone())
    model.towers.words_LD.fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        model.texts(["a"])


@pytest.mark.parametrize("kind", ["retrieval", "zero_shot"])
def test_every_world_size_gives_the_same_numbers(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "ROWS", 8)
    path = write_eval_set(tmp_path / kind, 43, {"retrieval": "txt", "zero_shot": "cls"}[kind], shards=3)
    one = EVALS[kind](name="s", path=str(path))
    alone = one.run(model_of(Peers.alone(), batch=8))
    assert all(0 <= value <= 1 for value in alone.scores.values()) and alone.scores.keys() == alone.chance.keys()
    for world in (2, 3, 5, 8):
        for scored in run_simulated(lambda peers: one.run(model_of(peers, batch=8)), world):
            assert scored == alone


def test_every_rank_calls_the_towers_equally_often(tmp_path: Path) -> None:
    """ZeRO-3 gathers parameters inside the call: a rank that calls once less hangs the others."""
    path = write_eval_set(tmp_path / "set", 21, "txt")

    def calls(peers: Peers) -> int:
        count = 0
        model = model_of(peers, batch=4)

        def counted(rows: dict[str, Tensor], want: frozenset[str]) -> dict[str, Tensor]:
            nonlocal count
            count += 1
            return model.towers(rows, want)

        Retrieval(name="s", path=str(path)).run(Model(counted, model.towers, model.image, peers, 4))
        return count

    for world in (2, 3, 4):
        assert len(set(run_simulated(calls, world))) == 1


def test_chance_is_what_random_orders_give(tmp_path: Path) -> None:
    path = write_eval_set(tmp_path / "set", 24, "txt")
    one = Retrieval(name="s", path=str(path))
    chance = one.run(model_of(Peers.alone())).chance
    made = torch.Generator().manual_seed(0)
    owner_K = torch.tensor([n for n in range(24) for _ in range(1 + n % 2)])
    found = {name: 0.0 for name in chance}
    for _ in range(300):
        scores_QK = torch.rand(24, len(owner_K), generator=made)
        matches_QK = torch.arange(24)[:, None] == owner_K[None, :]
        for k in one.ks:
            found[f"i2t_r{k}"] += recall_by_topk(scores_QK, matches_QK, k) / 300
            found[f"t2i_r{k}"] += recall_by_topk(scores_QK.T, matches_QK.T, k) / 300
    assert chance == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize("rows", [1, 5, 12, 13])
def test_blocks_come_back_in_order_for_every_world(rows: int) -> None:
    for world in (1, 2, 3, 7):
        for got in run_simulated(lambda peers: in_blocks(peers, rows, 4, lambda block: torch.tensor(block)), world):
            assert got.tolist() == list(range(rows))


def test_a_cut_shard_is_named_and_not_scored_in_part(tmp_path: Path) -> None:
    path = write_eval_set(tmp_path / "set", 12, "txt")
    tar = path / "test" / "0.tar"
    data = tar.read_bytes()
    for end in range(512, len(data), 512):
        tar.write_bytes(data[:end])
        with pytest.raises(DataError, match="0.tar"):
            open_rows(Peers.alone(), str(path), "test", "txt")
        if end > 4096 and not any(data[end:]):
            break


def test_bad_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nshards.txt"):
        Retrieval(name="s", path=str(tmp_path)).check()
    path = write_eval_set(tmp_path / "set", 9, "cls")
    (path / "classnames.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="s0002.cls: holds '2'; a class from 0 to 1"):
        ZeroShot(name="s", path=str(path)).run(model_of(Peers.alone()))
    with pytest.raises(DataError, match="has no .txt"):
        Retrieval(name="s", path=str(path)).run(model_of(Peers.alone()))
    (path / "test" / "nshards.txt").write_text("2")
    with pytest.raises(ClipmillError, match="1.tar"):
        ZeroShot(name="s", path=str(path)).run(model_of(Peers.alone()))


def test_an_undecodable_image_is_named_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.tiny_run.image_bytes", lambda n: b"\xff\xd8 no image" if n == 5 else b"")
    path = write_eval_set(tmp_path / "set", 9, "cls")
    rows = open_rows(Peers.alone(), str(path), "test", "cls")
    with pytest.raises(DataError, match="s0005"):
        load_images(rows[5:6], ImageSettings(), 8)


def test_the_development_sets_are_read_whole() -> None:
    pairs_of, classes_of = (shared_files(f"eval/clipart-{name}")[0] for name in ("retrieval", "classes"))
    pairs = open_rows(Peers.alone(), str(pairs_of), "test", "txt")
    images = open_rows(Peers.alone(), str(classes_of), "test", "cls")
    assert (len(pairs), len(images)) == (476, 411)
    assert load_images(pairs[:32], ImageSettings(), 32).shape == (32, 3, 32, 32)
    assert zero_shot.read_lines(str(classes_of), "classnames.txt")[0] == "an animal"
