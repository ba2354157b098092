"""Inputs that lie on a web server, or behind a glob of a store: each source reads them as it reads local ones."""

import gzip
import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.pool.store import PoolSink
from curation.sources import SOURCES
from pipeline import storage
from pipeline.errors import RecipeError, StorageError
from tests.curation.sources.shards.test_shards import sample, tar
from tests.helpers.ingested import images, parts_of
from tests.helpers.warcs import framed, zipped
from tests.helpers.wats import envelope, wat
from tests.helpers.web import Says, web


def parquet() -> bytes:
    file = io.BytesIO()
    urls = [f"http://e.org/{at}.png" for at in range(900)]
    pq.write_table(pa.table({"url": urls, "caption": urls, "noise": [os.urandom(99) for _ in urls]}), file, 100)
    return file.getvalue()


TABLE = b"url,caption\n" + b"".join(b"http://e.org/%d.png,a\n" % at for at in range(300))
FILES = {
    "a.warc.gz": ("warc", lambda: zipped(*images(40))),
    "a.warc.zst": ("warc", lambda: b"".join(map(framed, images(40)))),
    "a.wat.gz": ("wat", lambda: zipped(wat("http://e.org/", envelope("http://e.org/", "<img src=/x.png alt=a>")))),
    "a.tar": ("shards", lambda: tar(*sample(0), *sample(1))),
    "a.tar.gz": ("shards", lambda: gzip.compress(tar(*sample(0), *sample(1)))),
    "a.parquet": ("table", parquet),
    "a.csv": ("table", lambda: TABLE),
    "a.csv.gz": ("table", lambda: gzip.compress(TABLE)),
}


def ingested(folder, source):
    counts = {}
    for part in parts_of(source):
        source.look(part.input, "curate.sources.0")
        with PoolSink(str(folder), part.id) as sink:
            counts[part.id] = source.ingest(part, sink)
            sink.finish(counts[part.id])
    return counts


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_file_on_a_web_server_reads_as_a_local_one_with_and_without_ranges(tmp_path, name, ranges):
    kind, make = FILES[name]
    data = make()
    (tmp_path / name).write_bytes(data)
    local = ingested(tmp_path / "local", SOURCES[kind](paths=[str(tmp_path / name)]))
    with web({f"/in/{name}": Says(body=data, ranges=ranges)}) as server:
        remote = SOURCES[kind](paths=[server.url(f"/in/{name}")])
        assert ingested(tmp_path / "remote", remote) == local


@pytest.mark.parametrize("name", FILES)
def test_a_glob_of_a_store_names_its_files(tmp_path, name):
    kind, make = FILES[name]
    data, folder = make(), f"memory://web-{name.replace('.', '-')}"
    (tmp_path / name).write_bytes(data)
    for at in "12":
        storage.publish_bytes(f"{folder}/{at}/{name}", data)
    storage.publish_bytes(f"{folder}/1/notes.txt", b"x")
    found = SOURCES[kind](paths=[f"{folder}/*/{name}"]).inputs()
    assert [each.path.replace(":///", "://") for each in found] == [f"{folder}/{at}/{name}" for at in "12"]
    source = SOURCES[kind](paths=[f"{folder}/*/a.*", f"{folder}/1"])
    assert ingested(tmp_path / "pool", source) == ingested(
        tmp_path / "local", SOURCES[kind](paths=[str(tmp_path / name)])
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [("/gone.csv", "nothing at"), ("/in/", "nothing at"), ("/*.csv", "nothing at"), ("/error.csv", "500|nothing at")],
)
def test_what_is_not_there_is_an_error_that_names_the_setting(path, words):
    with web({"/error.csv": Says(500, b"no")}) as server:
        source = SOURCES["table"](paths=[server.url(path)])
        with pytest.raises(
            RecipeError, match=rf"curate\.sources\.0\.paths\.0.*({words}).*folders and globs it cannot list"
        ):
            source.inputs("curate.sources.0")


def test_a_large_file_on_a_server_without_ranges_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.storage.files._WHOLE_BYTES", 1000)
    with web({"/a.tar": Says(body=tar(*sample(0)))}) as server:
        with pytest.raises(StorageError, match=r"a\.tar: the server ignores range requests.*\n?.*copy the file"):
            ingested(tmp_path, SOURCES["shards"](paths=[server.url("/a.tar")]))
