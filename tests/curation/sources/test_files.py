"""Folders of images and captions: what belongs together, what img2dataset writes, what a file more or less changes."""

import hashlib
import io
import json
import os
import random
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.pool.store import PoolSink
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.sources import SOURCES, files
from pipeline.errors import DataError, RecipeError
from tests.helpers.ingested import parts_of
from tests.helpers.small_crawl import picture

BODIES = [picture(number, side=16) for number in range(8)]


def lay(folder, content):
    """name -> bytes or text, as files."""
    for name, body in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body if isinstance(body, bytes) else body.encode())
    return folder


def source(folder, **more):
    return SOURCES["files"](paths=[str(folder)], **more)


def read(pool, reader):
    """({sha256 of the image, or "": its captions}, counts of all parts)."""
    found, counts = {}, {}
    for part in parts_of(reader):
        with PoolSink(str(pool), part.id) as sink:
            told = reader.ingest(part, sink)
            sink.finish(told)
        counts = {name: counts.get(name, 0) + told.get(name, 0) for name in {*counts, *told}}
        images = pq.read_table(f"{pool}/parts/{part.id}/images.parquet").to_pylist()
        rows = pq.read_table(f"{pool}/parts/{part.id}/occurrences.parquet").to_pylist()
        for image in images:
            texts = [row["text"] for row in rows if row["uid"] == image["uid"]]
            found.setdefault(image["sha256"] or "", []).extend(texts)
    return found, counts


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def test_captions_belong_to_the_image_of_their_name_whatever_dots_it_has(tmp_path):
    lay(tmp_path / "in", {
        "a.jpg": BODIES[0], "a.txt": "a cat",
        "b.PNG": BODIES[1], "b.0.txt": "a dog", "b.1.TXT": "a wolf",
        "photo.v2.jpeg": BODIES[2], "photo.v2.caption": "a bird", "photo.txt": "nobody's",
        "c.0.webp": BODIES[3], "c.0.txt": "a fish", "c.jpg": BODIES[4], "c.1.txt": "a shark",
        "deep/er/a.jpg": BODIES[5], "deep/er/a.txt": "another cat",
        "odd: n\u00e4me \u732b.jpg": BODIES[6], "odd: n\u00e4me \u732b.txt": "an odd one",
        "none.jpg": BODIES[7], "README.md": "words", "movie.mp4": b"x" * 99, "notes.json": "{}",
        "xjpg": BODIES[7], "none.jpg.part": BODIES[7],
    })  # fmt: skip
    found, counts = read(tmp_path / "pool", source(tmp_path / "in"))
    texts = [["a cat"], ["a dog", "a wolf"], ["a bird"], ["a fish"], ["a shark"], ["another cat"], ["an odd one"], [""]]
    assert found == {sha256(body): words for body, words in zip(BODIES, texts, strict=True)}
    assert counts == {"records": 8, "images": 8}


def test_what_belongs_to_no_image_is_told(tmp_path, caplog):
    lay(tmp_path, {"a.jpg": BODIES[0], "a.txt": "a cat", "b.txt": "lost", "c.mp4": "x"})
    source(tmp_path).inputs("curate.sources.2")
    assert "curate.sources.2.paths.0: 2 files that belong to no image are passed by" in caplog.text
    assert "b.txt the first" in caplog.text


def test_what_img2dataset_writes_as_files_is_read(tmp_path):
    from img2dataset.writer import FilesSampleWriter

    schema = pa.schema([pa.field(name, pa.string()) for name in ("url", "caption", "key", "license", "sha256")])
    for shard in range(2):
        writer = FilesSampleWriter(shard, str(tmp_path / "in"), True, 5, schema, "jpg")
        for at in range(2):
            body = picture(shard * 2 + at, "JPEG", side=16)
            meta = {"url": f"http://e.org/{shard}/{at}.jpg", "caption": f"a cat {shard}-{at}",
                    "key": f"{shard:05d}{at:04d}", "license": "CC0", "sha256": sha256(body)}  # fmt: skip
            writer.write(body, meta["key"], meta["caption"], meta)
        writer.close()
        (tmp_path / f"in/{shard:05d}_stats.json").write_text(json.dumps({"successes": 2}))
    reader = source(tmp_path / "in")
    found, counts = read(tmp_path / "pool", reader)
    assert found == {sha256(picture(n, "JPEG", side=16)): [f"a cat {n // 2}-{n % 2}"] for n in range(4)}
    assert counts == {"records": 4, "images": 4}
    (part,) = parts_of(reader)
    images = pq.read_table(f"{tmp_path}/pool/parts/{part.id}/images.parquet").to_pylist()
    assert sorted(row["url"] for row in images) == sorted(f"http://e.org/{n // 2}/{n % 2}.jpg" for n in range(4))
    assert {row["extra"] for row in images} == {'{"license": "CC0"}'}


