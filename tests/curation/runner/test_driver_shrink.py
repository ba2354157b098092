"""A pool of smaller images: every decision and every word of them is that of the originals."""

import hashlib
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.runner.driver import curate
from curation.runner.inputs import reading
from curation.settings import CurateSettings
from pipeline.contract.dataset import verify
from pipeline.contract.manifest import Manifest
from tests.helpers import small_crawl
from tests.helpers.pairs import encoded, grained

SHRINK = {"max_side": 160, "filter": "box"}


def records() -> list[small_crawl.Record]:
    """The small crawl, and large photographs in it: one of them in three files, one damaged, one opted out."""
    rows = small_crawl.records()
    bodies = {f"big-{n}": encoded(grained(n, (640, 480 + n)), "JPEG", quality=92) for n in range(8)}
    bodies["same-bytes"] = bodies["big-0"]
    bodies["other-file"] = encoded(grained(0, (640, 480)), "JPEG", quality=92, optimize=True)
    bodies["cut"] = bodies["big-1"][:-9000]
    bodies["film"] = encoded(grained(20, (400, 300)), "GIF", save_all=True, append_images=[grained(21, (400, 300))])
    bodies["drawing"] = encoded(grained(22, (400, 300)), "BMP")
    bodies["long"] = encoded(grained(23, (1500, 300)), "PNG")
    bodies["opted-out"] = encoded(grained(24, (640, 480)), "JPEG")
    tags = [
        f'<img src="/{name}.jpg" alt="a {word} {name}">' for name, word in zip(bodies, small_crawl.WORDS, strict=False)
    ]
    rows.append(("http://site.test/big.html", 200, "text/html", f"<html>{''.join(tags)}</html>".encode(), ""))
    for name, body in bodies.items():
        rows.append((f"http://site.test/{name}.jpg", 200, "image/jpeg", body, "noai" if name == "opted-out" else ""))
    return rows


def made(folder: Path, files: int = 1, shuffled: int | None = None, **more) -> tuple[Manifest, Path]:
    paths = small_crawl.write(folder / "in", records(), files, shuffled)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", **more)
    plain["stages"] = [
        {"kind": "opt_out"},
        {"kind": "image_decode", "formats": ["jpg", "png", "webp", "gif"]},
        {"kind": "image_size", "min_side": 32, "max_side": 1200, "min_bytes": 600},
        {"kind": "exact_duplicates", "by": ["bytes", "pixels"]},
    ]
    return curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True), folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return made(tmp_path_factory.mktemp("plain"))[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return made(tmp_path_factory.mktemp("small"), shrink=SHRINK)[1]


def ledger(output: Path) -> dict[str, tuple]:
    rows = [row for path in sorted((output / "verdicts").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["url"]: (row["stage"], row["reason"], row["detail"]) for row in rows}


def pairs(output: Path) -> dict[str, tuple[dict, bytes]]:
    found = {}
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {name: tar.extractfile(name).read() for name in tar.getnames()}
        for name, body in members.items():
            if name.endswith(".json"):
                stem = name.removesuffix("json")
                image = next(data for other, data in members.items() if other[: len(stem)] == stem
                             and other.endswith(("jpg", "png", "webp")))  # fmt: skip
                meta = json.loads(body)
                found[meta["url"].rsplit("/", 1)[1]] = meta, image
    return found


def test_every_pair_ends_where_it_ends_without_it(plain, small):
    assert ledger(small) == ledger(plain) and pairs(small).keys() == pairs(plain).keys()
    reasons = {url.rsplit("/", 1)[1]: said[:2] for url, said in ledger(small).items()}
    assert reasons["opted-out.jpg"] == ("opt_out", "noai") and reasons["cut.jpg"] == ("image_decode", "truncated")
    assert reasons["drawing.jpg"] == ("image_decode", "format") and reasons["long.jpg"] == ("image_size", "too_large")
    assert [said[0] for said in reasons.values()].count("exact_duplicates") >= 2
    verify(str(small))


def test_large_ones_are_small_and_name_what_they_were_made_from_and_others_keep_their_bytes(plain, small):
    before, after = pairs(plain), pairs(small)
    large = [name for name in after if name.startswith(("big-", "same", "other"))]
    assert len(large) >= 7
    for name, (meta, image) in after.items():
        was, whole = before[name]
        assert meta["sha256"] == hashlib.sha256(image).hexdigest() and meta["captions"] == was["captions"]
        if name in large:
            assert meta["source_sha256"] == was["sha256"] and max(meta["width"], meta["height"]) == 160
            assert len(image) < len(whole) / 4
        else:
            assert image == whole and meta == was


def test_the_cut_and_the_order_leave_no_trace(small, tmp_path):
    _, other = made(tmp_path, files=3, shuffled=1, shrink=SHRINK, buckets=8)
    assert small_crawl.outcome(other) == small_crawl.outcome(small)


def test_a_changed_shrink_reads_inputs_anew_and_an_equal_one_does_not(tmp_path, monkeypatch):
    pool, read = str(tmp_path / "pool"), []
    ingest = reading.ingest
    monkeypatch.setattr(reading, "ingest", lambda *args: read.append(1) or ingest(*args))
    for number, (shrink, new) in enumerate(
        [(SHRINK, 1), (SHRINK, 0), ({**SHRINK, "quality": 80}, 1), (None, 1), (SHRINK, 0)]
    ):
        before = len(read)
        _, output = made(tmp_path / str(number), pool=pool, shrink=shrink)
        assert len(read) - before == new
        meta, _ = pairs(output)["big-3.jpg"]
        assert max(meta["width"], meta["height"]) == (640 if shrink is None else 160)


def test_what_is_resized_again_names_the_original_and_comes_from_the_small_one(small, tmp_path):
    _, output = made(tmp_path, shrink=SHRINK, emit={"resize": {"max_side": 80, "keep_small": True}})
    first, again = pairs(small), pairs(output)
    meta, _ = again["big-3.jpg"]
    assert max(meta["width"], meta["height"]) == 80 and meta["source_sha256"] == first["big-3.jpg"][0]["source_sha256"]
    assert meta["stored_sha256"] == first["big-3.jpg"][0]["sha256"]
