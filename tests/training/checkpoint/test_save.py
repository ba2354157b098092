"""Checkpoints: a usable one is complete and unaltered, whatever was cut, flipped, lost or killed."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from pipeline import storage
from pipeline.errors import DataError, StorageError
from pipeline.outputs import COMPLETE
from tests.helpers.optimizing import DeepTowers
from tests.helpers.simulated import run_simulated
from tests.helpers.tiny_towers import TinyTowers
from training.checkpoint import files, layout, tensors
from training.checkpoint.layout import STATE, NewerFormat, step_folders
from training.checkpoint.retention import prune
from training.checkpoint.save import Found, find, open_checkpoint, restore, save
from training.checkpoint.tensors import TensorReader, write_tensors
from training.checkpoint.train_state import TrainState
from training.engine.build import build_engine
from training.engine.optimizers import OPTIMIZERS
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.reader.state import ReaderState

READER = ReaderState(data="d", pairs=9, seed=1, global_batch=4, lanes=4, window=8, step=0)


def state_at(step: int) -> TrainState:
    return TrainState(
        step=step,
        samples=4 * step,
        reader=READER,
        optimizer_steps=step,
        model="m",
        recipe_digest="r",
        schedule={},
        engine={},
        world=1,
    )


def an_engine(seed: int | TinyTowers = 0, peers: Peers | None = None):
    towers = TinyTowers(seed) if isinstance(seed, int) else seed
    return build_engine(towers, EngineSettings(zero_stage=0), AdamW(), peers or Peers.alone())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two checkpoints, of steps 3 and 6."""
    for step in (3, 6):
        save(tmp_path, an_engine(step), state_at(step), keep_last=9)
    return tmp_path


def found_step(root: Path) -> int | None:
    found = find(root, Peers.alone())
    return found.state.step if found else None


def weights(engine) -> dict[str, torch.Tensor]:
    return {f"{part}/{name}": tensor for name, parts in engine.full_state() for part, tensor in parts.items()}


def test_a_checkpoint_gives_back_every_tensor_bit_for_bit(root: Path) -> None:
    engine = an_engine(99)
    found = find(root, Peers.alone())
    restore(engine, found)
    wanted, got = weights(an_engine(6)), weights(engine)
    assert engine.optimizer_steps == 6 and wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


@pytest.mark.parametrize("writers", [1, 2, 3])
@pytest.mark.parametrize("readers", [1, 2])
def test_any_world_size_reads_what_any_wrote(tmp_path: Path, writers: int, readers: int) -> None:
    made = [TinyTowers(5) for _ in range(writers)]  # not in the threads: they share torch's generator
    run_simulated(lambda peers: save(tmp_path, an_engine(made[peers.rank], peers), state_at(4), 1), writers)
    blank = [TinyTowers(0) for _ in range(readers)]

    def read(peers: Peers) -> dict[str, torch.Tensor]:
        engine = an_engine(blank[peers.rank], peers)
        restore(engine, find(tmp_path, peers))
        return weights(engine)

    names = {path.name for path in (tmp_path / "step-00000004").iterdir()}
    assert names == {COMPLETE, STATE, *(f"rank-{rank:03d}.safetensors" for rank in range(writers))}
    folder = tmp_path / "step-00000004"
    held = [(folder / f"rank-{rank:03d}.safetensors").stat().st_size for rank in range(writers)]
    assert max(held) - min(held) < 5000  # shared out: no more apart than the largest parameter with its moments
    wanted = weights(an_engine(5))
    for got in run_simulated(read, readers):
        assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_every_single_bit_flip_is_named_and_the_older_checkpoint_used(root: Path, caplog) -> None:
    draw = random.Random(0)
    newest = root / "step-00000006"
    names = sorted(path.name for path in newest.iterdir())
    for trial in range(300):
        path = newest / names[trial % len(names)]
        data = path.read_bytes()
        place, bit = draw.randrange(len(data)), draw.randrange(8)
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        caplog.clear()
        found = find(root, Peers.alone())
        assert found.state.step == 3 and found.rejected == ("step-00000006",)
        assert path.name in caplog.text
        path.write_bytes(data)
    assert found_step(root) == 6


