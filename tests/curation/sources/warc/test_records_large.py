"""Records far over what is passed by at once, honest and not: each is a counted reason, and all that follows is read.

The bounds are a thousandth of the real ones; a record of a real gibibyte is in the exhaustive tests.
"""

import gzip
import random
import resource
import zlib

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.sources.warc import lookahead
from curation.sources.warc.records import Gap, Record, read_records
from tests.helpers.ingested import Ingested, images
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import framed, http, record

BOUND = 1 << 20
LARGE = random.Random(0).randbytes(3 * BOUND)
PACKED = {
    "plain": lambda pieces: b"".join(pieces),
    "gzip, own members": lambda pieces: b"".join(gzip.compress(one, 1, mtime=0) for one in pieces),
    "gzip, one member": lambda pieces: gzip.compress(b"".join(pieces), 1, mtime=0),
    "zstd, own frames": lambda pieces: b"".join(framed(one) for one in pieces),
    "zstd, one frame": lambda pieces: framed(b"".join(pieces)),
}


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(lookahead, "_PASSED_BYTES", BOUND)


@pytest.mark.parametrize("pack", PACKED)
def test_a_large_record_is_too_big_and_costs_no_other_anything(tmp_path, small_bounds, pack):
    large = record("http://e.org/film.png", http(LARGE))
    data = PACKED[pack]([*images(3), large, *images(8)[3:]])
    got = Ingested(tmp_path, data, max_image_bytes=BOUND, max_page_bytes=BOUND)
    assert got.bad() == {"bad_records:too_big": 1}
    assert got.images["http://e.org/film.png"]["problem"] == "too_big"
    assert got.counts["images"] == 8 and got.counts["records"] == 9


@pytest.mark.parametrize("claim", [len(LARGE) - 5000, len(LARGE) + 5000, 10**14, 2 * BOUND, 0])
@pytest.mark.parametrize("pack", PACKED)
def test_a_large_record_that_lies_about_its_length_costs_itself(tmp_path, small_bounds, pack, claim):
    liar = record("http://e.org/film.png", http(LARGE), Content_Length=str(claim))
    (tmp_path / "a.warc").write_bytes(PACKED[pack]([*images(3), liar, *images(8)[3:]]))
    found = list(read_records(str(tmp_path / "a.warc"), BOUND // 2))
    names = [one.headers["warc-target-uri"] for one in found if isinstance(one, Record) and one.block]
    assert sorted({*names} - {"http://e.org/film.png"}) == sorted(f"http://e.org/{n}.png" for n in range(8))
    assert len(names) == len({*names})
    assert any(isinstance(one, Gap) for one in found)


def bomb(mib: int, claim: int) -> bytes:
    """A member of zeros that says it is one record."""
    pack = zlib.compressobj(9, wbits=31)
    head = record("http://e.org/bomb.png", b"", Content_Length=str(claim), WARC_Block_Digest="").removesuffix(
        b"\r\n\r\n"
    )
    pieces = [head, *[bytes(1 << 20)] * mib, b"\r\n\r\n"]
    return b"".join([*map(pack.compress, pieces), pack.flush()])


@pytest.mark.parametrize("claim", [8 << 20, 10**12])
def test_a_member_that_swells_is_given_up_and_the_next_one_read(tmp_path, small_bounds, claim):
    data = b"".join([gzip.compress(b"".join(images(3))), bomb(8, claim), gzip.compress(b"".join(images(8)[3:]))])
    got = Ingested(tmp_path, data, max_image_bytes=BOUND, max_page_bytes=BOUND)
    assert got.bad() == {"bad_records:damaged_record": 1} and got.counts["images"] == 8


def test_a_file_of_nothing_but_a_lie_ends_no_crawl(tmp_path, small_bounds, caplog):
    """Among others it is counted, and named in the log."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "bomb.warc.gz").write_bytes(bomb(8, 10**12))
    (folder / "lie.warc").write_bytes(record("http://e.org/x.png", http(b"x"), Content_Length=str(5 << 30)))
    (folder / "cut.warc.gz").write_bytes(gzip.compress(record("http://e.org/y.png", http(LARGE)))[:90_000])
    page = b"".join(b"<img src='/%d.png' alt='a red cat number %d'>" % (n, n) for n in range(6))
    good = [record("http://e.org/", http(page, "text/html"))]
    good += [record(f"http://e.org/{n}.png", http(picture(n, side=64))) for n in range(6)]
    (folder / "good.warc.gz").write_bytes(gzip.compress(b"".join(good)))
    plain = {"sources": [{"kind": "warc", "paths": [str(folder)]}], "stages": [], "output": str(out)}
    settings = CurateSettings.model_validate({**plain, "ray": {"address": "inline"}})
    manifest = curate(settings, name="t", seed=0, quiet=True)
    assert sum(shard.pairs for shard in manifest.shards) == 6
    bad = [{name: n for name, n in part.counts.items() if name.startswith("bad_")} for part in manifest.inputs]
    assert sorted(bad, key=str) == [
        {"bad_records:damaged_record": 1}, {"bad_records:truncated_file": 1}, {"bad_records:truncated_file": 1}, {}
    ]  # fmt: skip
    for name in ("bomb.warc.gz", "lie.warc", "cut.warc.gz"):
        assert f"{name}: holds no complete WARC record" in caplog.text


@pytest.mark.exhaustive
@pytest.mark.parametrize("mib", [1100])
def test_a_record_of_more_than_a_gibibyte(tmp_path, mib):
    """At the real bounds, of bytes that hardly shrink, then of zeros; memory stays what a few pictures take."""
    noise = random.Random(1).randbytes(1 << 20)
    pack = zlib.compressobj(0, wbits=31)
    head = record("http://e.org/film.png", b"", Content_Length=str(mib << 20), WARC_Block_Digest="")
    path = tmp_path / "a.warc.gz"
    with open(path, "wb") as file:
        file.write(gzip.compress(b"".join(images(3))))
        file.write(pack.compress(head.removesuffix(b"\r\n\r\n")))
        for _ in range(mib):
            file.write(pack.compress(noise))
        file.write(pack.compress(b"\r\n\r\n") + pack.flush())
        file.write(bomb(mib, mib << 20) + gzip.compress(b"".join(images(8)[3:])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(read_records(str(path), 20 << 20))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    assert [one.headers["warc-target-uri"] for one in found if isinstance(one, Record) and one.block is None] == [
        "http://e.org/film.png"
    ]
    assert [(one.reason, one.records) for one in found if isinstance(one, Gap)] == [("damaged_record", 1)]
    assert sum(isinstance(one, Record) for one in found) == 9
