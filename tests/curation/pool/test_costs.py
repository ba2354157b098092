"""What the join opens, reads and writes is what the formulae say: files, requests and bytes are counted as they go."""

import os
from collections import Counter

import pyarrow.parquet as pq
import pytest

from curation.job import make_job
from curation.pool import costs, runs
from curation.pool.store import PoolSink
from curation.runner import joined
from curation.settings import CurateSettings
from curation.table import parquet
from curation.table.uids import Cut
from pipeline import storage
from pipeline.storage import files
from tests.helpers.small_crawl import picture


@pytest.fixture
def counted(monkeypatch):
    """(what was done, to which kind of file) -> times, or bytes."""
    seen = Counter()
    opened, read, replace = storage.RangeReader.__init__, storage.RangeReader.read, os.replace

    def kind(url):
        return os.path.basename(os.path.dirname(url)).split("-")[0], os.path.splitext(url)[1]

    def counting_open(self, url):
        opened(self, url)
        self.is_published = not os.path.basename(url).startswith(".tmp-")  # a writer hashes what it wrote
        seen["open", *kind(url)] += self.is_published

    def counting_read(self, start, end):
        data = read(self, start, end)
        seen["read", *kind(self.url)] += self.is_published
        seen["bytes", *kind(self.url)] += self.is_published * len(data)
        return data

    def counting_replace(source, target):
        seen["file", kind(str(target))[0]] += 1
        replace(source, target)

    monkeypatch.setattr(storage.RangeReader, "__init__", counting_open)
    monkeypatch.setattr(storage.RangeReader, "read", counting_read)
    monkeypatch.setattr(files.os, "replace", counting_replace)
    return seen


def inline(job):
    return lambda calls, *_: [(call, call.function(job, *call.args)) for call in calls]


def total(seen, what, ending):
    return sum(number for (did, *rest), number in seen.items() if did == what and rest[-1] == ending)


@pytest.mark.parametrize(("parts", "buckets"), [(3, 4), (16, 16), (40, 8)])
def test_the_join_opens_reads_and_writes_what_the_formulae_say(tmp_path, monkeypatch, counted, parts, buckets):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 64)
    plain = {"sources": [{"kind": "warc", "paths": ["a.warc"]}], "output": str(tmp_path), "buckets": buckets}
    names = [f"{number:03d}" for number in range(parts)]
    job = make_job(CurateSettings.model_validate(plain), 0, names, Cut.even(buckets))
    for name in names:
        with PoolSink(job.pool, name) as sink:
            for row in range(200):
                url = f"http://site.test/{name}/{row}.png"
                sink.occurrence(url=url, text="a cat", source="alt")
                sink.image(url=url, body=picture(0, side=8))
            sink.finish({})
    assert sum(number for (did, *_), number in counted.items() if did == "file") == costs.ingest(parts).files

    tables = [path for path in (tmp_path / "_pool/parts").glob("*/*.parquet")]
    row_groups = sum(pq.read_metadata(path).num_row_groups for path in tables)
    groups = len(runs.groups_of(names))
    kept, remove = {}, storage.remove

    def keeping(url, recursive=False):
        for path in (tmp_path / "_work").glob("runs-*/*.pack"):
            kept[path.name] = path.stat().st_size
        remove(url, recursive)

    monkeypatch.setattr(joined.storage, "remove", keeping)
    counted.clear()
    joined.make(job, {name: {} for name in names}, inline(job))

    merge = costs.merge(parts, groups, row_groups, sum(path.stat().st_size for path in tables))
    assert counted["file", "runs"] == merge.files == 3 * groups
    assert total(counted, "open", ".parquet") == merge.opens == 2 * parts
    assert total(counted, "read", ".parquet") == merge.reads
    assert sum(path.stat().st_size for path in tables) < total(counted, "bytes", ".parquet") <= merge.bytes

    join = costs.join(buckets, groups, 2 * groups * buckets, sum(kept.values()))
    assert counted["file", job.joined_digest] == join.files == 2 * buckets
    assert total(counted, "open", ".pack") == join.opens == 2 * groups * buckets
    assert total(counted, "read", ".pack") == join.reads
    assert total(counted, "bytes", ".pack") == join.bytes

    counted.clear()
    joined.make(job, {name: {} for name in names}, inline(job))
    assert total(counted, "open", ".parquet") + total(counted, "open", ".pack") + counted["file", "runs"] == 0