def test_every_truncation_and_loss_is_named_and_the_older_checkpoint_used(root: Path, caplog) -> None:
    newest = root / "step-00000006"
    for path in sorted(newest.iterdir()):
        data = path.read_bytes()
        for keep in [0, 1, len(data) // 2, len(data) - 1]:
            path.write_bytes(data[:keep])
            caplog.clear()
            assert found_step(root) == 3 and path.name in caplog.text
        path.unlink()
        caplog.clear()
        assert found_step(root) == 3 and path.name in caplog.text
        path.write_bytes(data)
    assert found_step(root) == 6


def test_checkpoints_of_which_none_verifies_are_an_error_not_a_start_from_zero(root: Path) -> None:
    for folder in step_folders(root):
        (folder / "rank-000.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="none of 2 checkpoints verifies.*\n.*train.fresh=true"):
        find(root, Peers.alone())


def test_a_run_without_checkpoints_starts_at_step_zero(tmp_path: Path) -> None:
    assert find(tmp_path / "absent", Peers.alone()) is None


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00garbage", b"step-99999999\n"])
def test_latest_is_only_a_hint(root: Path, content: bytes | None) -> None:
    (root / "latest").unlink() if content is None else (root / "latest").write_bytes(content)
    assert found_step(root) == 6


def rewrite(folder: Path, change) -> None:
    """COMPLETE.json with `change` made and its own digest right again: damage that only its content can tell."""
    content = json.loads((folder / COMPLETE).read_text())
    listed = [files.FileEntry(**file) for file in content["files"]]
    values = change({"step": content["step"], "world": content["world"], "files": listed})
    (folder / COMPLETE).write_bytes(layout._complete_bytes(**values))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {**c, "world": 2},  # fewer files than ranks
        lambda c: {**c, "step": 7},
        lambda c: {**c, "files": []},
        lambda c: {**c, "files": [*c["files"], files.FileEntry("../../etc/passwd", 1, "0" * 64)]},
    ],
)
def test_a_list_that_does_not_fit_the_folder_is_rejected(root: Path, change) -> None:
    rewrite(root / "step-00000006", change)
    assert found_step(root) == 3


def test_a_newer_format_is_refused_rather_than_skipped(root: Path) -> None:
    path = root / "step-00000006" / COMPLETE
    body = {**json.loads(path.read_text()), "format_version": 2, "something": "new"}
    del body["self_digest"]
    path.write_text(json.dumps({**body, "self_digest": layout._self_digest(body)}))
    with pytest.raises(NewerFormat, match="format 2; this clipmill reads up to 1"):
        find(root, Peers.alone())


def test_hashes_are_checked_before_anything_is_parsed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "safe_open", lambda *a, **k: pytest.fail("parsed an unverified file"))
    monkeypatch.setattr(TrainState, "from_bytes", lambda *a: pytest.fail("parsed an unverified state"))
    for folder in step_folders(root):
        for path in (folder / "rank-000.safetensors", folder / STATE):
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError):
        find(root, Peers.alone())


def test_no_file_of_a_checkpoint_is_a_pickle(root: Path) -> None:
    for path in (root / "step-00000006").iterdir():
        assert path.suffix in (".json", ".safetensors")
        assert b"PROTO" not in path.read_bytes() and not path.read_bytes().startswith((b"PK", b"\x80"))


def test_another_architecture_is_refused_with_the_difference(root: Path) -> None:
    engine = an_engine()
    engine.towers.extra = torch.nn.Linear(2, 2)
    with pytest.raises(DataError, match="lacks 2 parameters .*extra.bias"):
        restore(engine, find(root, Peers.alone()))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_moments_of_every_optimizer_come_back_and_those_of_another_are_refused(kind: str, tmp_path: Path) -> None:
    def engine_of(name: str):
        return build_engine(DeepTowers(), EngineSettings(zero_stage=0), OPTIMIZERS[name](), Peers.alone())

    wrote, other = engine_of(kind), {"adamw": "muon", "lamb": "muon", "muon": "adamw", "lion": "adamw"}[kind]
    for number, moments in enumerate(wrote._optimizer.state.values()):
        for value in moments.values():
            value.fill_(number + 1)
    save(tmp_path, wrote, state_at(3), keep_last=1)
    again = engine_of(kind)
    restore(again, find(tmp_path, Peers.alone()))
    for (name, before), (_, after) in zip(wrote.full_state(), again.full_state(), strict=True):
        assert sorted(before) == sorted(after)
        assert all(torch.equal(before[key], after[key]) for key in before), name
    with pytest.raises(DataError, match=r"has no \w+/.* of the optimizer's are missing; it keeps \['"):
        restore(engine_of(other), find(tmp_path, Peers.alone()))


def test_another_shape_is_refused_with_the_tensors_name(root: Path) -> None:
    engine = an_engine()
    engine.towers.text[2] = torch.nn.Linear(8, 6)
    with pytest.raises(DataError, match="text.2.weight"):
        restore(engine, find(root, Peers.alone()))


def test_a_tensor_that_is_not_finite_is_never_saved(root: Path) -> None:
    engine = an_engine()
    with torch.no_grad():
        engine.towers.log_scale.fill_(torch.nan)
    with pytest.raises(DataError, match="param/log_scale"):
        save(root, engine, state_at(9), 9)
    assert found_step(root) == 6 and not list(root.glob(".tmp*"))


def test_ranks_at_different_steps_are_an_error_with_both(tmp_path: Path) -> None:
    def apart(peers: Peers) -> str:
        with pytest.raises(DataError) as caught:
            save(tmp_path, an_engine(0, peers), state_at(4 + peers.rank), 1)
        return str(caught.value)

    assert all("[4, 5]" in words for words in run_simulated(apart, 2))
    assert not step_folders(tmp_path)


