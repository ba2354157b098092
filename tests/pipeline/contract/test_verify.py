"""Every cut and every flipped bit is named before a pair it touches is used; hostile tars are refused by name."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from pipeline.contract.dataset import open_dataset, verify
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.contract.scan import scan_tar
from pipeline.contract.shards import write_shard
from pipeline.errors import DataError
from tests.helpers.datasets import make_dataset, make_pair
from tests.helpers.ends import ends


def small_pairs(count: int = 3):
    return [make_pair(n, ("jpg", "png", "webp")[n % 3], image=bytes([n + 1]) * 600) for n in range(count)]


@pytest.fixture
def folder(tmp_path):
    entry = write_shard(str(tmp_path), 0, small_pairs())
    Manifest(name="x", num_pairs=3, shards=[entry]).save(str(tmp_path))
    return tmp_path


def flipped(data: bytes, bit: int) -> bytes:
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def test_a_plain_tar_cut_anywhere_is_refused_naming_file_and_offset(folder):
    tar = folder / "shard-000000.tar"
    whole = tar.read_bytes()
    edges = {cut for edge in range(0, len(whole), 512) for cut in (edge - 1, edge, edge + 1, edge + 200)}
    for cut in sorted(edges & set(range(len(whole)))):
        tar.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"shard-000000.tar at byte \d+: ") as caught:
            scan_tar(str(tar))
        assert str(cut) in str(caught.value)  # says where the file ends


def test_a_cut_curated_shard_is_refused_at_opening(folder):
    tar = folder / "shard-000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-512])
    with pytest.raises(DataError, match=f"shard-000000.tar: {len(whole) - 512} bytes; {len(whole)} bytes"):
        open_dataset(str(folder))
    assert any(f"{len(whole) - 512} bytes" in str(problem) for problem in verify(str(folder)).problems)


def test_a_cut_made_while_reading_names_the_offset(folder):
    dataset = open_dataset(str(folder))
    tar = folder / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"shard-000000.tar at byte \d+: \d+ bytes; \d+ bytes: the file is cut"):
        dataset.read_pair(0, 2)


def test_no_flipped_bit_of_a_shard_changes_a_pair_unseen(folder):
    """One bit of every eleventh byte: a read gives the true pair, or raises naming the place."""
    tar = folder / "shard-000000.tar"
    whole, dice = tar.read_bytes(), random.Random(0)
    dataset = open_dataset(str(folder))
    truth = dataset.read_many(0, [0, 1, 2])
    refused = 0
    for at in range(0, len(whole), 11):
        tar.write_bytes(flipped(whole, at * 8 + dice.randrange(8)))
        for row in range(3):
            try:
                assert dataset.read_pair(0, row) == truth[row]
            except DataError as error:
                refused += 1
                assert "shard-000000.tar at byte" in error.where and "row checksum" in error.found and error.expected
    assert refused > 3 * 600 // 11 - 3  # the images alone


def test_verify_names_the_pair_or_byte_of_every_flip(folder):
    tar = folder / "shard-000000.tar"
    whole, dice = tar.read_bytes(), random.Random(1)
    lengths = open_dataset(str(folder)).table(0)["length"].to_pylist()
    for at in range(0, len(whole), 17):
        tar.write_bytes(flipped(whole, at * 8 + dice.randrange(8)))
        problems = verify(str(folder)).problems
        assert len(problems) == 2 and "sha256" in problems[0].found
        row = next((row for row in range(3) if at < sum(lengths[: row + 1])), None)
        assert f"at byte {sum(lengths[:row])}" in problems[1].where
        assert row is None or f"pair 000000-00000{row}" in problems[1].where


def test_flips_in_the_headers_and_padding_of_a_plain_tar_are_found(tmp_path):
    write_shard(str(tmp_path), 0, small_pairs(1))
    tar = tmp_path / "shard-000000.tar"
    whole = tar.read_bytes()
    row = scan_tar(str(tar)).table.to_pylist()[0]
    spans = [(row[f"{member}_offset"], row[f"{member}_length"]) for member in ("image", "text", "json")]
    payload = {byte for start, length in spans for byte in range(start, start + length)}
    dice = random.Random(2)
    for at in sorted(set(range(0, len(whole), 3)) - payload):
        tar.write_bytes(flipped(whole, at * 8 + dice.randrange(8)))
        with pytest.raises(DataError, match="shard-000000.tar at byte"):
            scan_tar(str(tar))


def test_every_flip_in_an_index_or_the_manifest_is_found(folder):
    for path, step in ((folder / "index/shard-000000.parquet", 11), (folder / MANIFEST, 1)):
        whole, dice = path.read_bytes(), random.Random(3)
        for at in range(0, len(whole), step):
            path.write_bytes(flipped(whole, at * 8 + dice.randrange(8)))
            with pytest.raises(DataError, match=path.name) as caught:
                open_dataset(str(folder)).table(0)
            assert caught.value.found and caught.value.expected
        path.write_bytes(whole)
    assert open_dataset(str(folder)).table(0).num_rows == 3


def test_a_shard_of_the_right_name_and_size_with_other_pairs_is_refused(tmp_path):
    make_dataset(str(tmp_path / "a"), 1, 3)
    other = write_shard(str(tmp_path / "b"), 0, small_pairs())
    same_size = write_shard(str(tmp_path / "c"), 0, [make_pair(n + 3, "png", image=b"z" * 600) for n in range(3)])
    assert other.bytes == same_size.bytes
    Manifest(name="x", num_pairs=3, shards=[other]).save(str(tmp_path / "b"))
    (tmp_path / "b/shard-000000.tar").write_bytes((tmp_path / "c/shard-000000.tar").read_bytes())
    with pytest.raises(DataError, match="row checksum"):
        open_dataset(str(tmp_path / "b")).read_pair(0, 0)


def make_tar(path, members, **options):
    """Members: (name, bytes) or TarInfo, as Python's tarfile writes them."""
    with tarfile.open(path, "w", **options) as file:
        for member, data in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return str(path)


