"""An output takes what is its own and nothing else: whatever others wrote is refused before any work, or left alone."""

import json
import os
import shutil
from pathlib import Path

import pytest

from curation.emit.ownership import DATASET, STORE, Owned, owned, publish_owned, remove_listed
from curation.runner.driver import check, curate
from curation.settings import CurateSettings
from pipeline.errors import ClipmillError, RecipeError
from tests.helpers import small_crawl


def plain_of(folder: Path, images: int = 12, **more) -> dict:
    paths = small_crawl.write(folder / "in", small_crawl.records(images))
    stages = [{"kind": "image_decode"}]
    return {**small_crawl.recipe(paths, folder / "out", folder / "e.json", stages=stages, buckets=2), **more}


def made(plain: dict):
    return curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(plain: dict, match: str) -> None:
    for door in (check, lambda settings: curate(settings, name="t", seed=0, quiet=True)):
        with pytest.raises(RecipeError, match=match):
            door(CurateSettings.model_validate(plain))


@pytest.mark.parametrize(
    "name",
    [
        "shard-of-my-thesis.tar", "shard-000000.tar", "notes.txt", "report.html", "recipe.yaml", "manifest.json",
        ".hidden", "index/mine.parquet", "verdicts/bucket-00000.parquet", "_work/1-0123456789abcdef/x", "_work/x",
        "_pool/x", "deep/er/x",
    ],
)  # fmt: skip
def test_a_folder_with_anything_of_somebody_elses_is_refused_and_left_as_it_was(tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"years of work")
    refused(plain_of(tmp_path), "curate.output: .*out holds .*which no curation has written")
    assert snapshot(tmp_path / "out") == {name: b"years of work"}


def test_in_an_output_of_ours_names_of_others_stay_and_those_we_would_write_are_refused(tmp_path):
    plain = plain_of(tmp_path, emit={"pairs_per_shard": 1})
    before = made(plain)
    notes = {"shard-of-my-thesis.tar", "index/mine.parquet", "verdicts/notes", ".tmp-mine", "my/x", "_work/mine/x"}
    for name in notes:
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "out" / name).write_bytes(b"mine")
    fewer = {**plain, "emit": {"pairs_per_shard": 1000}}
    assert made(fewer).digest() != before.digest()  # the shards of the first are gone
    assert [path.name for path in sorted((tmp_path / "out").glob("shard-0*"))] == ["shard-000000.tar"]
    assert {name for name in notes if (tmp_path / "out" / name).read_bytes() == b"mine"} == notes
    (tmp_path / "out" / "shard-000001.tar").write_bytes(b"mine")
    refused(plain, "holds shard-000001.tar, which no curation has written")
    assert (tmp_path / "out" / "shard-000001.tar").read_bytes() == b"mine"


def test_an_input_data_set_is_never_the_output(tmp_path):
    made(plain_of(tmp_path))
    before = snapshot(tmp_path / "out")
    shards = {"sources": [{"kind": "shards", "paths": [str(tmp_path / "out")]}]}
    refused({**plain_of(tmp_path), **shards}, r"curate.sources.0.paths.0: .* curate.output")
    assert snapshot(tmp_path / "out") == before


def spellings(folder: Path) -> list[str]:
    (folder.parent / "link").symlink_to(folder)
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "deep").symlink_to(folder)
    return [
        f"{folder}/", f"{folder}//", f"{folder}/../{folder.name}", f"{folder.parent}/./{folder.name}", f"file://{folder}",
        f"FILE://{folder}/", f"file://{folder.parent}/%64ata", f"{folder.parent}/link", f"{folder.parent}/other/deep/",
        os.path.relpath(folder), str(folder / "sub"), str(folder.parent),
    ]  # fmt: skip


def test_every_spelling_of_an_overlap_is_refused(tmp_path):
    made(plain_of(tmp_path))
    data = tmp_path / "place" / "data"
    data.parent.mkdir()
    shutil.copytree(tmp_path / "out", data, ignore=shutil.ignore_patterns("_*"))
    before = snapshot(tmp_path / "place")
    source = {"sources": [{"kind": "shards", "paths": [str(data)]}]}
    for output in spellings(data):
        refused({**plain_of(tmp_path), **source, "output": output}, r"paths.0: .* (is|lies in|contains) curate.output")
        refused({**plain_of(tmp_path), **source, "pool": output}, r"paths.0: .* (is|lies in|contains) curate.pool")
    assert {name: data for name, data in snapshot(tmp_path / "place").items() if "link" not in name} == before


def test_a_file_that_a_link_leads_to_is_an_input_where_it_lies(tmp_path):
    plain = plain_of(tmp_path)
    real = tmp_path / "out" / "crawl.warc.gz"
    real.parent.mkdir()
    shutil.move(plain["sources"][0]["paths"][0], real)
    (tmp_path / "in" / "crawl-0.warc.gz").symlink_to(real)
    refused(plain, "lies in curate.output")


def test_outputs_beside_the_inputs_are_fine(tmp_path, monkeypatch):
    plain = plain_of(tmp_path)
    monkeypatch.chdir(tmp_path / "in")
    for sources in (["crawl-0.warc.gz"], ["*.warc.gz"]):
        made({**plain, "sources": [{"kind": "warc", "paths": sources}], "output": "out"})


def test_a_pool_is_a_pool(tmp_path):
    mine = tmp_path / "mine"
    (mine / "parts").mkdir(parents=True)
    (mine / "parts" / "bolt.txt").write_text("a bolt")
    (mine / "list.txt").write_text("what is where")
    before = snapshot(mine)
    refused(plain_of(tmp_path, pool=str(mine)), r"curate.pool: .*mine holds .*, which no curation has written")
    assert snapshot(mine) == before and not (tmp_path / "out").exists()
    made(plain_of(tmp_path))
    refused({**plain_of(tmp_path), "output": str(tmp_path / "b"), "pool": str(tmp_path / "out")}, "curate.pool: ")
    shared = {**plain_of(tmp_path), "output": str(tmp_path / "b"), "pool": str(tmp_path / "out" / "_pool")}
    assert made(shared).num_pairs