def test_a_full_disk_on_one_rank_fails_all_and_costs_no_finished_work(root: Path, monkeypatch) -> None:
    write = storage.HashedWriter.write

    def full(self, data) -> None:
        if self._out.name.endswith("rank-001.safetensors"):
            raise OSError(28, "No space left on device")
        write(self, data)

    monkeypatch.setattr(storage.HashedWriter, "write", full)
    monkeypatch.setattr(tensors, "BUFFER_BYTES", 64)  # the disk is full long before the state is through

    def try_to_save(peers: Peers) -> str:
        with pytest.raises(StorageError) as caught:
            save(root, an_engine(9, peers), state_at(9), 1)
        return str(caught.value)

    assert all("no space left" in words and "hint: free space" in words for words in run_simulated(try_to_save, 2))
    assert found_step(root) == 6 and len(step_folders(root)) == 2 and not list(root.glob(".tmp*"))
    monkeypatch.undo()
    save(root, an_engine(9), state_at(9), 1)
    assert found_step(root) == 9


class Killed(BaseException):
    """Stands for kill -9: nothing of ours handles it."""


def test_killed_at_any_file_operation_a_whole_checkpoint_remains(root: Path, monkeypatch, tmp_path_factory) -> None:
    """Dies before the n-th write, fsync, rename, replace or delete of a save with retention, for every n."""
    countdown = [10**9]

    def dying(module, name: str) -> None:
        real = getattr(module, name)

        def step(*arguments, **named):
            countdown[0] -= 1
            if countdown[0] == 0:
                raise Killed
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, step)

    for name in ("fsync", "rename", "replace"):
        dying(os, name)
    dying(shutil, "rmtree")
    dying(storage.HashedWriter, "write")
    operations, steps = 0, set()
    while True:
        operations += 1
        copy = tmp_path_factory.mktemp("killed") / "checkpoints"
        shutil.copytree(root, copy)
        countdown[0] = operations
        try:
            save(copy, an_engine(9), state_at(9), keep_last=2)
            break
        except Killed:
            pass
        countdown[0] = 10**9
        found = find(copy, Peers.alone(), clean=True)
        steps.add(found.state.step)
        restore(an_engine(), found)
        assert not found.rejected and not list(copy.glob(".t*"))
        save(copy, an_engine(12), state_at(12), keep_last=2)
        assert [layout.step_of(folder) for folder in step_folders(copy)][0] == 12 and len(step_folders(copy)) == 2
    assert operations > 15 and steps == {6, 9}


def test_retention_keeps_the_newest_and_never_counts_a_rejected_one(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, an_engine(), state_at(step), keep_last=9)
    assert prune(tmp_path, 4, keep_last=2, rejected=("step-00000003",)) == ["step-00000001"]
    assert [layout.step_of(f) for f in step_folders(tmp_path)] == [5, 4, 3, 2]


def test_saving_over_a_rejected_checkpoint_replaces_it(root: Path) -> None:
    (root / "step-00000006" / STATE).unlink()
    save(root, an_engine(7), state_at(6), 9, rejected=("step-00000006",))
    assert isinstance(open_checkpoint(root / "step-00000006", Peers.alone()), Found)


def test_a_large_state_goes_to_several_files_of_bounded_size(tmp_path: Path) -> None:
    named = [(f"t{i}", torch.full((256,), float(i))) for i in range(10)]
    entries = write_tensors(tmp_path, "rank-000", iter(named), buffer_bytes=3000)
    assert [e.name for e in entries] == [
        "rank-000.safetensors", "rank-000-001.safetensors", "rank-000-002.safetensors", "rank-000-003.safetensors",
    ]  # fmt: skip
    reader = TensorReader([tmp_path / e.name for e in entries])
    assert len(reader.names()) == 10 and all(torch.equal(reader.get(name), value) for name, value in named)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_any_reader_of_safetensors_reads_our_files(tmp_path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file

    values = {"a": torch.arange(6).reshape(2, 3), "empty": torch.zeros(0, 4), "scalar": torch.ones(())}
    values = {name: value.to(dtype) for name, value in values.items()}
    write_tensors(tmp_path, "rank-000", values.items())
    got = load_file(tmp_path / "rank-000.safetensors")
    assert all(torch.equal(got[name], value) and got[name].dtype == dtype for name, value in values.items())


def test_a_hostile_tensor_file_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "rank-000.safetensors"
    overlapping = json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}).encode()
    pickle = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    huge = (99_000_000).to_bytes(8, "little") + b"{"
    clash = len(overlapping).to_bytes(8, "little") + overlapping + bytes(8)
    for data in (b"", b"\xff" * 8, huge, clash, pickle):
        path.write_bytes(data)
        with pytest.raises(DataError, match="no safetensors file"):
            TensorReader([path])
