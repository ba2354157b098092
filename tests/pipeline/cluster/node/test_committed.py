"""What a curation has committed, as the folders show it."""

from curation.pool.store import PoolSink
from pipeline import storage
from pipeline.cluster.node.committed import committed
from pipeline.recipe import Recipe


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_finished_units_are_counted_by_folder_and_what_is_under_way_is_not(tmp_path):
    recipe = Recipe("r", {"curate": {"output": str(tmp_path)}})
    assert committed(recipe, "curate") == {}
    with PoolSink(str(tmp_path / "_pool"), "a") as sink:
        assert committed(recipe, "curate") == {}  # its folder is there, and it is not done
        sink.finish({})
    write(
        tmp_path / "_pool",
        "_clipmill.json",
        "parts/b/part.json",
        "parts/c/images.tar",
        "parts/d/.tmp-0123456789ab-part.json",
    )
    write(tmp_path / "_pool", "joined/7f/bucket-00000.json", "joined/7f/bucket-00000.parquet", "columns/5e/1-0.pack")
    write(
        tmp_path / "_work", "_run.json", "0-7f/bucket-00000.json", "0-7f/bucket-00001.json", "0-7f/bucket-00001.parquet"
    )
    write(tmp_path / "_work", "fetch-1/0-3/0-0.json", "fetch-1/0-3/deeper/x.json")
    write(tmp_path, "other/x/y.json")
    assert committed(recipe, "curate") == {
        "pool/parts": 2, "pool/joined": 1, "pool/columns": 2, "work/0-7f": 2, "work/fetch-1": 1,
    }  # fmt: skip


def test_of_a_pool_elsewhere_and_in_a_store(tmp_path):
    write(tmp_path / "p", "parts/a/part.json", "columns/5e/1-0.pack")
    recipe = Recipe("r", {"curate": {"output": str(tmp_path / "out"), "pool": str(tmp_path / "p")}})
    assert committed(recipe, "curate") == {"pool/parts": 1, "pool/columns": 2}
    for name in ("parts/a/part.json", "joined/7f/b.json", "_clipmill.json"):
        storage.publish_bytes(f"memory://pool/_pool/{name}", b"{}")
    storage.publish_bytes("memory://pool/_work/0-7f/b.json", b"{}")
    stored = Recipe("r", {"curate": {"output": "memory://pool/"}})
    assert committed(stored, "curate") == {"pool/joined": 1, "pool/parts": 1, "work/0-7f": 1}


def test_teachers_commit_shard_by_shard_and_training_by_checkpoints(tmp_path):
    recipe = Recipe("r", {"reinforce": {"data": [str(tmp_path / "a"), str(tmp_path / "b")], "set": "s"}, "train": {}})
    write(
        tmp_path / "a/reinforced",
        "s/shard-000000.parquet",
        "s/shard-000000.bin",
        "s/.tmp-0123456789ab-shard-000001.parquet",
    )
    write(tmp_path / "a/reinforced", "other/shard-000000.parquet", "s/_work/shard-000000.json")
    assert committed(recipe, "reinforce") == {f"{tmp_path}/a/reinforced/s": 1, f"{tmp_path}/b/reinforced/s": 0}
    assert committed(recipe, "train") is None


def test_a_storage_that_does_not_say_is_no_sign(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refused)
    assert committed(Recipe("r", {"curate": {"output": str(tmp_path)}}), "curate") is None
