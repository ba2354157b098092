"""Published tables are known by their columns; tables that are wrong are told in words, rows that are wrong counted."""

import gzip
import io
import json
import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources import SOURCES
from pipeline.errors import DataError, RecipeError
from tests.curation.sources.table.test_table import read
from tests.helpers.ingested import parts_of
from tests.helpers.places import shared_files
from tests.helpers.warcs import framed

U = "http://e.org/1.png"
UID = "00a1b2c3d4e5f60718293a4b5c6d7e8f"
PUBLISHED = {  # name -> (row, captions, uid or "", fields that pass through)
    "LAION-400M": (
        {
            "SAMPLE_ID": 3,
            "URL": U,
            "TEXT": "a",
            "HEIGHT": 9,
            "WIDTH": 8,
            "LICENSE": "?",
            "NSFW": "UNLIKELY",
            "similarity": 0.5,
        },
        {"caption": ["a"]},
        "",
        "SAMPLE_ID HEIGHT WIDTH LICENSE NSFW similarity",
    ),
    "LAION-COCO": (
        {
            "URL": U,
            "TEXT": "t",
            "top_caption": "a",
            "all_captions": ["b", "c"],
            "all_similarities": [0.5, 0.25],
            "hash": -5,
            "punsafe": 0.0,
            "pwatermark": 0.125,
        },
        {"caption": ["t"], "top_caption": ["a"], "all_captions": ["b", "c"]},
        "",
        "all_similarities hash punsafe pwatermark",
    ),
    "DataComp": (
        {
            "uid": UID,
            "url": U,
            "text": "a",
            "original_width": 3,
            "original_height": 4,
            "clip_b32_similarity_score": 0.25,
            "clip_l14_similarity_score": 0.5,
            "face_bboxes": [[0.5, 0.5, 0.75, 1.0]],
            "sha256": "ab" * 32,
        },
        {"caption": ["a"]},
        UID,
        "original_width original_height clip_b32_similarity_score clip_l14_similarity_score face_bboxes sha256",
    ),
    "COYO": (
        {
            "id": 2**61,
            "url": U,
            "text": "a",
            "width": 1,
            "height": 2,
            "image_phash": "f0",
            "text_length": 1,
            "num_faces": 0,
            "clip_similarity_vitb32": 0.25,
            "nsfw_score_opennsfw2": 0.5,
            "watermark_score": 0.25,
            "aesthetic_score_laion_v2": 4.5,
        },
        {"caption": ["a"]},
        "",
        "id width height image_phash text_length num_faces clip_similarity_vitb32 nsfw_score_opennsfw2 watermark_score "
        "aesthetic_score_laion_v2",
    ),
}


def put(folder, rows, schema=None, name="a.parquet"):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / name)
    return folder / name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables_are_known_by_their_columns(tmp_path, name):
    row, captions, uid, fields = PUBLISHED[name]
    rows, counts = read(tmp_path, put(tmp_path, [row]))
    said: dict[str, list[str]] = {}
    for one in rows:
        said.setdefault(one["source"], []).append(one["text"])
    assert {source: sorted(texts) for source, texts in said.items()} == captions
    assert {one["url"] for one in rows} == {U} and counts["records"] == 1
    assert not uid or {one["uid"] for one in rows} == {uid}
    assert json.loads(rows[0]["extra"]) == {name: row[name] for name in fields.split()}


def test_cc12m_has_no_header_and_many_rows(tmp_path):
    lines = [f'https://e.org/{at}.jpg\tAn image of <PERSON> number {at}, "so" to say' for at in range(300)]
    (tmp_path / "cc12m.tsv").write_text("\n".join(lines))
    rows, counts = read(tmp_path, tmp_path / "cc12m.tsv")
    assert counts["records"] == counts["mentions"] == 300
    assert Counter(row["text"] for row in rows) == Counter(line.split("\t")[1] for line in lines)


@pytest.mark.parametrize("ranges", [None, 20_000, 90_000])
def test_all_rows_of_the_real_table_are_read(tmp_path, ranges):
    """Against pyarrow alone: the urls of this table are canonical as they stand."""
    (path,) = shared_files("crawl/urls.parquet")
    table = pq.read_table(path)
    rows, counts = read(tmp_path, path, ranges)
    assert counts["records"] == counts["mentions"] == table.num_rows == 8322
    told = Counter((url, text if text.strip() else "") for url, text in zip(*table.to_pydict().values(), strict=True))
    assert Counter((row["url"], row["text"]) for row in rows) == told


