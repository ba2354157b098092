"""Tars as different writers lay them out: suffixes, names, captions in members, DataComp, tables beside them."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources.shards.shards import ShardsSource
from curation.table.uids import uid_of_image, uid_of_url
from pipeline.errors import DataError
from tests.curation.sources.shards.test_shards import Ingested, sample, tar
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import png


def texts(got: Ingested) -> set[str]:
    return {text for captions in got.captions.values() for _, text in captions}


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("jpg", "JPEG"), ("JPG", "JPEG"), ("jpeg", "JPEG"), ("Jpeg", "JPEG"), ("png", "PNG"), ("PNG", "PNG")]
    + [("webp", "WEBP"), ("WebP", "WEBP"), ("gif", "GIF"), ("GIF", "GIF"), ("jpg", "WEBP"), ("png", "GIF")],
)  # fmt: skip
def test_an_image_is_what_its_bytes_are_under_any_suffix_of_images(tmp_path, suffix, kind):
    got = Ingested(tmp_path, tar((f"0.{suffix}", picture(1, kind)), ("0.TXT", b"a cat")))
    (row,) = got.images.values()
    assert row["ext"] == {"JPEG": "jpg"}.get(kind, kind.lower()) and texts(got) == {"a cat"}
    assert got.body(row["uid"]) == picture(1, kind)


@pytest.mark.parametrize(
    "names",
    [("txt",), ("caption",), ("text",)]
    + [("0.txt", "1.txt", "10.txt"), ("txt", "1.txt"), ("txt0", "txt1"), ("txt", "caption")]
    + [("caption_0.txt", "caption_1.txt"), ("caption.txt",), ("TXT", "1.Txt"), ("text1", "text2")],
)  # fmt: skip
def test_every_text_member_of_a_sample_is_a_caption(tmp_path, names):
    members = [(f"a/b/7.{name}", f"words {name}".encode()) for name in names]
    others = [("a/b/7.cls", b"3"), ("a/b/7.seg.png", b"x"), ("a/b/7.notes.md", b"no"), ("a/b/7.txt.bak", b"no")]
    got = Ingested(tmp_path, tar(("a/b/7.jpg", png()), *members, *others))
    assert texts(got) == {f"words {name}" for name in names}
    assert got.counts == {"records": 1, "images": 1, "ignored_members": len(others)}


def test_a_list_of_captions_in_the_json_speaks_for_all_text_members(tmp_path):
    """A writer's .txt is one of them, or a default."""
    members = [("7.jpg", png()), ("7.txt", b"one"), ("7.1.txt", b"two")]
    got = Ingested(tmp_path, tar(*members, ("7.json", b'{"captions": ["three", "four"]}')))
    assert texts(got) == {"three", "four"}
    (tmp_path / "b").mkdir()
    got = Ingested(tmp_path / "b", tar(*members, ("7.json", b'{"caption": ["three", "four"]}')))
    assert texts(got) == {"one", "two", "three", "four"}


def test_one_text_twice_costs_its_sample(tmp_path):
    got = Ingested(tmp_path, tar(("7.jpg", png()), ("7.1.txt", b"a"), ("7.1.TXT", b"b"), *sample(1)))
    assert got.counts == {"records": 2, "images": 1, "bad_records:dup_member": 1}


DATACOMP = {
    "uid": "00a1b2c3d4e5f60718293a4b5c6d7e8f",
    "url": "http://e.org/x.png",
    "text": "a dog on a lawn",
    "original_width": 640,
    "original_height": 480,
    "clip_b32_similarity_score": 0.25,
    "clip_l14_similarity_score": 0.21875,
    "face_bboxes": [[0.1, 0.2, 0.3, 0.4]],
    "sha256": "ab" * 32,
}
KEPT = {"original_width", "original_height", "clip_b32_similarity_score", "clip_l14_similarity_score", "face_bboxes"}


