"""Tars as input: clipmill's own, img2dataset's, and plain ones; every caption, every unknown field, and all damage."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.pool.store import ImagePlace, ImageReader, PoolSink, part_folder
from curation.sources import SOURCES
from curation.table.uids import uid_of_image, uid_of_url
from pipeline import storage
from pipeline.contract.dataset import open_dataset
from pipeline.contract.pairs import MAX_META, parse_meta
from pipeline.errors import DataError
from tests.helpers.datasets import make_dataset
from tests.helpers.ingested import parts_of
from tests.helpers.places import shared_files
from tests.helpers.warcs import png


def tar(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def sample(number: int, **fields: Any) -> list[tuple[str, bytes]]:
    """As img2dataset writes it."""
    meta = {
        "key": f"{number:09d}",
        "url": f"http://e.org/{number}.png",
        "caption": f"cat {number}",
        "status": "success",
        "error_message": None,
        "width": 2,
        "height": 2,
        "original_width": 9,
        "exif": "{}",
        "sha256": "0" * 64,
        **fields,
    }
    key, image = f"{number:09d}", (f"{number:09d}.jpg", png(number))
    return [image, (f"{key}.txt", meta["caption"].encode()), (f"{key}.json", json.dumps(meta).encode())]  # fmt: skip


class Ingested:
    def __init__(self, tmp_path: Path, data: bytes, name: str = "00000.tar", **settings: int) -> None:
        (tmp_path / name).write_bytes(data)
        self.read(str(tmp_path / name), str(tmp_path / "pool"), settings)

    @classmethod
    def of(cls, path: str, pool: Path, **settings: int) -> "Ingested":
        made = cls.__new__(cls)
        made.read(path, str(pool), settings)
        return made

    def read(self, path: str, pool: str, settings: dict[str, int]) -> None:
        source = SOURCES["shards"](paths=[path], **settings)
        self.pool, self.counts, self.images, self.captions, occurrences = pool, {}, {}, {}, []
        for self.part in parts_of(source):
            with PoolSink(pool, self.part.id) as sink:
                counts = source.ingest(self.part, sink)
                sink.finish(counts)
            self.counts = {name: self.counts.get(name, 0) + counts.get(name, 0) for name in {*self.counts, *counts}}
            folder = part_folder(pool, self.part.id)
            self.images |= {row["uid"]: row for row in pq.read_table(f"{folder}/images.parquet").to_pylist()}
            occurrences += pq.read_table(f"{folder}/occurrences.parquet").to_pylist()
        for row in occurrences:
            self.captions.setdefault(row["uid"], set()).add((row["source"], row["text"]))

    def body(self, uid: str) -> bytes:
        row = self.images[uid]
        return ImageReader(self.pool).read(ImagePlace(row["part"], row["offset"], row["size"], row["sha256"]))


def test_a_tar_of_img2dataset_gives_its_pairs(tmp_path):
    got = Ingested(tmp_path, tar(*sample(0, similarity=0.3, NSFW="UNLIKELY"), *sample(1)))
    uid = uid_of_url("http://e.org/0.png")
    assert got.counts == {"records": 2, "images": 2}
    assert got.body(uid) == png(0)
    row = got.images[uid]
    assert (row["status"], row["ext"], row["url"]) == (200, "png", "http://e.org/0.png")
    assert json.loads(row["extra"]) == {
        "similarity": 0.3, "NSFW": "UNLIKELY", "original_width": 9, "original_sha256": "0" * 64,
    }  # fmt: skip
    assert got.captions[uid] == {("caption", "cat 0")}


def test_fields_come_from_the_parquet_beside_a_tar_without_json(tmp_path):
    members = [member for member in sample(3) + sample(4) if not member[0].endswith("json")]
    rows = {"key": ["000000003", "000000009"], "url": ["http://e.org/x.png", "http://e.org/y.png"], "score": [0.5, 0.1]}
    pq.write_table(pa.table(rows), tmp_path / "00000.parquet")
    got = Ingested(tmp_path, tar(*members))
    assert json.loads(got.images[uid_of_url("http://e.org/x.png")]["extra"]) == {"score": 0.5}
    assert uid_of_image(hashlib.sha256(png(4)).hexdigest()) in got.images, "named by its bytes: no url is known"
    other = tmp_path / "other"
    other.mkdir()
    assert Ingested(other, tar(*members)).part.id != got.part.id, "the table is part of the input"


def test_every_caption_of_a_pair_is_passed_on_with_its_source(tmp_path):
    captions = [{"text": "one", "source": "alt"}, {"text": "two", "source": "rewrite:x", "score": 1}, "three", 4, {}]
    got = Ingested(tmp_path, tar(*sample(0, captions=captions, all_captions=["four", "five"], alt_text="six")))
    assert got.captions[uid_of_url("http://e.org/0.png")] == {
        ("alt", "one"), ("rewrite:x", "two"), ("caption", "three"), ("caption", "cat 0"), ("all_captions", "four"),
        ("all_captions", "five"), ("alt", "six"),
    }  # fmt: skip


def test_a_curated_dataset_read_again_gives_the_same_pairs(tmp_path):
    make_dataset(str(tmp_path / "set"), shards=2, pairs=3)
    got = Ingested.of(str(tmp_path / "set"), tmp_path / "pool")
    assert got.counts["records"] == got.counts["images"] == len(got.images) == 6
    dataset = open_dataset(str(tmp_path / "set"))
    for pair in [*dataset.read_many(0, range(3)), *dataset.read_many(1, range(3))]:
        assert got.body(pair.uid) == pair.image
        assert got.captions[pair.uid] == {(one["source"], one["text"]) for one in pair.meta["captions"]}
        assert got.images[pair.uid]["url"] == pair.meta["url"]


def test_a_damaged_shard_of_a_curated_dataset_is_an_error_naming_it(tmp_path):
    make_dataset(str(tmp_path / "set"), shards=2, pairs=3)
    shard = tmp_path / "set/shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1  # inside an image, which no tar reader sees
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-000001\.tar: sha256"):
        Ingested.of(str(tmp_path / "set"), tmp_path / "pool")


def test_a_tar_cut_anywhere_keeps_the_samples_before_the_cut(tmp_path, caplog):
    whole = tar(*[member for number in range(4) for member in sample(number)])
    ends = [3 * 1024 * (number + 1) for number in range(4)]  # a header and a block each: three members a sample
    for number, cut in enumerate(range(ends[0], ends[3] + 512, 512)):
        folder = tmp_path / str(number)
        folder.mkdir()
        got = Ingested(folder, whole[:cut])
        assert got.counts["records"] == sum(end <= cut for end in ends)
        assert got.counts["bad_records:damaged_shard"] == 1
        assert got.counts["bytes_skipped"] == cut - ends[got.counts["records"] - 1]
        assert all(got.captions[uid] == {("caption", f"cat {row['url'][-5]}")} for uid, row in got.images.items())
        assert "00000.tar at byte" in caplog.text, "told, not silent"
        caplog.clear()


def test_a_cut_tar_that_its_counts_say_held_more_is_an_error(tmp_path):
    whole = tar(*sample(0), *sample(1), *sample(2))
    (tmp_path / "00000_stats.json").write_text(json.dumps({"successes": 3}))
    assert Ingested(tmp_path, whole).counts["records"] == 3
    with pytest.raises(DataError, match=r"00000\.tar: \d images, then damage: .*; 3 as 00000_stats\.json says"):
        Ingested(tmp_path, whole[: 7 * 1024])
    with pytest.raises(DataError, match=r"2 images; 3 as 00000_stats\.json says"):
        Ingested(tmp_path, tar(*sample(0), *sample(1)))
    (tmp_path / "00000_stats.json").write_text("[]")
    with pytest.raises(DataError, match="00000_stats.json"):
        Ingested(tmp_path, whole)


BAD_SAMPLES = {
    "NaN": (b'{"a": NaN}', "bad_meta"),
    "no object": (b"[1]", "bad_meta"),
    "cut json": (b'{"a": ', "bad_meta"),
    "deep": (b"[" * 100_000, "bad_meta"),
    "huge number": (b'{"a": ' + b"9" * 5000 + b"}", "bad_meta"),
    "infinite": (b'{"a": 1e999}', "bad_meta"),
    "lone surrogate": (b'{"a": "\\ud800"}', "bad_meta"),
    "not utf-8": (b'{"a": "\xff"}', "bad_meta"),
    "field twice": (b'{"caption": "a", "caption": "b"}', "dup_field"),
    "very long": (b'"' + b"a" * (5 << 20) + b'"', "bad_meta"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_a_bad_sample_is_counted_and_the_next_one_read(tmp_path, name):
    data, reason = BAD_SAMPLES[name]
    got = Ingested(tmp_path, tar(("0.png", png()), ("0.txt", b"cat"), ("0.json", data), *sample(1)))
    assert got.counts == {"records": 2, "images": 1, f"bad_records:{reason}": 1}


def test_what_is_missing_or_unfit_in_a_sample_is_counted(tmp_path):
    got = Ingested(
        tmp_path,
        tar(
            ("0.txt", b"no image"), ("0.json", b"{}"), ("1.jpg", b"<html>"), ("1.txt", b"a page"),
            ("2.png", png(2)), ("2.txt", b"\xff\xfe"), ("3.png", png(3)), ("3.txt", b"x" * 9000),
            ("4.png", png(4)), ("4.json", b'{"url": "file:///etc/passwd", "caption": 7}'), ("4.cls", b"1"),
            ("5.png", png(5) + bytes(1000)), ("5.txt", b"big"), ("6.png", png(6)), ("6.txt", b"x" * (MAX_META + 1)),
        ),
        max_image_bytes=500,
    )  # fmt: skip
    assert got.counts == {
        "records": 7, "images": 4, "bad_records:image_missing": 1, "bad_bodies:not_image": 1, "bad_bodies:too_big": 1,
        "bad_texts:bad_unicode": 1, "bad_texts:text_too_long": 2, "bad_mentions:bad_scheme": 1, "ignored_members": 1,
    }  # fmt: skip
    assert {text for captions in got.captions.values() for _, text in captions} == {"", "a page", "big"}
    assert sorted(row["problem"] for row in got.images.values()) == ["", "", "", "", "not_image", "too_big"]


def test_what_is_no_tar_is_an_error_naming_it(tmp_path):
    with pytest.raises(DataError, match=r"00000\.tar at byte \d+"):
        Ingested(tmp_path, b"not a tar" * 200)


def test_the_caption_of_one_tar_never_joins_the_image_of_the_next(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(*sample(0), ("7.png", png(7))))
    (tmp_path / "b.tar").write_bytes(tar(("7.txt", b"of another image"), *sample(1)))
    got = Ingested.of(str(tmp_path), tmp_path / "pool")
    assert got.counts == {"records": 4, "images": 3, "bad_records:image_missing": 1}
    assert got.captions[uid_of_image(hashlib.sha256(png(7)).hexdigest())] == {("caption", "")}


def test_a_remote_tar_reads_as_a_local_one(tmp_path):
    data = tar(*sample(0), *sample(1))
    storage.publish_bytes("memory://shards/00000.tar", data)
    remote, local = Ingested.of("memory://shards/*.tar", tmp_path / "remote"), Ingested(tmp_path, data)
    assert remote.part.id == local.part.id and remote.counts == local.counts


def test_a_real_evaluation_tar_reads_whole(tmp_path):
    (path,) = shared_files("eval/clipart-retrieval/test/0.tar")
    got = Ingested.of(str(path), tmp_path / "pool")
    with tarfile.open(path) as archive:
        images = sum(name.endswith((".jpg", ".png", ".webp")) for name in archive.getnames())
    assert got.counts["images"] == images > 100


def nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)


scalars = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
json_values = st.recursive(scalars, nested, max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["url", "uid", "captions", "caption", "texts", "language", "z"]), json_values))
def test_any_fields_are_read_without_an_exception(tmp_path_factory, fields):
    data = json.dumps(fields).encode()
    meta, reason = parse_meta(data)
    assert (meta, reason) in ((fields, ""), ({}, "bad_meta")), "as it is, or refused: never changed"
    got = Ingested(tmp_path_factory.mktemp("any"), tar(("0.png", png()), ("0.json", data)))
    assert got.counts["records"] == 1


def test_images_of_more_parts_than_files_may_be_open_are_read(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.tar").write_bytes(tar(*sample(number)))
    got = Ingested.of(str(tmp_path), tmp_path / "pool")
    reader = ImageReader(got.pool, most_open=2)
    rows = [row for row in got.images.values() for _ in range(2)]
    bodies = {reader.read(ImagePlace(row["part"], row["offset"], row["size"], row["sha256"])) for row in rows}
    assert bodies == {png(number) for number in range(5)}
