"""Tables of urls and texts: columns known by their names, and the same rows for every cut."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.pool.store import PoolSink, part_folder
from curation.sources import SOURCES
from pipeline.errors import DataError, RecipeError
from tests.helpers.ingested import parts_of

URL = "http://e.org/{}.png"


def read(folder, path, ranges=None, **settings):
    """(rows, counts) of one file, whole or in `ranges` that follow each other as the runner has them."""
    source = SOURCES["table"](paths=[str(path)], **settings)
    (part,) = parts_of(source)
    cuts = [] if ranges is None else source.cuts(part, ranges)
    place, rows, total = (0,), [], {}
    for at, stop in enumerate([*cuts, part.bytes]):
        if place[0] >= stop and stop != part.bytes:
            continue
        with PoolSink(str(folder / f"pool-{ranges}"), f"{part.id}-{at}") as sink:
            counts, place = source.ingest_range(part, place, stop, sink)
            sink.finish(counts)
        rows += pq.read_table(
            f"{part_folder(str(folder / f'pool-{ranges}'), f'{part.id}-{at}')}/occurrences.parquet"
        ).to_pylist()
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return sorted(rows, key=lambda row: sorted(row.items())), total


@pytest.mark.parametrize(
    ("text", "name", "texts", "extra"),
    [
        ("URL,TEXT,similarity\nhttp://e.org/1.png,a,0.5\n", "a.csv", ["a"], {"similarity": 0.5}),  # LAION-400M
        ("url\tcaption\nhttp://e.org/1.png\ta\n", "a.tsv", ["a"], {}),
        ("http://e.org/1.png\ta\n", "a.tsv", ["a"], {}),  # CC12M
        ("a\thttp://e.org/1.png\n", "a.tsv", ["a"], {}),  # CC3M
        (
            json.dumps({"url": URL.format(1), "top_caption": "a", "all_captions": ["b", "c"], "n": 2**62}) + "\n",
            "a.jsonl",
            ["a", "b", "c"],
            {"n": 2**62},
        ),
    ],
)
def test_columns_are_known_by_their_names(tmp_path, text, name, texts, extra):
    (tmp_path / name).write_text(text)
    rows, counts = read(tmp_path, tmp_path / name)
    assert sorted(row["text"] for row in rows) == texts and counts["records"] == 1
    assert {row["url"] for row in rows} == {URL.format(1)}
    assert json.loads(rows[0]["extra"] or "{}") == extra


def test_ranges_are_together_what_the_whole_is(tmp_path):
    body = "".join(f'http://e.org/{at}.png,"line\n{at}, ""x""",{at}\n' for at in range(60))
    (tmp_path / "a.csv").write_text("url,caption,n\n" + body)
    table = {"url": [URL.format(at) for at in range(60)], "caption": [str(at) for at in range(60)]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=7)
    for name in ("a.csv", "a.parquet"):
        whole = read(tmp_path / name.replace(".", "-"), tmp_path / name)
        assert whole[1]["records"] == 60 and len({row["url"] for row in whole[0]}) == 60
        for step in (50, 300, 1000):
            assert read(tmp_path / name.replace(".", "-"), tmp_path / name, step) == whole, (name, step)


def test_a_range_that_seems_to_begin_inside_quotes_raises_nothing(tmp_path):
    body = "".join(f'http://e.org/{at}.png,"line\n{at}"\n' for at in range(60))
    (tmp_path / "a.csv").write_text("url,caption\n" + body)
    source = SOURCES["table"](paths=[str(tmp_path / "a.csv")])
    (part,) = parts_of(source)
    for start in range(1, part.bytes, 7):
        place = source.place_from(part, start, part.bytes)
        if place is not None:
            with PoolSink(str(tmp_path / "pool"), f"{start:016x}") as sink:
                source.ingest_range(part, place, part.bytes, sink)


def test_bad_rows_are_counted(tmp_path):
    rows = [b"url,caption,uid", b"http://e.org/1.png,a,", b",b,", b"ftp://x/1,c,", b"http://e.org/2.png,d,zz"]
    rows += [b"http://e.org/3.png", b"http://e.org/4.png,\xff,", b"http://e.org/5.png,e," + b"0" * 32]
    (tmp_path / "a.csv").write_bytes(b"\r\n".join(rows))
    found, counts = read(tmp_path, tmp_path / "a.csv")
    assert sorted(row["text"] for row in found) == ["a", "e"]
    reasons = ("no_url", "bad_scheme", "bad_uid", "few_fields", "bad_utf8")
    assert counts == {"records": 7, "mentions": 2} | {f"bad_records:{reason}": 1 for reason in reasons}


def test_columns_that_do_not_tell_are_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("url;caption\nhttp://e.org/1.png;a\n")
    source = SOURCES["table"](paths=[str(tmp_path / "a.csv")])
    with pytest.raises(RecipeError, match="url;caption"):
        source.look(source.inputs()[0], "curate.sources.0")


def test_packed_tables_are_read_and_one_without_a_row_before_its_cut_is_named(tmp_path):
    data = gzip.compress(b"url,caption\n" + b"".join(b"http://e.org/%d.png,a\n" % at for at in range(5000)))
    (tmp_path / "a.csv.gz").write_bytes(data)
    assert read(tmp_path, tmp_path / "a.csv.gz")[1]["records"] == 5000
    (tmp_path / "a.csv.gz").write_bytes(data[:20])
    with pytest.raises(DataError, match="a.csv.gz"):
        read(tmp_path / "cut", tmp_path / "a.csv.gz")
