"""A dataset at a place is replaced whole or not at all, wherever the swap is cut off."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from curation.emit import book_tasks, swap
from curation.job import make_job
from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline import storage
from pipeline.contract.dataset import verify
from pipeline.contract.manifest import MANIFEST
from pipeline.errors import DataError, StorageError
from pipeline.outputs import DATA_CARD, REPORT
from pipeline.storage import state
from pipeline.storage.lock import locked
from tests.helpers import small_crawl


def settings_of(folder: Path, pairs_per_shard: int) -> CurateSettings:
    paths = small_crawl.write(folder / "in", small_crawl.records(24))
    plain = small_crawl.recipe(paths, folder / "out", folder / "e.json", stages=[{"kind": "image_decode"}], buckets=2)
    return CurateSettings.model_validate({**plain, "emit": {"pairs_per_shard": pairs_per_shard}})


def test_cut_off_after_any_move_the_next_run_ends_the_swap(tmp_path, monkeypatch):
    new, old = settings_of(tmp_path, 3), settings_of(tmp_path, 2)
    whole = curate(new, name="t", seed=0, quiet=True)
    expected = small_crawl.outcome(tmp_path / "out")
    moves = len(swap.file_names(make_job(new, 0, []), len(whole.shards)))
    for cut in range(0, moves + 1, 2):
        before = curate(old, name="t", seed=0, quiet=True)
        assert before.digest() != whole.digest()
        for name in (REPORT, DATA_CARD):
            (tmp_path / "out" / name).write_text("of the old dataset")
        left = cut
        replace = os.replace

        def dying(source, target, replace=replace):
            nonlocal left
            if "_work/emit-" in str(source) and Path(source).parts[-2] != "entries" and ".tmp-" not in str(source):
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", dying)
        if cut < moves:
            with pytest.raises(KeyboardInterrupt):
                curate(new, name="t", seed=0, quiet=True)
            left_over = [name for name in (MANIFEST, REPORT, DATA_CARD) if (tmp_path / "out" / name).exists()]
            assert not left_over, "neither the old nor the new one is claimed or told of"
        monkeypatch.undo()
        assert curate(new, name="t", seed=0, quiet=True) == whole
        assert small_crawl.outcome(tmp_path / "out") == expected
        assert verify(str(tmp_path / "out")).problems == []


def test_the_old_dataset_stays_whole_until_the_new_one_is_complete(tmp_path, monkeypatch):
    before = curate(settings_of(tmp_path, 2), name="t", seed=0, quiet=True)
    files = small_crawl.outcome(tmp_path / "out")
    monkeypatch.setattr(book_tasks, "publish_book", _fail)
    with pytest.raises(DataError, match="stop here"):
        curate(settings_of(tmp_path, 3), name="t", seed=0, quiet=True)
    assert small_crawl.outcome(tmp_path / "out") == files
    assert verify(str(tmp_path / "out")).problems == []
    assert curate(settings_of(tmp_path, 2), name="t", seed=0, quiet=True) == before


def _fail(*args: object) -> None:
    raise DataError("here", "stop here")


def test_a_lost_shard_is_made_again(tmp_path):
    settings = settings_of(tmp_path, 3)
    whole = curate(settings, name="t", seed=0, quiet=True)
    expected = small_crawl.outcome(tmp_path / "out")
    (tmp_path / "out" / "shard-000001.tar").unlink()
    assert curate(settings, name="t", seed=0, quiet=True) == whole
    assert small_crawl.outcome(tmp_path / "out") == expected


def test_a_shard_that_rots_before_the_swap_is_ended_is_made_again(tmp_path, monkeypatch):
    settings = settings_of(tmp_path, 3)
    whole = curate(settings, name="t", seed=0, quiet=True)
    again = settings.model_copy(update={"fresh": True})
    with monkeypatch.context() as patch, pytest.raises(DataError, match="stop here"):
        patch.setattr(swap, "_swap", _fail)
        curate(again, name="t", seed=0, quiet=True)
    (shard,) = (tmp_path / "out" / "_work").glob("emit-*/shard-000001.tar")
    data, times = bytearray(shard.read_bytes()), shard.stat()
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # a disk tells of no write
    assert curate(again, name="t", seed=0, quiet=True) == whole
    assert verify(str(tmp_path / "out")).problems == []


def test_one_run_at_a_time_on_one_output(tmp_path):
    said = rf"host .*, process {os.getpid()}, since .*; one run at a time"
    with locked(tmp_path), pytest.raises(StorageError, match=said), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_an_object_store_takes_the_dataset_too(tmp_path):
    plain = settings_of(tmp_path, 3).model_dump(mode="json")
    local = curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
    remote = {**plain, "output": "memory://clipmill-test/out"}
    for pairs_per_shard, same in ((2, False), (3, True)):
        remote["emit"] = {**plain["emit"], "pairs_per_shard": pairs_per_shard}
        made = curate(CurateSettings.model_validate(remote), name="t", seed=0, quiet=True)
        assert (made.digest() == local.digest()) == same
    assert verify(remote["output"]).problems == []


def test_in_an_object_store_a_shard_is_read_again_only_when_it_was_written_to(tmp_path, monkeypatch):
    store = settings_of(tmp_path, 3).model_copy(update={"output": "memory://clipmill-stamps/out"})
    hashed, remove_listed = [], swap.remove_listed
    monkeypatch.setattr(state, "sha256_of", lambda url, real=state.sha256_of: hashed.append(url) or real(url))
    curate(store, name="t", seed=0, quiet=True)
    assert hashed and not [url for url in hashed if url.endswith(".tar")], "each is of the bytes that were written"

    def late(output, keep):
        for name in (name for name in keep if name == "shard-000001.tar"):
            url = storage.join(output, name)
            storage.publish_bytes(url, storage.read_bytes(url)[:-1] + b"x")
        remove_listed(output, keep)

    monkeypatch.setattr(swap, "remove_listed", late)
    with pytest.raises(StorageError, match="shard-000001.tar: other bytes than were written"):
        curate(store.model_copy(update={"fresh": True}), name="t", seed=0, quiet=True)
    assert not storage.exists(storage.join(store.output, MANIFEST))


def test_where_the_file_system_has_no_locks_the_last_to_come_has_the_turn(tmp_path, monkeypatch, caplog):
    def flock(handle, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    first, second = settings_of(tmp_path, 3), settings_of(tmp_path, 2)
    replace, moved = os.replace, []

    def late(source, target):
        if not moved and str(target).endswith("shard-000001.tar") and "out/shard" in str(target):
            moved.append(target)
            curate(second, name="t", seed=0, quiet=True)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", late)
        with pytest.raises(StorageError, match="has taken over"):
            curate(first, name="t", seed=0, quiet=True)
    assert moved and "has no locks" in caplog.text and not verify(str(tmp_path / "out")).problems
    curate(first, name="t", seed=0, quiet=True)
    assert verify(str(tmp_path / "out")).problems == [] and not (tmp_path / "out" / "_run.json").exists()
