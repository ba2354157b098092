"""Crawls with lies about lengths, cuts, flips and garbage: every record that nothing happened to is read.

The oracle is how the file was made: which records were left alone.
"""

import gzip
import random
import zlib
from pathlib import Path

import pytest

from curation.sources.warc.gunzip import Gunzip
from curation.sources.warc.members import Plain
from curation.sources.warc.records import Gap, Record, read_records
from curation.sources.warc.unzstd import Unzstd
from tests.helpers.warcs import framed, http, record

CAP = 1 << 20


def packed(data: bytes, level: int = 9) -> bytes:
    return gzip.compress(data, level, mtime=0)


def scan(path: Path, data: bytes, cap: int = CAP) -> tuple[list[str], list[Gap]]:
    path.write_bytes(data)
    found = list(read_records(str(path), cap))
    names = [one.headers["warc-target-uri"] for one in found if isinstance(one, Record)]
    return names, [one for one in found if isinstance(one, Gap)]


def block(rng: random.Random, url: str) -> bytes:
    """Bodies that try to mislead: line ends, a whole WARC inside, a gzip member inside, noise."""
    inner = record("http://inside.org/x", http(b"inner"))
    bodies = [
        rng.randbytes(rng.randrange(100)),
        b"\r\n\r\n" * rng.randrange(30) + rng.randbytes(20),
        b"text " * rng.randrange(20_000),
        packed(rng.randbytes(300), 0),
        b"about WARC/1.0 files, and WARC/",
        url.encode() + inner + b"end",
    ]
    return http(rng.choice(bodies), "application/octet-stream", f"X-Url: {url}")


def lie(rng: random.Random, url: str, inside: bytes) -> bytes:
    size = len(inside)
    claims = [
        size + rng.randrange(1, 60),
        rng.randrange(size),
        size + rng.randrange(10**5),
        900_000_000,
        10**14,
        CAP + 1,
    ]
    digest = {} if rng.random() < 0.5 else {"WARC_Block_Digest": ""}
    return record(url, inside, Content_Length=str(rng.choice(claims)), **digest)


def garbage(rng: random.Random) -> bytes:
    shapes = [
        rng.randbytes(rng.randrange(1, 400)),
        b"\x1f\x8b\x08\x00" + rng.randbytes(50),
        packed(b"hello\r\n\r\n"),
        packed(b""),
        packed(b"WARC/1.0\r\nX: y"),
        bytes(50),
    ]
    return rng.choice(shapes)


@pytest.mark.parametrize("seed", [*range(100), 2463])  # 2463: a member cut behind the magic bytes of its own
def test_every_record_left_alone_in_its_own_member_is_read(tmp_path, seed):
    rng = random.Random(seed)
    pieces, whole = [], []
    for i in range(rng.randrange(3, 120)):
        url, fate = f"http://e.org/{i}", rng.random() if i > 1 else 1.0  # what the file is like is seen by its start
        inside = block(rng, url)
        good = record(url, inside, **({} if rng.random() < 0.5 else {"WARC_Block_Digest": ""}))
        if fate < 0.08:
            pieces.append(packed(lie(rng, url, inside)))
        elif fate < 0.14:
            member = packed(good)
            pieces.append(member[: rng.randrange(1, len(member))])
        elif fate < 0.2:
            member = bytearray(packed(good))
            member[rng.randrange(len(member))] ^= 1 << rng.randrange(8)
            pieces.append(bytes(member))
        elif fate < 0.26:
            pieces.append(garbage(rng))
        else:
            pieces.append(packed(good, rng.randrange(10)))
            whole.append(url)
    names, gaps = scan(tmp_path / "a.warc.gz", b"".join(pieces))
    missing = [name for name in whole if name not in set(names)]
    assert not missing, (missing, gaps)
    assert len(names) == len(set(names)) and "http://inside.org/x" not in names
    assert all(gap.records > 0 and gap.skipped > 0 for gap in gaps)


@pytest.mark.parametrize("pack", [lambda all: b"".join(all), lambda all: packed(b"".join(all))])
@pytest.mark.parametrize("seed", range(20))
def test_lies_among_records_of_one_stream_cost_only_themselves(tmp_path, seed, pack):
    rng = random.Random(seed)
    pieces, whole = [], []
    for i in range(60):
        url = f"http://e.org/{i}"
        inside = http(rng.randbytes(rng.randrange(100)))
        if rng.random() < 0.15:
            # Not one that ends where another record does: that one is as good as true.
            pieces.append(
                record(url, inside, Content_Length=str(rng.choice([10**9, 10**14, len(inside) + 7, CAP + 3])))
            )
        else:
            pieces.append(record(url, inside))
            whole.append(url)
    names, gaps = scan(tmp_path / "a.warc", pack(pieces))
    assert names == whole
    assert sum(gap.records for gap in gaps) == 60 - len(whole)