def test_the_same_rules_as_for_a_tar(tmp_path):
    """Against the shards source, over a tar of the same files."""
    content = {
        "1.jpg": BODIES[0], "1.txt": "a cat", "1.json": '{"url": "http://e.org/1", "score": 3}',
        "2.jpg": b"<html>", "2.txt": "no image", "3.jpg": b"", "3.txt": "empty",
        "4.jpg": BODIES[1], "4.txt": "x" * 9000, "5.jpg": BODIES[2], "5.json": "{broken",
        "6.jpg": BODIES[3], "6.png": BODIES[4], "6.txt": "two images",
        "7.jpg": BODIES[5] + b"\0" * 9000, "7.txt": "big",
    }  # fmt: skip
    lay(tmp_path / "in", content)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, body in sorted(content.items()):
            member = tarfile.TarInfo(name)
            body = body if isinstance(body, bytes) else body.encode()
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    of_files = read(tmp_path / "pool", source(tmp_path / "in", max_image_bytes=5000))
    of_tar = read(tmp_path / "tar", SOURCES["shards"](paths=[str(tmp_path / "a.tar")], max_image_bytes=5000))
    assert of_files == of_tar
    reasons = ["records:image_missing", "records:bad_meta", "records:dup_member", "texts:text_too_long"]
    reasons += ["bodies:not_image", "bodies:too_big"]
    assert of_files[1] == {"records": 7, "images": 2} | {f"bad_{reason}": 1 for reason in reasons}


def test_an_image_may_have_all_the_bytes_that_are_allowed(tmp_path):
    body = BODIES[0] + bytes((5 << 20) - len(BODIES[0]))
    lay(tmp_path / "in", {"a.png": body, "a.txt": "a cat"})
    assert read(tmp_path / "pool", source(tmp_path / "in", max_image_bytes=5 << 20))[0] == {sha256(body): ["a cat"]}
    assert read(tmp_path / "less", source(tmp_path / "in", max_image_bytes=(5 << 20) - 1))[0] == {"": ["a cat"]}


# -- parts


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(files, "_CUT_AFTER", 8)


def many(folder, count):
    return lay(folder, {f"{at % 3}/{at:05d}.{end}": f"{at} {end}" for at in range(count) for end in ("jpg", "txt")})


def names(part):
    return [os.path.relpath(file.url, os.path.dirname(os.path.dirname(file.url))) for file in part.input.files]


def test_a_file_more_or_less_changes_its_part_and_no_other(tmp_path, small_parts):
    many(tmp_path / "in", 200)
    before = {part.id: names(part) for part in parts_of(source(tmp_path / "in"))}
    assert 10 < len(before) < 60 and sorted(sum(before.values(), [])) == sorted(
        f"{at % 3}/{at:05d}.{end}" for at in range(200) for end in ("jpg", "txt")
    )
    lay(tmp_path / "in", {"1/00007b.jpg": "new", "1/00007b.txt": "new"})
    (tmp_path / "in/2/00101.txt").unlink()
    after = {part.id: names(part) for part in parts_of(source(tmp_path / "in"))}
    assert len(before.keys() - after.keys()) == 2
    whole = sorted(sum(after.values(), []))
    assert "1/00007b.jpg" in whole and "2/00101.txt" not in whole and "2/00101.jpg" in whole and len(whole) == 401


def test_an_image_and_what_belongs_to_it_are_in_one_part(tmp_path, small_parts):
    many(tmp_path / "in", 300)
    for part in parts_of(source(tmp_path / "in")):
        stems = [name.rpartition(".")[0] for name in names(part)]
        assert {stems.count(stem) for stem in stems} == {2}


def test_a_folder_that_was_moved_is_the_same_parts(tmp_path, small_parts):
    many(tmp_path / "in", 100)
    before = {part.id for part in parts_of(source(tmp_path / "in"))}
    (tmp_path / "in").rename(tmp_path / "there")
    assert {part.id for part in parts_of(source(tmp_path / "there"))} == before


def test_names_that_pair_files_in_another_way_are_another_part(tmp_path):
    for name, (one, two) in {"x": "ab", "y": "ba"}.items():
        lay(tmp_path / name, {f"{one}.jpg": BODIES[0], "a.txt": "1", "b.txt": "2", f"{two}.png": BODIES[0]})
    ids = [parts_of(source(tmp_path / name))[0].id for name in "xy"]
    assert ids[0] != ids[1]


