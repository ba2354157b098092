"""Images in parquet: img2dataset's `parquet` output, Hugging Face's columns, rows without one, bytes that are none."""

import hashlib
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.sources import SOURCES
from curation.sources.table import parquet
from curation.sources.table.images import Image, columns_of, images_of
from curation.table.uids import uid_of_image, uid_of_url
from pipeline.errors import DataError, RecipeError
from tests.helpers.ingested import Ingested
from tests.helpers.small_crawl import picture

BODIES = [picture(number, side=16) for number in range(6)]
KINDS = {
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "dictionary": pa.dictionary(pa.int32(), pa.binary()),
}


def sha256(body):
    return hashlib.sha256(body).hexdigest()


# -- of one column


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_struct", [False, True])
def test_a_row_without_bytes_has_no_image_and_a_large_one_is_told_by_its_hash(kind, is_struct):
    values = [b"abc", None, b"", b"x" * 5, b"abc", b"y" * 4]
    expected = [Image(b"abc"), None, None, Image(None, sha256(b"x" * 5)), Image(b"abc"), Image(b"y" * 4)]
    column = (
        pa.array(values, pa.binary()).cast(KINDS[kind])
        if kind != "dictionary"
        else pa.array(values, pa.binary()).dictionary_encode()
    )
    if is_struct:
        nulls = pa.array([False] * 5 + [True])
        column = pa.StructArray.from_arrays([pa.array(["p"] * 6), column], ["path", "bytes"], mask=nulls)
        expected = [*expected[:5], None]
    assert images_of(column, 4) == expected
    assert images_of(column.slice(2, 3), 4) == expected[2:5]
    assert [None if each is None else each.digest() for each in expected[:4]] == [
        sha256(b"abc"),
        None,
        None,
        sha256(b"x" * 5),
    ]


def test_only_bytes_may_be_images():
    fields = {"a": pa.binary(), "b": pa.string(), "c": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
              "d": pa.struct({"bytes": pa.string()}), "e": pa.struct({"path": pa.binary()}), "f": pa.list_(pa.binary()),
              "g": pa.dictionary(pa.int32(), pa.binary()), "h": pa.dictionary(pa.int32(), pa.string())}  # fmt: skip
    assert columns_of(pa.schema(fields)) == ["a", "c", "g"]


# -- files as tools write them


def read(folder, table, **more):
    out = pa.BufferOutputStream()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), out, row_group_size=4)
    return Ingested(folder, out.getvalue().to_pybytes(), "a.parquet", "table", **more)


def pairs(seen):
    """uid -> (url, sha256 or None, [texts], extra), as the pool has them."""
    found = {
        row["uid"]: (row["url"], row["sha256"], [], [])
        for row in pq.read_table(f"{seen.pool}/parts/{seen.part}/images.parquet").to_pylist()
    }
    for row in seen.occurrences:
        known = found.setdefault(row["uid"], (row["url"], None, [], []))
        known[2].append(row["text"])
        known[3].append(json.loads(row["extra"] or "{}"))
    return found


@pytest.mark.parametrize("encoded", ["jpg", "png", "webp"])
def test_what_img2dataset_writes_as_parquet_is_read(tmp_path, encoded):
    from img2dataset.writer import ParquetSampleWriter

    names = (
        "url caption key status error_message width height original_width original_height exif sha256 license".split()
    )
    schema = pa.schema(
        [pa.field(name, pa.int32() if name.endswith(("width", "height")) else pa.string()) for name in names]
    )
    (tmp_path / "made").mkdir()
    writer = ParquetSampleWriter(0, str(tmp_path / "made"), True, 5, schema, encoded)
    told = [sha256(BODIES[0]), sha256(b"before it was resized"), None]
    for at, body in enumerate([BODIES[0], BODIES[1], None]):
        meta = {"url": f"http://e.org/{at}.png", "caption": f"a cat {at}", "key": f"00000000{at}", "exif": "{}",
                "status": "success" if body else "failed_to_download", "error_message": None if body else "404",
                "width": 16, "height": 16, "original_width": 99, "original_height": 98, "sha256": told[at],
                "license": "CC0"}  # fmt: skip
        writer.write(body, meta["key"], meta["caption"], meta)
    writer.close()

    seen = Ingested(tmp_path, (tmp_path / "made/00000.parquet").read_bytes(), "a.parquet", "table")
    about = {"original_width": 99, "original_height": 98, "license": "CC0"}
    expected = {
        0: (sha256(BODIES[0]), about), 1: (sha256(BODIES[1]), {**about, "original_sha256": told[1]}), 2: (None, about),
    }  # fmt: skip
    assert pairs(seen) == {
        uid_of_url(f"http://e.org/{at}.png"): (f"http://e.org/{at}.png", sha, [f"a cat {at}"], [extra])
        for at, (sha, extra) in expected.items()
    }
    assert seen.counts["images"] == 2 and seen.counts["records"] == seen.counts["mentions"] == 3
    assert [seen.body(f"http://e.org/{at}.png") for at in range(2)] == BODIES[:2]