def test_records_over_several_members_and_several_in_one_are_read(tmp_path):
    rng = random.Random(1)
    blocks = [http(rng.randbytes(rng.randrange(6000)) + b"\r\n\r\n" * (i % 9)) for i in range(40)]
    records = [record(f"http://e.org/{i}", inside) for i, inside in enumerate(blocks)]
    data = b"".join(records)
    for size in (7, 100, 5000, 1 << 20):
        spread = b"".join(packed(data[at : at + size], 1) for at in range(0, len(data), size))
        names, gaps = scan(tmp_path / "a.warc.gz", spread)
        assert names == [f"http://e.org/{i}" for i in range(40)] and gaps == []


def test_the_lie_that_lost_a_crawl(tmp_path):
    good = [packed(record(f"http://e.org/{i}", http(bytes(300)))) for i in range(205)]
    liar = packed(record("http://e.org/x", http(b"x"), Content_Length="900000000"))
    for cut in (0, 20):
        data = b"".join([*good[:5], liar, *good[5:]])
        names, gaps = scan(tmp_path / "a.warc.gz", data[: len(data) - cut], 20 << 20)
        assert len(names) >= 205 - bool(cut)
        assert gaps[0] == Gap("damaged_record", sum(map(len, good[:5])), len(liar), 1)


def bomb(mib: int) -> bytes:
    pack = zlib.compressobj(9, wbits=31)
    return b"".join([*(pack.compress(bytes(1 << 20)) for _ in range(mib)), pack.flush()])


LIAR = record("http://e.org/liar", b"", Content_Length="900000000")
SMALL = record("http://e.org/liar", b"", Content_Length="900000")
SLOW = {  # (bytes, MiB that they are unpacked)
    "own members before a bomb": lambda: (packed(LIAR) * 40 + bomb(64), 64),
    "many own members": lambda: (packed(LIAR) * 20_000, 6),
    "plain": lambda: (LIAR * 20_000, 6),
    "plain, within the cap": lambda: (SMALL * 20_000, 6),
    "one member": lambda: (packed(LIAR * 20_000), 6),
    "one member, within the cap": lambda: (packed(SMALL * 20_000), 6),
    "headers without end": lambda: (b"WARC/1.0\r\nX:" * 60_000, 1),
    "empty members": lambda: (packed(b"") * 50_000, 0),
    "no members": lambda: (b"\x1f\x8b\x08\x00" * 50_000, 1),
    "zstd, own frames": lambda: (framed(LIAR) * 20_000, 6),
    "zstd, one frame": lambda: (framed(LIAR * 20_000), 6),
    "zstd, a bomb and lies in one frame": lambda: (framed(bytes(64 << 20) + LIAR * 3), 64),
    "zstd, one frame, within the cap": lambda: (framed(SMALL * 20_000), 6),
    "zstd, empty frames": lambda: (framed(b"") * 20_000, 0),
    "zstd, no frames": lambda: (b"\x28\xb5\x2f\xfd\x00\x48\xfd\xff\x0f" * 20_000, 0),
}


@pytest.mark.parametrize("name", SLOW)
def test_no_byte_is_read_for_every_lie_anew(tmp_path, name, monkeypatch):
    given = [0]
    for kind in (Gunzip, Plain):

        def counting(self, count, read=kind.read):
            data = read(self, count)
            given[0] += len(data)
            return data

        monkeypatch.setattr(kind, "read", counting)
    middle, mib = SLOW[name]()
    unpacked = Unzstd._block

    def counting_blocks(self):
        data, is_last = unpacked(self)
        given[0] += len(data)
        return data, is_last

    monkeypatch.setattr(Unzstd, "_block", counting_blocks)
    pack = framed if "zstd" in name else packed
    before, after = (pack(record(f"http://e.org/{at}", http(body))) for at, body in enumerate((b"first", b"last")))
    if "plain" in name or "headers" in name:
        before, after = gzip.decompress(before), b"\r\n\r\n" + gzip.decompress(after)
    names, _ = scan(tmp_path / "a.warc", before + middle + after, 20 << 20)
    assert names == ["http://e.org/0", "http://e.org/1"]
    assert given[0] < (3 * mib + 4) << 20