# -- tables that are wrong


def look(path, **settings):
    source = SOURCES["table"](paths=[str(path)], **settings)
    return source.look(source.inputs()[0], "curate.sources.0")


WRONG = {  # what a user may give -> (bytes of a.csv, settings, words of the error)
    "no captions": (
        b"url,score\nhttp://e.org/1.png,1\n",
        {},
        r"columns 'url', 'score'; a caption column \(.*captions=\[\]",
    ),
    "no urls": (b"link,caption\nhttp://e.org/1.png,a\n", {}, r"columns 'link', 'caption'; one column of urls"),
    "two columns of urls": (
        b"url,image_url,caption\nhttp://e.org/1,http://e.org/2,a\n",
        {},
        "2 columns of urls, 'url', 'image_url'",
    ),
    "a column twice": (b"url,caption,caption\nhttp://e.org/1,a,b\n", {}, "the column 'caption' twice"),
    "a setting that names none": (
        b"url,caption\nhttp://e.org/1,a\n",
        {"captions": "text"},
        "also 'text', which `captions` names",
    ),
    "another delimiter": (b"url;caption\nhttp://e.org/1;a\n", {}, "url;caption"),
    "no header and two urls": (b"http://e.org/1,http://e.org/2\n", {}, "no header, and 2 columns of urls"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_does_not_tell_is_refused_before_any_work(tmp_path, name):
    data, settings, words = WRONG[name]
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(RecipeError, match=words) as told:
        look(tmp_path / "a.csv", **settings)
    assert "hint: set curate.sources.0." in str(told.value) and "a.csv" in str(told.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.parquet", b"PAR7 and no more", "not readable as parquet"),
        ("a.parquet", b"", "not readable as parquet"),
        ("a.csv.gz", b"url,caption\n", "no sound gzip stream"),
        ("a.jsonl.zst", b"url,caption\n", "no sound zstd stream"),
    ],
)
def test_what_is_not_what_its_name_says_is_named(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}.*{words}"):
        look(tmp_path / name)


def test_a_parquet_file_cut_loses_its_rows_and_a_flipped_one_those_of_a_group(tmp_path, caplog):
    rows = [{"url": f"http://e.org/{at}.png", "caption": f"text {at} of it"} for at in range(500)]
    file = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, file, row_group_size=100, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(file.getvalue())
    (tmp_path / "cut.parquet").write_bytes(data[:-100])
    look(tmp_path / "cut.parquet")
    for step in (None, 1000):  # also in ranges, of which it then has several
        found, counts = read(tmp_path / f"cut-{step}", tmp_path / "cut.parquet", step)
        assert found == [] and counts == {"records": 1, "mentions": 0, "bad_records:damaged_rows": 1}
    assert "cut.parquet, the footer: not readable" in caplog.text
    data[data.index(b"text 250 of")] ^= 1
    (tmp_path / "flip.parquet").write_bytes(data)
    found, counts = read(tmp_path, tmp_path / "flip.parquet")
    kept = {int(row["text"].split()[1]) for row in found}
    assert kept >= {*range(200), *range(300, 500)} and 250 not in kept
    assert counts == {"records": 500, "mentions": len(kept), "bad_records:damaged_rows": 500 - len(kept)}
    assert "flip.parquet, row group 2: not readable" in caplog.text


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_packed_text_table_cut_short_keeps_the_rows_before_and_a_flipped_one_is_named(tmp_path, caplog, packed, kind):
    """Behind a flipped bit anything may be unpacked, and be taken for rows."""
    rng = random.Random(0)
    rows = [(f"http://e.org/{at}.png", f"text {at} {rng.randbytes(20).hex()}") for at in range(3000)]
    if kind == "csv":
        lines = ["url,caption\n", *(f"{url},{caption}\n" for url, caption in rows)]
    else:
        lines = [json.dumps({"url": url, "caption": caption}) + "\n" for url, caption in rows]
    pack = gzip.compress if packed == ".gz" else framed
    data = bytearray(b"".join(pack("".join(lines[at : at + 250]).encode()) for at in range(0, len(lines), 250)))
    middle, name = len(data) // 2, f"a.{kind}{packed}"
    (tmp_path / name).write_bytes(data[:middle])
    found, counts = read(tmp_path, tmp_path / name)
    kept = sorted(int(row["text"].split()[1]) for row in found)
    assert kept == list(range(len(kept))) and 1200 < len(kept) < 1800
    assert counts == {"records": len(kept) + 1, "mentions": len(kept), "bad_records:damaged_rows": 1}
    assert f"{name} at unpacked byte" in caplog.text
    data[middle : middle + 40] = bytes(40)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name} at unpacked byte"):
        read(tmp_path / "flipped", tmp_path / name)