def test_a_part_has_an_end_whatever_the_names_are(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CUT_AFTER", 1 << 60)
    monkeypatch.setattr(files, "_MOST", 7)
    many(tmp_path / "in", 20)
    assert [len(each.files) for each in source(tmp_path / "in").inputs()] == [14, 14, 12]


def test_bytes_are_those_of_all_files(tmp_path):
    lay(tmp_path / "in", {"a.jpg": b"x" * 10, "a.txt": b"y" * 5})
    assert [each.bytes for each in source(tmp_path / "in").inputs()] == [15]


# -- what paths may be


def test_a_folder_in_a_circle_of_links_is_read_once(tmp_path):
    lay(tmp_path / "in/deep", {"a.jpg": BODIES[0], "a.txt": "a cat"})
    os.symlink(tmp_path / "in", tmp_path / "in/deep/again")
    lay(tmp_path / "elsewhere", {"b.jpg": BODIES[1], "b.txt": "a dog"})
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/linked")
    found, _ = read(tmp_path / "pool", source(tmp_path / "in"))
    assert found == {sha256(BODIES[0]): ["a cat"], sha256(BODIES[1]): ["a dog"]}


def test_hidden_files_are_none_and_globs_name_folders(tmp_path):
    names = ["in/1/a.jpg", "in/2/b.jpg", "in/1/.c.jpg", "in/.git/d.jpg", "in/e.jpg"]
    lay(tmp_path, dict(zip(names, BODIES, strict=False)))
    os.mkfifo(tmp_path / "in/pipe")
    os.symlink(tmp_path / "nowhere", tmp_path / "in/lost")
    assert set(read(tmp_path / "p1", source(tmp_path / "in/*"))[0]) == {sha256(body) for body in BODIES[:2]}
    assert set(read(tmp_path / "p2", source(tmp_path / "in"))[0]) == {sha256(BODIES[at]) for at in (0, 1, 4)}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none", "no folder at"),
        ("empty", "no image below"),
        ("a.jpg", "the folder that it is in"),
        ("*.jpg", "no folder at"),
        ("http://e.org/images", "a web server, which lists no folders"),
    ],
)
def test_a_path_that_names_no_images_is_refused_before_any_work(tmp_path, path, words):
    lay(tmp_path, {"empty/x.md": "x", "a.jpg": BODIES[0]})
    with pytest.raises(RecipeError, match=words) as error:
        source(path if "://" in path else tmp_path / path).inputs("curate.sources.3")
    assert error.value.where == "curate.sources.3.paths.0"


def test_a_store_is_read_as_a_local_folder_is(tmp_path):
    content = {"1/a.jpg": BODIES[0], "1/a.txt": b"a cat", ".x/b.jpg": BODIES[1], "2/c.png": BODIES[2]}
    for name, body in content.items():
        with fsspec.open(f"memory://{tmp_path.name}/in/{name}", "wb") as file:
            file.write(body)
    found, _ = read(tmp_path / "pool", source(f"memory://{tmp_path.name}/in"))
    assert found == {sha256(BODIES[0]): ["a cat"], sha256(BODIES[2]): [""]}
    assert read(tmp_path / "local", source(lay(tmp_path / "in", content)))[0] == found


# -- to shards


def test_shards_are_the_same_however_the_images_lie(tmp_path, small_parts):
    digests = set()
    for trial in range(3):
        rng = random.Random(trial)
        content = {}
        for at in range(40):
            name = f"{rng.randrange(4)}/{rng.randrange(10**6):06d}-{at}"
            content |= {f"{name}.png": picture(at, side=32), f"{name}.txt": f"a picture of cat {at}"}
        lay(tmp_path / f"{trial}", content)
        plain = {
            "sources": [{"kind": "files", "paths": [str(tmp_path / f"{trial}")]}],
            "stages": [{"kind": "image_decode"}],
            "emit": {"pairs_per_shard": 10},
            "output": str(tmp_path / f"out-{trial}"),
            "ray": {"address": "inline"},
        }
        manifest = curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
        assert manifest.num_pairs == 40
        digests.add(tuple(shard.sha256 for shard in manifest.shards))
    assert len(digests) == 1


def test_folders_of_which_no_image_is_one_say_what_a_sample_looks_like(tmp_path):
    lay(tmp_path / "in", {"a.v2.jpg": b"", "a.v2.txt": "a cat"})
    plain = {"sources": [{"kind": "files", "paths": [str(tmp_path / "in")]}], "output": str(tmp_path / "out")}
    with pytest.raises(DataError, match=r"none of 1 samples.*image_missing 1.*KEY\.txt or KEY\.json beside it"):
        curate(CurateSettings.model_validate({**plain, "ray": {"address": "inline"}}), name="t", seed=0, quiet=True)
