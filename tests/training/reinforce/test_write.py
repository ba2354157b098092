"""What `clipmill reinforce` writes is what the teacher itself says of the very views; stopped, it goes on."""

import json
import signal

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from pipeline.contract.dataset import open_dataset
from pipeline.contract.reinforced.side_cars import open_reinforced, values_of, verify_sets
from pipeline.errors import DataError, RecipeError, Stopped
from pipeline.signals import StopSignals
from tests.helpers.datasets import make_pair
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.reinforced import IMAGE, SEED, settings_of, weights, write
from tests.helpers.tiny_run import MODEL
from training.ranks.peers import Peers
from training.reader.images import ImageSettings, train_image
from training.reinforce.settings import ReinforceSettings
from training.reinforce.write import reinforce


def on_rank(peers: Peers, settings: ReinforceSettings):
    return [one.digest() for one in write(settings, peers)]


@pytest.mark.parametrize("dtype", sampled(["fp32", "bf16"], 1))
def test_vectors_are_the_teachers_of_the_very_views_and_of_every_text(tmp_path, dtype):
    settings = settings_of(tmp_path, dtype=dtype)
    (manifest,) = write(settings)
    dataset = open_dataset(str(tmp_path / "data"))
    found = open_reinforced(dataset, "dr")
    models = {}
    for name, seed, width in (("teacher", 5, 16), ("wide", 6, 24)):
        models[name] = open_clip.CLIP(**{**MODEL, "embed_dim": width}).eval()
        models[name].load_state_dict(torch.load(tmp_path / f"teacher-{seed}.pt", weights_only=True))
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (open_clip.OPENAI_DATASET_MEAN,
                                                                     open_clip.OPENAI_DATASET_STD))  # fmt: skip
    tokenize = open_clip.get_tokenizer("ViT-B-32", context_length=8)
    least = 2e-6 if dtype == "fp32" else 2.0**-8
    for shard in range(3):
        for row, kept in enumerate(found.read_many(shard, range(5))):
            pair = make_pair(shard * 5 + row, ("jpg", "png", "webp")[(shard * 5 + row) % 3])
            assert kept.uid == pair.uid and len(kept.views) == 3
            pixels = [train_image(pair.image, ImageSettings(**IMAGE), 8, SEED, view, pair.uid) for view in range(3)]
            images = (torch.from_numpy(np.stack(pixels)).float() / 255 - mean) / std
            texts = [each["text"] for each in pair.meta["captions"]]
            assert [kept.row_of(text) for text in texts] == [0, 1]
            with torch.no_grad():
                for name, model in models.items():
                    want = (
                        F.normalize(model.encode_image(images), dim=1),
                        F.normalize(model.encode_text(tokenize(texts)), dim=1),
                    )
                    for got, one in zip(kept.vectors[name], want, strict=True):
                        assert np.abs(values_of(dtype, got) - one.numpy()).max() < least
    assert verify_sets(str(tmp_path / "data")) == ["dr"]
    assert manifest.data == dataset.digest and [one.name for one in manifest.teachers] == ["teacher", "wide"]


def test_ranks_write_the_set_that_one_process_writes(tmp_path):
    (alone,) = write(settings_of(tmp_path))
    for world in (2, 4):
        again = settings_of(tmp_path, set=f"by_{world}")
        assert run_ranks(on_rank, world, again) == [[alone.digest()]] * world


@pytest.mark.parametrize("damaged", sampled([False, True], 1))
def test_what_is_whole_is_kept_when_it_is_stopped_and_the_rest_is_the_same(tmp_path, damaged):
    (whole,) = write(settings_of(tmp_path, set="whole"))
    settings, folder = settings_of(tmp_path), tmp_path / "data/reinforced/dr"

    class Late(StopSignals):
        asked = 0

        def check(self, command):
            self.asked += 1
            if self.asked > 4:  # of three blocks a shard: within the second one
                self.received = signal.SIGTERM
            super().check(command)

    with pytest.raises(Stopped, match="SIGTERM"):
        reinforce(settings, seed=SEED, peers=Peers.alone(), stop=Late())
    with pytest.raises(DataError, match=r"no reinforced.json(.|\n)*goes on where it was stopped"):
        open_reinforced(open_dataset(str(tmp_path / "data")), "dr")
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    assert sorted(done) == ["shard-000000.bin", "shard-000000.parquet"]
    if damaged:
        data = (folder / "shard-000000.bin").read_bytes()
        (folder / "shard-000000.bin").write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    (again,) = write(settings)
    assert again.digest() == whole.digest() and not (folder / "_work").exists()
    kept = all((folder / name).stat().st_mtime_ns == at for name, at in done.items())
    assert kept != damaged and verify_sets(str(tmp_path / "data")) == ["dr", "whole"]