def special(name, kind, target="", **headers):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, target, headers
    return info


GOOD = [("000.jpg", b"image"), ("000.txt", b"text"), ("000.json", b"{}")]
HOSTILE = {
    "no pickles": [*GOOD, ("000.pkl", b"x")],
    "no pickles or": [*GOOD, ("000.extra.PyD", b"x")],
    "plain relative name": [("../000.jpg", b"x")],
    "a plain relative name": [("/etc/000.jpg", b"x")],
    "plain relative": [("C:\\000.jpg", b"x")],
    "relative name": [("a\n.jpg", b"x")],
    "regular files only": [(special("000.jpg", tarfile.SYMTYPE, "/etc/passwd"), b"")],
    "regular files": [(special("000.jpg", tarfile.LNKTYPE, "000.txt"), b"")],
    "files only": [(special("000.jpg", tarfile.FIFOTYPE), b"")],
    "a second image": [("000.jpg", b"x"), ("000.JPEG", b"y"), ("000.txt", b"t")],
    "a second text": [("000.jpg", b"x"), ("000.txt", b"y"), ("000.TXT", b"t")],
    "key '000' again": [*GOOD, ("001.jpg", b"x"), ("000.jpg", b"x")],
    "only times and owners": [(special("000.jpg", tarfile.REGTYPE, path="elsewhere"), b"x")],
    "times and owners": [(special("000.jpg", tarfile.REGTYPE, **{"GNU.sparse.map": "0,1"}), b"x")],
}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_member_is_refused_naming_file_and_offset(tmp_path, words):
    url = make_tar(tmp_path / "bad.tar", HOSTILE[words])
    with pytest.raises(DataError, match=words) as caught:
        scan_tar(url)
    assert "bad.tar at byte" in caught.value.where


@pytest.mark.parametrize(
    "size", [b"-0000000001\0", b"\xff" * 12, b"\x80" + b"\0" * 10 + b"\1", b"77777777777\0", b"0x1"]
)
def test_a_crafted_size_is_refused_at_once(tmp_path, size):
    whole = bytearray(Path(make_tar(tmp_path / "bad.tar", GOOD)).read_bytes())
    whole[124 : 124 + len(size)] = size
    whole[148:156] = b" " * 8
    whole[148:156] = b"%06o\0 " % sum(whole[:512])
    (tmp_path / "bad.tar").write_bytes(whole)
    with ends(), pytest.raises(DataError, match="bad.tar at byte 0"):
        scan_tar(str(tmp_path / "bad.tar"))


