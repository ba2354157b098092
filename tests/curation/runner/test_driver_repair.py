"""Damage after the end: the same command sees what is cheap to see, `curate.fresh` repairs the rest, byte for byte."""

import logging
from pathlib import Path

import pytest

from curation.emit import swap
from curation.runner import driver
from curation.runner.driver import curate, finished
from curation.settings import CurateSettings
from pipeline import jobs, recipe
from pipeline.contract.verify import verify
from pipeline.errors import DataError
from tests.helpers import small_crawl


def settings_of(folder: Path) -> CurateSettings:
    paths = small_crawl.write(folder / "in", small_crawl.records(24))
    emit = {"pairs_per_shard": 3}
    return CurateSettings.model_validate(
        small_crawl.recipe(paths, folder / "out", folder / "e.json", emit=emit, buckets=1)
    )


def made(settings: CurateSettings):
    return curate(settings, name="t", seed=3, quiet=True)


def everything(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and "_pool" not in path.parts and path.name != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


FILES = [
    "shard-000000.tar", "index/shard-000001.parquet", "verdicts/bucket-00000.parquet", "subset.npy", "summary.json",
    "entry_counts.json", "manifest.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_of_another_size_is_made_again_by_the_same_command(tmp_path, caplog, name):
    caplog.set_level(logging.WARNING, "clipmill")
    settings = settings_of(tmp_path)
    whole = made(settings)
    before = everything(tmp_path / "out")
    more = (b"", before[name] + b"x") if name == FILES[0] else ()  # one look at sizes serves all files
    for content in (None, before[name][:-2], *more):
        caplog.clear()
        path = tmp_path / "out" / name
        path.unlink() if content is None else path.write_bytes(content)
        assert finished(settings, seed=3) is None
        assert made(settings) == whole and everything(tmp_path / "out") == before
        assert any("made again" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", FILES)
def test_fresh_repairs_a_flipped_bit_wherever_it_is(tmp_path, name):
    settings = settings_of(tmp_path)
    whole = made(settings)
    before = everything(tmp_path / "out")
    data = bytearray(before[name])
    data[len(data) // 2] ^= 1
    (tmp_path / "out" / name).write_bytes(data)
    assert made(settings.model_copy(update={"fresh": True})) == whole
    assert everything(tmp_path / "out") == before
    assert verify(str(tmp_path / "out")).problems == []


def test_fresh_makes_a_finished_output_again_and_is_resumed_when_cut_off(tmp_path, monkeypatch):
    settings = settings_of(tmp_path)
    fresh = settings.model_copy(update={"fresh": True})
    whole = made(settings)
    before = everything(tmp_path / "out")
    emitted = []
    real = driver.shards.emit_shard
    monkeypatch.setattr(driver.shards, "emit_shard", lambda job, *a: emitted.append(a[0]) or real(job, *a))
    assert made(fresh) == whole and len(emitted) == len(whole.shards)
    assert everything(tmp_path / "out") == before and finished(settings, seed=3) == whole
    assert finished(fresh, seed=3) is None  # whoever asks for it again gets it again

    with monkeypatch.context() as patch:
        patch.setattr(swap, "publish", lambda *args: (_ for _ in ()).throw(DataError("here", "cut off")))
        with pytest.raises(DataError, match="cut off"):
            made(fresh)
    assert verify(str(tmp_path / "out")).problems == []  # the old one stays until the new one is complete
    assert finished(settings, seed=3) is None  # but it was asked to be made again
    segments = []
    real_segment = driver.tasks.segment
    monkeypatch.setattr(driver.tasks, "segment", lambda *a: segments.append(a) or real_segment(*a))
    for again in (fresh, settings):
        assert made(again) == whole and segments == [] and everything(tmp_path / "out") == before
        if again is fresh:
            break


def test_verify_names_the_command_and_the_command_repairs(tmp_path, capsys):
    plain = small_crawl.recipe([], tmp_path / "out", tmp_path / "e.json", buckets=2)
    plain["sources"][0]["paths"] = small_crawl.write(tmp_path / "in", small_crawl.records(24))
    written = recipe.Recipe(str(tmp_path / "r.yaml"), {"name": "t", "seed": 3, "curate": plain})
    jobs.curate(written)
    index = tmp_path / "out" / "index" / "shard-000000.parquet"
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    with pytest.raises(DataError) as error:
        jobs.verify(str(tmp_path / "out"), [])
    command = error.value.hint.removeprefix("make it again: ").split()
    assert command[:2] == ["clipmill", "curate"] and command[3:] == ["curate.fresh=true"]
    jobs.curate(recipe.load(command[2], command[3:]))
    jobs.verify(str(tmp_path / "out"), [])
    assert "fresh" not in (tmp_path / "out" / "recipe.yaml").read_text()
