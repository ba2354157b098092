import hashlib
import io
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.contract import dataset as dataset_module
from pipeline.contract.manifest import Manifest
from pipeline.contract.shards import write_shard
from pipeline.errors import ClipmillError, DataError
from tests.helpers.datasets import make_dataset, make_pair
from training.reader.batch import Batch
from training.reader.captions.uniform import Uniform
from training.reader.digest import digest_part, step_digest
from training.reader.images import ImageSettings, train_image
from training.reader.pairs import open_pairs
from training.reader.reader import Reader
from training.reader.settings import ReaderSettings
from training.reader.state import ReaderState, check_state
from training.wanted import Wanted

BATCH, PAIRS = 16, 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two datasets, 24 and 16 pairs."""
    folders = [str(tmp_path_factory.mktemp(name)) for name in ("one", "two")]
    make_dataset(folders[0], shards=3, pairs=8)
    make_dataset(folders[1], shards=2, pairs=8, first=100)
    return folders


def tokenize(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[len(text), *text.encode()[:3]] for text in texts])


def _reader(
    data: list[str],
    rank: int = 0,
    world: int = 1,
    quarantine: Path | None = None,
    wanted: Wanted | None = None,
    **settings,
) -> Reader:
    chosen = ReaderSettings(**{"workers": 0, "lanes": 8, "window": 4, "threads": 1, **settings})
    image = ImageSettings(resize="squash", crop_scale=(0.5, 1.0), flip=True)
    return Reader(
        open_pairs(data), chosen, seed=5, global_batch=BATCH, image=image, image_size=8, captions=Uniform(),
        tokenize=tokenize, rank=rank, world=world, quarantine=quarantine, wanted=wanted,
    )  # fmt: skip


def _batches(reader: Reader, start: int = 0, stop: int = 6) -> list[Batch]:
    return [batch for _, batch in reader.batches(start, stop)]


def _same(one: Batch, two: Batch) -> bool:
    tensors = all(torch.equal(one.rows[n], two.rows[n]) for n in ("image", "tokens", "valid", "id", "key"))
    return tensors and all(getattr(one, n) == getattr(two, n) for n in ("step", "uids", "captions", "epochs"))


@pytest.fixture(scope="module")
def expected(data: list[str]) -> list[Batch]:
    return _batches(_reader(data))


def test_a_batch_holds_the_drawn_pairs(expected: list[Batch]) -> None:
    batch = expected[0]
    assert batch.rows["image"].shape == (BATCH, 3, 8, 8) and batch.rows["image"].dtype == torch.uint8
    assert batch.rows["tokens"].shape == (BATCH, 4) and batch.rows["valid"].all() and batch.size == BATCH
    assert torch.equal(batch.rows["tokens"], tokenize(batch.captions))
    by_uid = {pair.uid: pair for pair in map(make_pair, [*range(24), *range(100, 116)])}
    for uid, caption, image in zip(batch.uids, batch.captions, batch.rows["image"], strict=True):
        assert caption in [c["text"] for c in by_uid[uid].meta["captions"]]
        number = int(by_uid[uid].text.split()[1])
        colour = np.array([number * 37 % 256, number * 91 % 256, number * 53 % 256])
        assert np.abs(image.float().mean((1, 2)).numpy() - colour).max() < 6  # the image is of the same pair


def test_every_pair_comes_once_per_epoch(expected: list[Batch]) -> None:
    uids = [(e, uid) for batch in expected for e, uid in zip(batch.epochs, batch.uids, strict=True) if e < 2]
    assert len(uids) == len(set(uids)) == 2 * PAIRS


@pytest.mark.parametrize("settings", [{"workers": 1}, {"workers": 2}, {"workers": 3, "piece": 32}, {"threads": 4}])
def test_workers_and_threads_change_nothing(data: list[str], expected: list[Batch], settings: dict) -> None:
    found = _batches(_reader(data, **settings))
    assert all(_same(a, b) for a, b in zip(found, expected, strict=True))


def test_pieces_of_a_step_are_put_together_in_order(
    data: list[str], expected: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.reader.reader._SMALLEST_PIECE", 1)
    reader = _reader(data, workers=2, piece=3)
    assert len(reader._work.pieces) == 6
    assert all(_same(a, b) for a, b in zip(_batches(reader), expected, strict=True))


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_share_out_the_same_global_batch(data: list[str], expected: list[Batch], world: int) -> None:
    parts = [_batches(_reader(data, rank, world)) for rank in range(world)]
    for step, whole in enumerate(expected):
        mine = [part[step] for part in parts]
        assert [uid for part in mine for uid in part.uids] == whole.uids
        assert torch.equal(torch.cat([part.rows["image"] for part in mine]), whole.rows["image"])
        assert torch.equal(torch.cat([part.rows["tokens"] for part in mine]), whole.rows["tokens"])
        total = torch.tensor([digest_part(part.uids) for part in mine]).sum().item()  # wraps as an all-reduce does
        assert step_digest(total, BATCH) == step_digest(digest_part(whole.uids), BATCH)


def test_pixels_are_keyed_by_seed_epoch_and_uid(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.radial_gradient("L").save(out, "PNG")
    pairs = [make_pair(n, "png", out.getvalue()) for n in range(BATCH)]
    shard = write_shard(str(tmp_path), 0, pairs)
    Manifest(name="x", num_pairs=BATCH, shards=[shard]).save(str(tmp_path))
    image = ImageSettings(resize="squash", crop_scale=(0.5, 1.0), flip=True)
    for batch in _batches(_reader([str(tmp_path)]), stop=3):
        for uid, epoch, pixels in zip(batch.uids, batch.epochs, batch.rows["image"], strict=True):
            assert epoch == batch.step  # one step is one epoch here
            assert np.array_equal(pixels, train_image(out.getvalue(), image, 8, 5, epoch, uid))
            assert not np.array_equal(pixels, train_image(out.getvalue(), image, 8, 5, epoch + 1, uid))


def test_further_views_stand_pair_by_pair_each_drawn_by_its_number(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.radial_gradient("L").save(out, "PNG")
    shard = write_shard(str(tmp_path), 0, [make_pair(n, "png", out.getvalue()) for n in range(BATCH)])
    Manifest(name="x", num_pairs=BATCH, shards=[shard]).save(str(tmp_path))
    image = ImageSettings(resize="squash", crop_scale=(0.5, 1.0), flip=True)
    (batch,) = _batches(_reader([str(tmp_path)], wanted=Wanted(views=3)), stop=1)
    drawn = [[train_image(out.getvalue(), image, 8, 5, 0, uid, view=view) for view in range(4)] for uid in batch.uids]
    assert batch.rows["views/owner"].tolist() == [row for row in range(BATCH) for _ in range(3)]
    assert np.array_equal(batch.rows["image"], np.stack([views[0] for views in drawn]))
    assert np.array_equal(batch.rows["views/image"], np.stack([one for views in drawn for one in views[1:]]))
    assert len({one.tobytes() for views in drawn for one in views}) > 3.5 * BATCH


def test_remote_datasets_and_plain_tars_are_read_too(tmp_path: Path) -> None:
    batches = []
    for folder in (str(tmp_path / "data"), "memory://reader-test"):
        make_dataset(folder, shards=2, pairs=16)
        batches.append(_batches(_reader([folder], threads=3)))
    (tmp_path / "data" / "manifest.json").unlink()
    batches.append(_batches(_reader([str(tmp_path / "data")])))
    for other in batches[1:]:
        assert all(_same(a, b) for a, b in zip(batches[0], other, strict=True))


def test_hopping_between_many_shards_reads_each_index_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "data")
    make_dataset(folder, shards=40, pairs=4)  # more shards than a dataset keeps open unasked
    loads: list[int] = []
    load = dataset_module._Indexed.__call__
    monkeypatch.setattr(dataset_module._Indexed, "__call__", lambda self, n: loads.append(n) or load(self, n))
    _batches(_reader([folder], lanes=16, window=16), stop=15)
    assert sorted(loads) == list(range(40))


def test_starting_at_a_later_step_gives_the_tail(data: list[str], expected: list[Batch]) -> None:
    for workers in (0, 2):
        tail = _batches(_reader(data, workers=workers), start=4)
        assert all(_same(a, b) for a, b in zip(tail, expected[4:], strict=True))


def test_reading_leaves_the_global_random_state_alone(data: list[str]) -> None:
    before = torch.get_rng_state()
    _batches(_reader(data, workers=1), stop=2)
    assert torch.equal(before, torch.get_rng_state())


def test_a_changed_epoch_changes_crop_and_caption(data: list[str]) -> None:
    seen: dict[str, set] = {}
    for batch in _batches(_reader(data), stop=20):
        for uid, caption in zip(batch.uids, batch.captions, strict=True):
            seen.setdefault(uid, set()).add(caption)
    assert sum(len(captions) == 2 for captions in seen.values()) > PAIRS * 0.8


@pytest.fixture()
def spoilt(tmp_path: Path) -> str:
    """32 pairs, of which number 9 holds an image that cannot be decoded."""
    folder = str(tmp_path / "spoilt")
    pairs = [make_pair(n, image=b"\xff\xd8 no picture" if n == 9 else None) for n in range(32)]
    Manifest(name="x", num_pairs=32, shards=[write_shard(folder, 0, pairs)]).save(folder)
    return folder


def test_an_undecodable_image_is_masked_and_listed_once(spoilt: str, tmp_path: Path) -> None:
    bad = make_pair(9).uid
    for workers in (0, 2):
        listed = tmp_path / f"{workers}.jsonl"
        batches = _batches(_reader([spoilt], quarantine=listed, workers=workers), stop=6)
        for batch in batches:
            assert [uid for uid, ok in zip(batch.uids, batch.rows["valid"], strict=True) if not ok] == [
                uid for uid in batch.uids if uid == bad
            ]
            assert not batch.rows["image"][~batch.rows["valid"]].any()
        assert sum(len(batch.bad) for batch in batches) == 3  # three epochs
        rows = [json.loads(line) for line in listed.read_text().splitlines()]
        assert [(row["uid"], row["key"], row["reason"]) for row in rows] == [(bad, "000000-000009", "not_decodable")]


def test_too_many_bad_images_stop_the_run(spoilt: str, tmp_path: Path) -> None:
    listed = tmp_path / "list.jsonl"
    with pytest.raises(
        DataError, match="1 of [0-9]+ images cannot be decoded .*000000-000009.*\nhint: they are listed"
    ):
        _batches(_reader([spoilt], quarantine=listed, max_bad_fraction=0.0005))
    assert listed.exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_an_error_naming_shard_and_pair_even_from_a_worker(tmp_path: Path, workers: int) -> None:
    folder = str(tmp_path / "data")
    make_dataset(folder, shards=2, pairs=16)
    shard = tmp_path / "data" / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    at = data.index(b"caption 20")
    data[at] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-000001.tar at byte \d+ \(pair 000001-000004\): row checksum") as caught:
        _batches(_reader([folder], workers=workers))
    assert caught.value.exit_code == 78 and caught.value.hint


def test_a_shard_that_vanishes_is_an_error_of_ours(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    make_dataset(folder, shards=2, pairs=16)
    reader = _reader([folder], workers=1)
    (tmp_path / "data" / "shard-000000.tar").unlink()
    with pytest.raises(ClipmillError, match="shard-000000.tar"):
        _batches(reader)


def _killed(texts: list[str]) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return tokenize(texts)


def test_a_killed_worker_is_an_error_with_a_hint(data: list[str]) -> None:
    reader = _reader(data, workers=1)
    reader._work.columns = replace(reader._work.columns, tokenize=_killed)
    with pytest.raises(ClipmillError, match="a reading process died[^\n]*\nhint: lower"):
        _batches(reader)


def _signalled(texts: list[str]) -> torch.Tensor:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        os.kill(os.getpid(), number)
    return tokenize(texts)


def test_workers_outlive_the_signals_a_scheduler_sends_to_the_whole_job(data: list[str], expected: list[Batch]) -> None:
    reader = _reader(data, workers=2)
    reader._work.columns = replace(reader._work.columns, tokenize=_signalled)
    assert all(_same(a, b) for a, b in zip(_batches(reader), expected, strict=True))


def test_leaving_early_ends_the_workers(data: list[str]) -> None:
    batches = _reader(data, workers=2).batches(0, 1000)
    next(batches)
    assert len(multiprocessing.active_children()) >= 2
    batches.close()
    assert not multiprocessing.active_children()


def test_state_is_small_and_names_what_changed(data: list[str]) -> None:
    saved = _reader(data).state(7)
    assert saved.step == 7 and len(saved.model_dump_json()) < 1024
    check_state(ReaderState.model_validate_json(saved.model_dump_json()), _reader(data).state(0))
    with pytest.raises(
        DataError, match=r"lanes is 4; the checkpoint was made with lanes 8[^\n]*\nhint: train.reader.lanes=8"
    ):
        check_state(saved, _reader(data, lanes=4).state(7))
    with pytest.raises(DataError, match="window is 5"):
        check_state(saved, _reader(data, window=5).state(7))
    for other in (data[:1], data[::-1]):
        with pytest.raises(DataError, match=rf"data is \w+; the checkpoint was made with data {saved.data}"):
            check_state(saved, _reader(other).state(7))
    with pytest.raises(DataError, match="global_batch is 8.*\nhint: train.batch.global=16"):
        check_state(saved, saved.model_copy(update={"global_batch": 8}))
    with pytest.raises(DataError, match="seed is 6"):
        check_state(saved, saved.model_copy(update={"seed": 6}))


def test_a_digest_does_not_depend_on_the_order_but_on_every_uid() -> None:
    uids = [make_pair(n).uid for n in range(5)]
    assert digest_part(uids) == digest_part(uids[::-1])
    assert digest_part(uids) != digest_part([*uids[:4], make_pair(6).uid])
    assert step_digest(-1, 3) == "ffffffffffffffff-3"
    total = sum(int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=8).digest(), "little") for uid in uids)
    assert step_digest(digest_part(uids), 5) == f"{total % 2**64:016x}-5"
