"""One splitter for all tars: strict, it refuses what tolerant passes by; both give the same samples of a sound tar."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.samples import SampleTar, split_name
from pipeline.errors import DataError
from pipeline.storage.window import Window
from tests.helpers.lanes import examples
from tests.helpers.places import shared_params
from tests.helpers.tars import header, packed, special, summed, tar_bytes

ROLES = {"jpg": "image", "txt": "text", "json": "json"}


def read(path, data: bytes, tolerant: bool = False, roles=ROLES):
    path.write_bytes(data)
    tar = SampleTar(Window(str(path)), roles, tolerant)
    samples = list(tar)
    return tar, [
        (s.key, {r: data[m.start : m.start + m.size] for r, m in s.members.items()}, s.problem) for s in samples
    ]


def by_tarfile(data: bytes) -> list:
    """The oracle: members in order, grouped by key, by Python's tarfile."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            key, _, suffix = member.name.removeprefix("./").partition(".")
            if member.isfile() and suffix in ROLES:
                found.setdefault(key, {})[ROLES[suffix]] = archive.extractfile(member).read()
    return [(key, members, "") for key, members in found.items()]


payloads = st.binary(max_size=1200)
samples_of_any_make = st.lists(st.dictionaries(st.sampled_from(["jpg", "txt", "json", "npy"]), payloads), max_size=6)
styles = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@examples(80)
@given(samples=samples_of_any_make, style=styles, prefix=st.sampled_from(["", "./", "a/b/", "long-" * 30 + "/"]))
def test_a_sound_tar_of_any_writer_is_cut_as_tarfile_would(tmp_path_factory, samples, style, prefix):
    if style == tarfile.USTAR_FORMAT and len(prefix) > 90:
        prefix = ""
    members = [(f"{prefix}{n}.{end}", data) for n, own in enumerate(samples) for end, data in own.items()]
    data = tar_bytes(members, style)
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    tar, found = read(path, data, tolerant=True)
    assert found == by_tarfile(data) and not tar.gaps and not tar.odd and tar.lost == 0
    if len(prefix) < 90:  # longer names stand in extended headers, which a strict tar may not have
        assert read(path, data)[1] == found


GOOD = [(f"{n}.{end}", b"%d" % n) for n in range(3) for end in ROLES]
ODD = {
    "link": [(special("x.jpg", tarfile.SYMTYPE, "0.jpg"), b"")],
    "fifo": [(special("x.jpg", tarfile.FIFOTYPE), b"")],
    "unsafe_name": [("../x.jpg", b"")],
    "code": [("x.pkl", b"")],
    "name_not_utf8": [("\udce9.jpg", b"")],
    "sparse": [(special("x.jpg", tarfile.REGTYPE, **{"GNU.sparse.map": "0,1"}), b"x")],
}


@pytest.mark.parametrize("reason", ODD)
def test_what_a_strict_tar_refuses_a_tolerant_one_names(tmp_path, reason):
    style = tarfile.PAX_FORMAT if reason == "sparse" else tarfile.GNU_FORMAT
    data = tar_bytes([*GOOD[:3], *ODD[reason], *GOOD[3:]], style)
    with pytest.raises(DataError, match=r"a\.tar at byte \d+"):
        read(tmp_path / "a.tar", data)
    tar, found = read(tmp_path / "a.tar", data, tolerant=True)
    assert tar.odd == {reason: 1}
    assert [key for key, _, problem in found if not problem] == ["0", "1", "2"]
    assert {problem for _, _, problem in found if problem} == ({reason} if reason != "code" else set())


def test_headers_of_old_and_large_tars_are_read_by_a_tolerant_tar(tmp_path):
    old = header(b"a.jpg", 3, mark=bytes(8))  # before ustar
    signed = header(b"\xc3\xa9.jpg", 3)
    signed[148:156] = b"%06o\0 " % (sum(signed[:148]) + 8 * 32 + sum(signed[156:]) - 2 * 256)
    large = header(b"c.jpg", 0)
    large[124:136] = b"\x80" + (3).to_bytes(11, "big")
    payload = b"abc" + bytes(509)
    data = b"".join(bytes(head) + payload for head in (old, signed, summed(large))) + bytes(1024)
    found = read(tmp_path / "a.tar", data, tolerant=True)[1]
    assert found == [(key, {"image": b"abc"}, "") for key in ("a", "é", "c")] == by_tarfile(data)


def test_an_old_sparse_file_with_a_long_map_does_not_hide_the_next_member(tmp_path):
    head = header(b"x.jpg", 5, b"S", b"ustar  \0")
    head[482] = 1
    more = bytearray(512)
    more[504] = 1
    sparse = bytes(summed(head)) + bytes(more) + b"\1" * 504 + bytes(8) + b"12345" + bytes(507)
    data = packed(b"0.jpg", b"a") + sparse + packed(b"1.jpg", b"b") + bytes(1024)
    tar, found = read(tmp_path / "a.tar", data, tolerant=True)
    assert [key for key, _, problem in found if not problem] == ["0", "1"] and tar.odd == {"sparse": 1} and not tar.gaps


def test_a_lost_extended_header_gives_no_member_a_wrong_key(tmp_path):
    """The short name in front of a long one's payload is another sample's; its real key stood in what is damaged."""
    short = [packed(b"1." + end.encode(), b"of the long one") for end in ROLES]
    names = [b"%s/5.%s" % (b"long-" * 22, end.encode()) for end in ROLES]
    records = [b"%d path=%s\n" % (len(name) + 10, name) for name in names]
    assert all(int(record.split()[0]) == len(record) for record in records)
    blocks = [packed(b"x", record, b"x") + block for record, block in zip(records, short, strict=True)]
    data = bytearray(
        packed(b"0.jpg", b"0") + b"".join(blocks) + packed(b"2.jpg", b"2") + packed(b"3.jpg", b"3") + bytes(1024)
    )
    data[1024 + 3] ^= 1  # the extended header of the first long member
    found = read(tmp_path / "a.tar", bytes(data), tolerant=True)[1]
    assert [key for key, _, _ in found] == ["2", "3"] or [key for key, _, _ in found] == ["3"]


def test_names_are_cut_at_the_first_dot_of_the_file():
    cases = {
        "a.jpg": ("a", "jpg"),
        "./d.x/a.b.JPG": ("d.x/a", "b.jpg"),
        "a": ("a", ""),
        "d/.a.jpg": ("", "a.jpg"),
        "d/": ("", ""),
    }
    assert {name: split_name(name) for name in cases} == cases


@pytest.mark.parametrize("path", shared_params("eval/*/test/*.tar"), ids=lambda path: "/".join(path.parts[-3:]))
def test_a_real_tar_is_cut_alike_by_both_and_as_tarfile_would(tmp_path, path):
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        names = archive.getnames()
    roles = {end: end for end in {name.partition(".")[2] for name in names}}
    strict, tolerant = read(tmp_path / "a.tar", data, False, roles)[1], read(tmp_path / "a.tar", data, True, roles)[1]
    assert strict == tolerant
    assert sum(len(members) for _, members, _ in strict) == len(names)
