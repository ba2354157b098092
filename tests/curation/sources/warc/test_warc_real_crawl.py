"""The WARC source on a real crawl, against FastWARC and a list of what each url is. Skips where it is absent."""

import json
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from fastwarc import ArchiveIterator

from curation.pool.store import PoolSink
from curation.sources import SOURCES
from curation.sources.warc.records import Gap, Record, read_records
from tests.helpers.ingested import parts_of
from tests.helpers.places import shared_files


def real_files() -> list[Path]:
    return shared_files("crawl/*.warc.gz")


def test_records_of_the_real_crawl_are_those_that_fastwarc_reads():
    path = real_files()[3]
    read = list(read_records(str(path), 20 << 20))
    ours = [each for each in read if isinstance(each, Record)]
    gaps = [each for each in read if isinstance(each, Gap)]
    theirs = [
        (dict(one.headers)["WARC-Record-ID"], one.reader.read())
        for one in ArchiveIterator(str(path), parse_http=False, fsspec_args=False)
    ]
    assert gaps == [] and [(one.headers["warc-record-id"], one.block) for one in ours] == theirs


def test_every_image_of_the_real_crawl_has_its_answer_and_its_text(tmp_path):
    files = real_files()
    source = SOURCES["warc"](paths=[str(path) for path in files])
    total, found, texts = Counter(), {}, {}
    for part in parts_of(source):
        with PoolSink(str(tmp_path), part.id) as sink:
            counts = source.ingest(part, sink)
            sink.finish(counts)
        total.update(counts)
    for folder in (tmp_path / "parts").iterdir():
        for row in pq.read_table(folder / "images.parquet").to_pylist():
            found[row["url"]] = row
        for row in pq.read_table(folder / "occurrences.parquet").to_pylist():
            texts.setdefault(row["url"], set()).add(row["text"])
    assert total["records"] == 28130 and total["responses"] == 14061 and total["pages"] == 3756
    assert not any(name.startswith("bad_records") for name in total)
    outcome: dict[str, Counter] = {}
    for line in shared_files("crawl/truth.jsonl")[0].open():
        row = json.loads(line)
        answer = found[row["url"]]
        state = "bytes" if answer["size"] else f"status {answer['status']}"
        outcome.setdefault(row["kind"], Counter())[urlsplit(row["url"]).netloc, state] += 1
        assert row["alt"] in texts[row["url"]], row
    assert outcome.pop("missing") == {("blog.test", "status 404"): 62}
    assert outcome.pop("not_image") == {("blog.test", "status 200"): 78}
    assert outcome.pop("clean") == {("gallery.test", "bytes"): 5611}
    assert {state for counts in outcome.values() for _, state in counts} == {"bytes"}
    assert sum(sum(counts.values()) for counts in outcome.values()) == 2571