@pytest.mark.parametrize("place", ["out/_pool", "out/_pool/x", "out/x", "out/_work/x", "out/_pool/parts/x"])
def test_no_output_lies_in_another_output_or_its_pool(tmp_path, place):
    made(plain_of(tmp_path))
    before = snapshot(tmp_path / "out")
    refused({**plain_of(tmp_path), "output": str(tmp_path / place)}, "curate.output: .*another output or pool")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("place", ["out", "out/x", "out/_work", ".", "out/_pool/x"])
def test_pool_and_output_lie_apart(tmp_path, place):
    refused(plain_of(tmp_path, pool=str(tmp_path / place)), "curate.pool|curate.sources")
    assert not (tmp_path / "out").exists()


def test_a_list_names_only_what_we_write(tmp_path):
    out, other = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    other.write_text("x")
    names = ["../precious", str(other), "thesis.tar", "_pool", ".", "shard-000000.tar", "index/../../precious"]
    for name in ("thesis.tar", "shard-000000.tar"):
        (out / name).write_text("x")
    publish_owned(str(out), Owned(DATASET, files={name: {} for name in names}))
    remove_listed(str(out), [])
    assert other.exists() and sorted(path.name for path in out.iterdir()) == ["_clipmill.json", "thesis.tar"]


def test_the_mark_is_the_first_file_and_a_kill_before_it_leaves_an_empty_folder(tmp_path, monkeypatch):
    plain = plain_of(tmp_path)
    published: list[str] = []
    replace = os.replace

    def dying(source, target):
        published.append(str(target))
        if len(published) == 1:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        made(plain)
    assert published == [str(tmp_path / "out" / "_clipmill.json")]
    (tmp_path / "out" / ".tmp-0123456789ab-_clipmill.json").write_text("{")  # as a kill -9 would leave it
    assert made(plain).num_pairs


def test_a_dataset_from_before_there_was_a_mark_is_ours_and_finished(tmp_path, caplog):
    plain = plain_of(tmp_path)
    whole = made(plain)
    (tmp_path / "out" / "_clipmill.json").unlink()
    (tmp_path / "out" / "_pool" / "_clipmill.json").unlink()
    os.rename(tmp_path / "out" / ".lock", tmp_path / "out" / "_lock")
    before = snapshot(tmp_path / "out")
    assert made(plain) == whole and snapshot(tmp_path / "out") == before  # finished before
    other = {**plain, "emit": {"pairs_per_shard": 1}}
    made(other)
    assert made(plain) == whole
    assert {n: b for n, b in snapshot(tmp_path / "out").items() if n.endswith("tar")} == {
        n: b for n, b in before.items() if n.endswith("tar")
    }


@pytest.mark.parametrize("junk", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"kind": "dataset", "files": {}}'])
def test_a_damaged_mark_is_made_again(tmp_path, junk):
    plain = plain_of(tmp_path)
    whole = made(plain)
    before = small_crawl.outcome(tmp_path / "out")
    for mark in (tmp_path / "out" / "_clipmill.json", tmp_path / "out" / "_pool" / "_clipmill.json"):
        mark.write_bytes(junk)
    assert made(plain) == whole and small_crawl.outcome(tmp_path / "out") == before
    assert owned(str(tmp_path / "out")).job_digest and owned(str(tmp_path / "out" / "_pool"), STORE).kind == STORE
    (tmp_path / "out" / "_clipmill.json").write_bytes(junk)
    (tmp_path / "out" / "thesis.txt").write_text("x")
    refused(plain, "holds thesis.txt")


def test_an_object_store_is_judged_alike(tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/clipmill-own/mine/shard-of-my-thesis.tar", b"x")
    refused(plain_of(tmp_path, output="memory://clipmill-own/mine"), "holds shard-of-my-thesis.tar")
    for output in ("memory://clipmill-own/out", "memory://clipmill-own/out/"):
        assert made(plain_of(tmp_path, output=output)).num_pairs
    refused(plain_of(tmp_path, output="memory://clipmill-own/out/_pool/x"), "another output or pool")
    source = {"sources": [{"kind": "shards", "paths": ["memory://clipmill-own/out"]}]}
    for output in ("memory://clipmill-own/out", "memory://clipmill-own//out/.", "memory://CLIPMILL-own/out/x"):
        refused({**plain_of(tmp_path), **source, "output": output}, "curate.output")


@pytest.mark.parametrize("what", ["file", "dangling"])
def test_an_output_that_is_no_folder_is_refused(tmp_path, what):
    out = tmp_path / "out"
    out.write_text("mine") if what == "file" else out.symlink_to(tmp_path / "nowhere")
    refused(plain_of(tmp_path), "curate.output: .* is no folder")
    with pytest.raises(ClipmillError):
        made(plain_of(tmp_path))


@pytest.mark.parametrize("fresh", [False, True])
def test_the_mark_says_what_was_written(tmp_path, fresh):
    manifest = made(plain_of(tmp_path, fresh=fresh))
    content = json.loads((tmp_path / "out" / "_clipmill.json").read_text())
    assert content["manifest_digest"] == manifest.digest() and not content["remaking"]
    on_disk = {name for name in snapshot(tmp_path / "out") if not name.startswith(("_", ".", "manifest"))}
    assert set(content["files"]) == on_disk
    for name, note in content["files"].items():
        assert note["bytes"] == (tmp_path / "out" / name).stat().st_size
