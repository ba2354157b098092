"""An index that its own manifest vouches for may still be hostile: it is refused by name, and never unpacked."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.contract.dataset import open_dataset, verify
from pipeline.contract.index import INDEX_SCHEMA
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.pairs import MAX_PAIR, row_checksum
from pipeline.contract.shards import pack_pair
from pipeline.contract.tar import END
from pipeline.errors import DataError
from tests.helpers.datasets import make_dataset


def with_index(folder, table: pa.Table) -> None:
    """The dataset with another index, vouched for."""
    path = folder / "index/shard-000000.parquet"
    pq.write_table(table, path, write_page_checksum=True)
    manifest = Manifest.load(str(folder))
    entry = manifest.shards[0].model_copy(update={"index_sha256": storage.sha256_of(str(path))})
    manifest.model_copy(update={"shards": [entry]}).save(str(folder))


def changed(folder, **columns) -> pa.Table:
    table = open_dataset(str(folder)).table(0)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = values.type if isinstance(values, pa.Array) else table.schema.field(name).type
        table = table.set_column(at, pa.field(name, field), pa.array(values, field))
    return table


HOSTILE = {
    "a row outside": ({"offset": [0, 1 << 40]}, "row 1: .*places inside a tar of"),
    "a place below zero": ({"image_offset": [-5, 4000]}, "row 0: .*places inside"),
    "a member outside its pair": ({"text_offset": [1 << 30, 4000]}, "row 0: .*places inside"),
    "lengths that overflow": ({"offset": [2**62, 0], "length": [2**62, 10]}, "row 0: .*places inside"),
    "a pair of gigabytes": ({"length": [MAX_PAIR + 1, 10]}, "row 0: .*places inside"),
    "nulls": ({"checksum": pa.array([None, 1], pa.uint64())}, "column checksum of uint64, 1 nulls; uint64 without"),
    "another type": ({"uid": pa.array([["a"], ["b"]])}, "column uid of list"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_is_refused_by_name(tmp_path, name):
    make_dataset(str(tmp_path), 1, 2)
    columns, words = HOSTILE[name]
    with_index(tmp_path, changed(tmp_path, **columns))
    with pytest.raises(DataError, match=rf"index/shard-000000\.parquet.*{words}"):
        open_dataset(str(tmp_path)).read_pair(0, 0)
    assert any("shard-000000.parquet" in str(problem) for problem in verify(str(tmp_path)).problems)


def test_one_long_caption_in_every_row_is_counted_before_it_is_unpacked(tmp_path):
    """A caption of 4 MB in 200 rows: 5 KB of parquet, 800 MB of memory."""
    make_dataset(str(tmp_path), 1, 200)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), ["x" * (4 << 20)])
    table = changed(tmp_path)
    at = table.schema.get_field_index("caption")
    bomb = table.set_column(at, "caption", text)
    path = tmp_path / "index/shard-000000.parquet"
    with_index(tmp_path, bomb)
    pq.write_table(bomb, path, compression="zstd")
    with_index(tmp_path, bomb)
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DataError, match=r"shard-000000\.parquet: \d+ bytes, unpacked; at most"):
        open_dataset(str(tmp_path)).table(0)
    assert pa.default_memory_pool().max_memory() - before < 100 << 20


def test_more_rows_than_the_manifest_says_are_not_read(tmp_path):
    make_dataset(str(tmp_path), 1, 2)
    with_index(tmp_path, pa.concat_tables([changed(tmp_path)] * 3))
    with pytest.raises(DataError, match="6 rows; at most 2"):
        open_dataset(str(tmp_path)).table(0)


@pytest.mark.parametrize(
    ("text", "meta", "words"),
    [(b"a cat", b"[" * 5000, "no JSON object"), (b"\xff", b"{}", "no UTF-8"), (b"a cat", b"[]", "no JSON object")],
)
def test_a_pair_that_nobody_can_read_is_named_in_a_dataset_that_vouches_for_it(tmp_path, text, meta, words):
    make_dataset(str(tmp_path), 1, 1)
    block, starts = pack_pair("000000-000000", {"jpg": b"image", "json": meta, "txt": text})
    (tmp_path / "shard-000000.tar").write_bytes(block + END)
    row: dict = {name: None for name in INDEX_SCHEMA.names}
    row |= {"key": "000000-000000", "uid": "0" * 32, "row": 0, "offset": 0, "length": len(block), "ext": "jpg"}
    row |= {"caption": "", "num_captions": 1, "checksum": row_checksum(b"image", text, meta)}
    for name, suffix, data in (("image", "jpg", b"image"), ("text", "txt", text), ("json", "json", meta)):
        row |= {f"{name}_offset": starts[suffix], f"{name}_length": len(data)}
    tar = tmp_path / "shard-000000.tar"
    manifest = Manifest.load(str(tmp_path))
    entry = manifest.shards[0].model_copy(update={"bytes": tar.stat().st_size, "sha256": storage.sha256_of(str(tar))})
    manifest.model_copy(update={"shards": [entry]}).save(str(tmp_path))
    with_index(tmp_path, pa.Table.from_pylist([row], INDEX_SCHEMA))
    with pytest.raises(DataError, match=rf"shard-000000\.tar at byte 0 \(pair 000000-000000\): .*{words}"):
        open_dataset(str(tmp_path)).read_pair(0, 0)
    assert any("pair 000000-000000" in str(problem) for problem in verify(str(tmp_path)).problems)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": "\\ud800"}', '{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 5000])
def test_a_manifest_that_no_writer_makes_is_an_error(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DataError, match=MANIFEST):
        Manifest.load(str(tmp_path))


def test_a_manifest_of_gigabytes_is_not_read(tmp_path):
    with open(tmp_path / MANIFEST, "wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(DataError, match=r"manifest\.json: 5368709120 bytes; at most"):
        Manifest.load(str(tmp_path))