def test_what_hugging_face_writes_needs_no_url_and_is_named_by_its_bytes(tmp_path):
    images = [{"bytes": body, "path": f"{at}.png"} for at, body in enumerate(BODIES)] + [
        {"bytes": None, "path": "x"},
        None,
    ]
    texts = ["a dog", None, "a fish", "a bird", "a bee", "an ant", "lost", "lost, too"]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = {"image": pa.array(images, kind), "text": texts, "label": list(range(8))}
    seen = read(tmp_path, table)
    assert pairs(seen) == {
        uid_of_image(sha256(body)): ("", sha256(body), [table["text"][at] or ""], [{"label": at}])
        for at, body in enumerate(BODIES)
    }
    assert seen.counts["images"] == 6 and seen.bad() == {"bad_records:image_missing": 2}


def test_bytes_that_are_no_image_or_too_many_leave_the_pair_and_a_bad_url_the_image(tmp_path):
    big = BODIES[2] + b"\0" * 5000
    table = {
        "url": ["http://e.org/1", "http://e.org/2", "ftp://e.org/3", "", "ftp://e.org/5", None],
        "caption": list("abcdef"),
        "png": [b"<html>", big, BODIES[0], BODIES[1], None, big],
    }
    seen = read(tmp_path, table, max_image_bytes=4000)
    found = {"a": ("http://e.org/1", None), "b": ("http://e.org/2", None), "f": ("", None)}
    found |= {"c": ("", sha256(BODIES[0])), "d": ("", sha256(BODIES[1]))}
    assert {texts[0]: (url, sha) for url, sha, texts, _ in pairs(seen).values()} == found
    assert uid_of_image(sha256(big)) in pairs(seen)
    expected = {"bodies:not_image": 1, "bodies:too_big": 2, "mentions:bad_scheme": 1, "records:bad_scheme": 1}
    assert seen.bad() == {f"bad_{name}": count for name, count in expected.items()} and seen.counts["images"] == 2


def test_images_do_not_make_a_row_too_long_and_other_columns_do(tmp_path):
    table = {"caption": ["a", "b", "c" * (5 << 20)], "url": [f"http://e.org/{at}" for at in range(3)]}
    table["image"] = [BODIES[0] + b"\0" * (6 << 20), BODIES[1], BODIES[2]]
    seen = read(tmp_path, table | {"more": ["x" * (70 << 20)] + [""] * 2})
    assert seen.bad() == {"bad_records:row_too_long": 2} and [row["text"] for row in seen.occurrences] == ["b"]
    seen = read(tmp_path / "again", table | {"caption": ["a", "b", "c"]})
    assert seen.bad() == {} and seen.counts["images"] == 3