def test_a_finished_set_is_left_alone_and_another_one_is_not_written_over(tmp_path):
    (whole,) = write(settings_of(tmp_path))
    stamps = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "data/reinforced/dr").iterdir() if path.name[0] != "."
    }
    assert write(settings_of(tmp_path)) == [whole]
    assert all(path.stat().st_mtime_ns == at for path, at in stamps.items())
    with pytest.raises(RecipeError, match=r"views: 3 -> 2(.|\n)*reinforce.fresh=true"):
        write(settings_of(tmp_path, views=2))
    other = [{"model": weights(tmp_path, 9)}, {"name": "wide", "model": weights(tmp_path, 6, embed_dim=24)}]
    with pytest.raises(RecipeError, match=r"teachers.0.image"):
        write(settings_of(tmp_path, teachers=other))
    (fresh,) = write(settings_of(tmp_path, views=2, fresh=True))
    assert fresh.views == 2 and verify_sets(str(tmp_path / "data")) == ["dr"]


def test_a_picture_that_cannot_be_opened_has_texts_alone(tmp_path):
    from pipeline.contract.manifest import Manifest
    from pipeline.contract.shards import write_shard

    folder = str(tmp_path / "data")
    pairs = [make_pair(0), make_pair(1, image=b"\xff\xd8\xff no picture"), make_pair(2)]
    Manifest(name="bad", num_pairs=3, shards=[write_shard(folder, 0, pairs)]).save(folder)
    write(settings_of(tmp_path))
    kept = open_reinforced(open_dataset(folder), "dr").read_many(0, [0, 1, 2])
    assert [len(one.views) for one in kept] == [3, 0, 3]
    assert [one.vectors["wide"][0].shape for one in kept] == [(3, 24), (0, 24), (3, 24)]
    assert all(one.vectors["wide"][1].shape == (2, 24) for one in kept)


def test_plain_tars_and_views_that_are_all_alike_are_refused(tmp_path):
    settings = settings_of(tmp_path)
    (tmp_path / "data/manifest.json").unlink()
    with pytest.raises(DataError, match="manifest.json"):
        write(settings)
    with pytest.raises(ValueError, match="all views are one"):
        settings_of(tmp_path, image={"resize": "squash"})


def test_hard_negatives_have_vectors_where_they_are_asked_for(tmp_path):
    from pipeline.contract.manifest import Manifest
    from pipeline.contract.shards import write_shard

    folder = str(tmp_path / "data")
    pairs = [make_pair(n, negatives=[{"text": f"wrong {n}", "source": "negative:x"}]) for n in range(2)]
    Manifest(name="wrong", num_pairs=2, shards=[write_shard(folder, 0, pairs)]).save(folder)
    write(settings_of(tmp_path, negatives=True))
    kept = open_reinforced(open_dataset(folder), "dr").read_many(0, [0, 1])
    assert [one.row_of(f"wrong {n}") for n, one in enumerate(kept)] == [2, 2]
    assert json.loads((tmp_path / "data/reinforced/dr/reinforced.json").read_text())["views"] == 3


def test_a_run_directory_hears_of_it_and_can_stop_it(tmp_path, monkeypatch):
    """Or the wrapper of a node would take it for a hang after an hour."""
    run = tmp_path / "run"
    (run / "control").mkdir(parents=True)
    monkeypatch.setenv("CLIPMILL_RUN_DIR", str(run))
    monkeypatch.setenv("CLIPMILL_RUN_ATTEMPT", "7")
    monkeypatch.setattr("pipeline.cluster.rundir.feed.BEAT_S", 0.0)
    write(settings_of(tmp_path))
    beat = json.loads((run / "heartbeat").read_text())
    assert [beat[key] for key in ("attempt", "stage", "step", "steps")] == [7, "reinforce", 2, 3]
    (run / "control/stop").touch()
    with StopSignals() as stop, pytest.raises(Stopped):
        reinforce(settings_of(tmp_path, set="other"), seed=SEED, peers=Peers.alone(), stop=stop)