@pytest.mark.parametrize("where", ["json", "parquet"])
def test_datacomp_keeps_uid_text_scores_and_faces(tmp_path, where):
    members = [("00000000.jpg", png(1)), ("00000000.txt", b"a dog on a lawn")]
    if where == "json":
        members.append(("00000000.json", json.dumps(DATACOMP | {"key": "00000000", "status": "success"}).encode()))
    else:
        rows = [DATACOMP | {"key": "00000000"}, DATACOMP | {"key": "00000001", "uid": "f" * 32}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    got = Ingested(tmp_path, tar(*members))
    ((uid, row),) = got.images.items()
    assert (uid, row["url"]) == (DATACOMP["uid"], DATACOMP["url"]) and texts(got) == {"a dog on a lawn"}
    kept = {name: DATACOMP[name] for name in KEPT}
    assert json.loads(row["extra"]) == kept | {"original_sha256": "ab" * 32}


def test_tables_as_pandas_and_polars_write_them_are_read(tmp_path):
    """NaN for a number that is missing; texts of 64-bit offsets."""
    score = pa.array(np.array([0.5, np.nan]), from_pandas=False)
    keys = pa.array(["a", "b"], pa.large_string())
    urls = pa.array([f"http://e.org/{key}.png" for key in "ab"], pa.large_string())
    pq.write_table(pa.table({"key": keys, "url": urls, "score": score, "caption": urls}), tmp_path / "00000.parquet")
    got = Ingested(tmp_path, tar(("a.png", png(1)), ("b.png", png(2))))
    extras = [got.images[uid_of_url(url)]["extra"] for url in urls.to_pylist()]
    assert extras == ['{"score": 0.5}', ""] and got.counts == {"records": 2, "images": 2}


def test_the_json_of_a_sample_speaks_and_the_table_only_for_those_without(tmp_path):
    rows = [{"key": f"{n:09d}", "url": f"http://table.org/{n}", "score": n} for n in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    members = [*sample(0), *sample(1)[:2]]
    got = Ingested(tmp_path, tar(*members))
    assert {row["url"] for row in got.images.values()} == {"http://e.org/0.png", "http://table.org/1"}


def test_keys_in_folders_and_with_dots_are_cut_as_webdataset_cuts_them(tmp_path):
    got = Ingested(
        tmp_path,
        tar(("./set.v1/a.jpg", png(1)), ("./set.v1/a.txt", b"one"), ("set.v1/b/c.jpg", png(2)),
            ("set.v1/b/c.txt", b"two"), ("d.left.jpg", png(3)), ("d.txt", b"three")),
    )  # fmt: skip
    assert texts(got) == {"one", "two"}
    assert got.counts == {"records": 3, "images": 2, "ignored_members": 1, "bad_records:image_missing": 1}


def test_equal_keys_of_two_tars_are_two_pairs(tmp_path):
    for number, name in enumerate("ab"):
        data = tar(("000000000.jpg", png(number)), ("000000000.txt", f"text {name}".encode()))
        (tmp_path / f"{name}.tar").write_bytes(data)
    got = Ingested.of(str(tmp_path), tmp_path / "pool")
    assert got.counts["images"] == 2 and texts(got) == {"text a", "text b"}
    for number, name in enumerate("ab"):
        uid = uid_of_image(hashlib.sha256(png(number)).hexdigest())
        assert got.captions[uid] == {("caption", f"text {name}")}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([], "no sample in any tar; KEY.jpg"),
        ([("a.v1.jpg", png()), ("a.v1.txt", b"x")], "2 members of other names; .* the key ends at the first dot"),
    ],
)
def test_tars_without_any_sample_are_an_error_that_says_what_one_is(tmp_path, members, said):
    got = Ingested(tmp_path, tar(*members))
    source = ShardsSource(paths=[str(tmp_path)])
    with pytest.raises(DataError, match=said):
        source.check_total([got.counts])
    source.check_total([got.counts, {"records": 1, "images": 1}])


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.jpg", png()), ("a.png", png()), ("a.txt", b"x")], "none of 1 samples is one to use: dup_member 1"),
        ([("a.1.jpg", png()), ("a.txt", b"x"), ("b.txt", b"y")], "none of 2 samples is one to use: image_missing 2"),
    ],
)
def test_tars_without_a_sample_to_use_are_an_error_that_counts_why(tmp_path, members, said):
    got = Ingested(tmp_path, tar(*members))
    with pytest.raises(DataError, match=said):
        ShardsSource(paths=[str(tmp_path)]).check_total([got.counts])
    ShardsSource(paths=[str(tmp_path)]).check_total([got.counts, {"records": 1, "images": 1}])


@pytest.mark.parametrize("fields", [["one", "two"], [{"text": "one"}, {"text": "two", "source": "alt"}, 7, None]])
def test_a_json_that_is_a_list_holds_the_captions(tmp_path, fields):
    got = Ingested(tmp_path, tar(("0.jpg", png()), ("0.json", json.dumps(fields).encode()), ("0.txt", b"one")))
    assert texts(got) == {"one", "two"} and got.counts == {"records": 1, "images": 1}


@pytest.mark.parametrize("data", [b"[1, 2]", b"[]", b"[", b'["a"] x', b'["a"}', b'"a"', b"null"])
def test_a_json_that_is_neither_fields_nor_captions_costs_its_sample(tmp_path, data):
    got = Ingested(tmp_path, tar(("0.jpg", png()), ("0.json", data), ("0.txt", b"one"), *sample(1)))
    assert got.counts == {"records": 2, "images": 1, "bad_records:bad_meta": 1}


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path):
    got = Ingested(tmp_path, tar(("0.jpg", png()), ("0.txt", "\ufeffa café".encode())))
    assert texts(got) == {"a café"}


@pytest.mark.parametrize("keys", [["0", "2", "9"], [0, 1, 2]])
def test_samples_that_the_table_beside_the_tar_does_not_know_are_counted(tmp_path, keys):
    """A table of numbers, not of the keys, knows none."""
    pq.write_table(pa.table({"key": keys, "caption": [f"of {key}" for key in keys]}), tmp_path / "x.parquet")
    got = Ingested(tmp_path, tar(*((f"{n}.png", png(n)) for n in range(3))), "x.tar")
    known = [int(key) for key in keys if isinstance(key, str) and key != "9"]
    assert got.counts == {"records": 3, "images": 3, "no_row_in_table": 3 - len(known)}
    for number in range(3):
        uid = uid_of_image(hashlib.sha256(png(number)).hexdigest())
        assert got.captions[uid] == {("caption", f"of {number}" if number in known else "")}