def test_a_row_that_is_odd_takes_the_image_of_no_other(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    seen = read(
        tmp_path, pa.table({"caption": pa.array(["a", "b", "c"]), "page_url": bad, "png": BODIES[:3], "more": bad})
    )
    by_text = {texts[0]: sha for _, sha, texts, _ in pairs(seen).values()}
    assert by_text == {name: sha256(body) for name, body in zip("abc", BODIES, strict=False)}
    seen = read(tmp_path / "again", pa.table({"caption": bad, "png": BODIES[:3]}))
    assert {texts[0]: sha for _, sha, texts, _ in pairs(seen).values()} == {
        "a": sha256(BODIES[0]),
        "c": sha256(BODIES[2]),
    }
    assert seen.bad() == {"bad_records:bad_utf8": 1}


def test_a_table_of_images_alone_is_read(tmp_path):
    seen = read(tmp_path, {"image": BODIES}, captions=[])
    assert {sha for _, sha, _, _ in pairs(seen).values()} == {sha256(body) for body in BODIES}


def test_texts_called_image_are_no_images(tmp_path):
    seen = read(tmp_path, {"url": ["http://e.org/1"], "caption": ["a"], "image": ["iVBORw0KGgo="]})
    assert "images" not in seen.counts and pairs(seen).popitem()[1][3] == [{"image": "iVBORw0KGgo="}]


@pytest.mark.parametrize(
    ("columns", "more", "words"),
    [
        (["url", "caption"], {"image": "jpg"}, "'jpg' in a parquet table, of bytes"),
        (["caption", "text:jpg"], {"image": "text"}, "'text' in a parquet table, of bytes"),
        (["caption", "jpg", "png"], {}, "2 columns of images, 'jpg', 'png'"),
        (["caption", "jpg"], {"image": ""}, "one column of urls"),
        (["jpg"], {}, "a caption column"),
    ],
)
def test_columns_that_do_not_tell_are_refused_before_any_work(tmp_path, columns, more, words):
    table = {name.partition(":")[0]: [BODIES[0]] if name in ("jpg", "png") else ["a"] for name in columns}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    source = SOURCES["table"](paths=[str(tmp_path / "a.parquet")], **more)
    with pytest.raises(RecipeError) as error:
        source.look(source.inputs()[0], "curate.sources.0")
    assert words in str(error.value)


def test_a_text_table_has_no_images(tmp_path):
    (tmp_path / "a.csv").write_text("url,caption,jpg\nhttp://e.org/1,a,xx\n")
    source = SOURCES["table"](paths=[str(tmp_path / "a.csv")], image="jpg")
    with pytest.raises(RecipeError, match="in a parquet table"):
        source.look(source.inputs()[0], "curate.sources.0")


@pytest.mark.parametrize("step", [200, 5000, None])
def test_ranges_are_together_what_the_whole_is(tmp_path, step):
    rows = [{"caption": f"a cat {at}", "png": picture(at, side=16)} for at in range(30)]
    seen = read(tmp_path, pa.Table.from_pylist(rows), range_bytes=step)
    whole = read(tmp_path / "whole", pa.Table.from_pylist(rows))
    assert pairs(seen) == pairs(whole) and len(pairs(whole)) == 30


def test_damage_costs_its_row_group(tmp_path):
    rows = [{"caption": f"a cat {at}", "png": random.Random(at).randbytes(400)} for at in range(12)]
    rows = [{**row, "png": BODIES[0][:8] + row["png"]} for row in rows]
    out = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist(rows),
        out,
        row_group_size=4,
        write_page_checksum=True,
        use_dictionary=False,
        compression="none",
    )
    data = bytearray(out.getvalue().to_pybytes())
    at = bytes(data).index(rows[5]["png"])
    data[at + 99] ^= 255
    seen = Ingested(tmp_path, bytes(data), "a.parquet", "table")
    assert seen.counts["images"] == 8 and seen.bad() == {"bad_records:damaged_rows": 4}


def test_pictures_are_held_a_few_at_a_time(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(parquet, "images_of", lambda column, most: taken.append(len(column)) or images_of(column, most))
    rows = [{"caption": "a cat", "png": BODIES[at % 6]} for at in range(100)]
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), out)
    Ingested(tmp_path, out.getvalue().to_pybytes(), "a.parquet", "table")
    assert sum(taken) == 100 and max(taken) == 16


# -- to shards


def test_a_curation_of_such_tables_downloads_nothing_and_writes_the_same_bytes_however_they_are_cut(tmp_path):
    rows = [{"url": f"http://127.0.0.1:9/{at}.png", "caption": f"a picture of cat {at}", "png": picture(at, side=32),
             "width": 1, "score": at / 8} for at in range(24)]  # fmt: skip
    digests = set()
    for name, cut in (("one", 24), ("many", 5)):
        (tmp_path / name).mkdir()
        for number, at in enumerate(range(0, 24, cut)):
            pq.write_table(pa.Table.from_pylist(rows[at : at + cut]), tmp_path / name / f"{number}.parquet")
        stages = [{"kind": "image_decode"}, {"kind": "threshold", "column": "extra.score", "min": 1.0}]
        plain = {"sources": [{"kind": "table", "paths": [str(tmp_path / name)]}], "stages": stages,
                 "output": str(tmp_path / f"{name}-out"), "ray": {"address": "inline"}}  # fmt: skip
        manifest = curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
        assert manifest.num_pairs == 16
        digests.add(tuple(shard.sha256 for shard in manifest.shards))
    assert len(digests) == 1


def test_a_table_in_which_no_row_has_anything_to_use_is_an_error(tmp_path):
    pq.write_table(
        pa.table({"image": pa.array([None, None], pa.binary()), "caption": ["a", "b"]}), tmp_path / "a.parquet"
    )
    plain = {"sources": [{"kind": "table", "paths": [str(tmp_path / "a.parquet")]}], "output": str(tmp_path / "out"),
             "ray": {"address": "inline"}}  # fmt: skip
    with pytest.raises(DataError, match="image_missing 2"):
        curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