def test_values_of_wrong_kinds_are_counted_and_odd_ones_pass_through_as_json_has_them(tmp_path):
    schema = pa.schema(
        {
            "url": pa.binary(),
            "caption": pa.list_(pa.string()),
            "d": pa.decimal128(5, 2),
            "f": pa.float64(),
            "t": pa.timestamp("us"),
            "nested": pa.struct({"a": pa.list_(pa.int32())}),
            "b": pa.binary(),
        }
    )
    fine = {"url": U.encode(), "caption": ["x", None, ""], "f": float("nan"), "nested": {"a": [1, None]}, "b": b"\xff"}
    rows = [
        fine,
        {"url": b"\xff\xfe", "caption": ["y"]},
        {"url": None},
        {"url": b"http://e.org/2.png", "caption": None},
    ]
    found, counts = read(tmp_path, put(tmp_path, rows, schema))
    assert sorted(row["text"] for row in found) == ["", "x"]
    assert {row["extra"] for row in found} == {'{"nested": {"a": [1, null]}}', ""}
    assert counts == {"records": 4, "mentions": 2, "bad_records:no_url": 2}
    numbers, counts = read(tmp_path / "n", put(tmp_path, [{"url": 7, "caption": 8}], name="n.parquet"))
    assert numbers == [] and counts == {"records": 1, "mentions": 0, "bad_records:bad_url": 1}


def test_a_value_that_cannot_be_had_costs_its_row_only_where_it_is_needed(tmp_path):
    """A time behind the year 9999, and bytes in a column of texts."""
    late, raw = pa.array([0, 2**62, 0], pa.timestamp("ms")), pa.array([b"x", b"y", b"\xff"]).view(pa.string())
    url = [f"http://e.org/{at}.png" for at in range(3)]
    pq.write_table(pa.table({"url": url, "caption": ["a", "b", "c"], "time": late, "raw": raw}), tmp_path / "a.parquet")
    found, counts = read(tmp_path, tmp_path / "a.parquet")
    extra = {row["text"]: json.loads(row["extra"]) for row in found}
    assert extra == {
        "a": {"time": "1970-01-01T00:00:00", "raw": "x"}, "b": {"raw": "y"}, "c": {"time": "1970-01-01T00:00:00"}
    }  # fmt: skip
    assert counts == {"records": 3, "mentions": 3, "odd_values": 2}
    pq.write_table(pa.table({"url": url, "caption": raw, "time": late}), tmp_path / "b.parquet")
    found, counts = read(tmp_path / "b", tmp_path / "b.parquet")
    assert sorted(row["text"] for row in found) == ["x", "y"]
    assert counts == {"records": 3, "mentions": 2, "odd_values": 1, "bad_records:bad_utf8": 1}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_field_of_ten_megabytes_costs_its_row(tmp_path, name):
    rows = [
        {"url": f"http://e.org/{at}.png", "caption": "x", "more": "y" * (10 << 20 if at == 1 else 1)} for at in range(3)
    ]
    if name == "a.parquet":
        put(tmp_path, rows)
    elif name == "a.jsonl":
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = ["url,caption,more", *(",".join(row.values()) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines))
    found, counts = read(tmp_path, tmp_path / name)
    assert sorted(row["url"][-5] for row in found) == ["0", "2"]
    assert counts == {"records": 3, "mentions": 2, "bad_records:row_too_long": 1}


def test_globs_and_lists_of_tables_are_each_file_once(tmp_path):
    for at in range(3):
        put(tmp_path, [{"url": f"http://e.org/{at}.png", "caption": "x"}], name=f"{at}.parquet")
    (tmp_path / "notes.txt").write_text("no table")
    source = SOURCES["table"](paths=[f"{tmp_path}/[01].parquet", str(tmp_path), f"{tmp_path}/2.parquet"])
    assert [part.path[-9:] for part in sorted(parts_of(source), key=lambda part: part.path)] == [
        "0.parquet", "1.parquet", "2.parquet",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match=r"nothing at .*/9\*\.parquet; a file, or a folder or glob with \.parquet"):
        SOURCES["table"](paths=[f"{tmp_path}/9*.parquet"]).inputs("curate.sources.0")