@pytest.mark.parametrize("data", [b"", b"\0" * 512, b"\x1f\x8b" + b"x" * 2000, b"<html>" * 200])
def test_what_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(DataError, match="bad.tar at byte 0"):
        scan_tar(str(tmp_path / "bad.tar"))


def test_two_tars_in_one_file_are_refused(tmp_path):
    one = Path(make_tar(tmp_path / "a.tar", GOOD)).read_bytes()
    (tmp_path / "a.tar").write_bytes(one + one)
    with pytest.raises(DataError, match="after the end"):
        scan_tar(str(tmp_path / "a.tar"))


def test_a_sample_is_never_glued_over_two_shards(tmp_path):
    """Both tars are valid; readers that group a stream make one sample of a.tar's image and b.tar's caption."""
    make_tar(tmp_path / "a.tar", [*GOOD, ("001.jpg", b"image of a")])
    make_tar(tmp_path / "b.tar", [("001.txt", b"caption of b"), ("002.jpg", b"i"), ("002.txt", b"t")])
    dataset = open_dataset(str(tmp_path))
    assert [dataset.table(n)["key"].to_pylist() for n in range(2)] == [["000"], ["002"]]
    assert scan_tar(str(tmp_path / "a.tar")).incomplete == [("001", "text_missing")]
    assert scan_tar(str(tmp_path / "b.tar")).incomplete == [("001", "image_missing")]


def test_a_bad_sample_of_a_plain_tar_is_a_counted_reason(tmp_path):
    deep = b"[" * 100_000
    metas = {"nan": b'{"a": NaN}', "list": b"[]", "cut": b'{"a"', "deep": deep, "alone": b'{"a": "\\ud800"}'}
    metas["digits"] = b'{"a": ' + b"9" * 5000 + b"}"
    members = [
        (f"{key}.{end}", data)
        for key, meta in metas.items()
        for end, data in (("jpg", b"i"), ("txt", b"t"), ("json", meta))
    ]
    members += [
        ("latin.jpg", b"i"),
        ("latin.txt", "é".encode("latin-1")),
        ("empty.jpg", b""),
        ("empty.txt", b"t"),
        *GOOD,
    ]
    scan = scan_tar(make_tar(tmp_path / "a.tar", members))
    assert scan.table["key"].to_pylist() == ["000"]
    reasons = {**dict.fromkeys(metas, "bad_meta"), "latin": "bad_text", "empty": "image_missing"}
    assert dict(scan.incomplete) == reasons


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tars_of_other_writers_are_read(tmp_path, style):
    """Folders, ./ names, other suffixes, float times (an extended header in front of each member)."""
    members = [(special("./x", tarfile.DIRTYPE), b"")]
    for name, data in (("./x/7.JPEG", b"image"), ("./x/7.cls", b"3"), ("./x/7.npy", b"vector"), ("./README", b"hi")):
        info = tarfile.TarInfo(name)
        info.mtime = 1700000000.25 if style == tarfile.PAX_FORMAT else 1700000000
        members.append((info, data))
    url = make_tar(tmp_path / "a.tar", members, format=style)
    scan = scan_tar(url)
    assert dict(scan.ignored) == {"a folder": 1, "no suffix": 1, "npy": 1}
    pair = open_dataset(url).read_pair(0, 0)
    assert (pair.key, pair.ext, pair.image, pair.text) == ("x/7", "jpg", b"image", "3")
    assert pair.meta == {"captions": [{"text": "3", "source": "txt"}]}


def test_what_nobody_names_and_what_a_kill_left_is_told(folder):
    left = [".tmp-17-manifest.json", "shard-000009.tar", "index/.tmp-3-shard-000000.parquet", "index/other.parquet"]
    for name in left:
        (folder / name).write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"the user's own")
    told = str(verify(str(folder)))
    assert all(name in told for name in left) and "notes.txt" not in told
