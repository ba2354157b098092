"""Tars of odd members and damaged ones: what is whole is read, what is not is counted by reason, nothing is silent."""

import io
import os
import random
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.sources import SOURCES
from pipeline.errors import DataError
from tests.curation.sources.shards.test_shards import Ingested, sample
from tests.helpers.places import ROOT
from tests.helpers.tars import header, packed, special, summed, tar_bytes
from tests.helpers.warcs import png

Members = list[tuple[str | tarfile.TarInfo, bytes]]


def captions(got: Ingested) -> set[str]:
    return {text for found in got.captions.values() for _, text in found}


def cats(*numbers: int) -> set[str]:
    return {f"cat {number}" for number in numbers}


def with_tail(members: list[bytes]) -> bytes:
    return b"".join(members) + bytes(1024)


def flat(number: int) -> bytes:
    return b"".join(packed(name.encode(), data) for name, data in sample(number))


ODD: dict[str, tuple[bytes, dict[str, int]]] = {
    "a link": (packed(b"x.jpg", b"", b"2"), {"link": 1}),
    "a hard link with a size": (bytes(header(b"x.jpg", 700, b"1")), {"link": 1}),
    "a device": (packed(b"x.jpg", b"", b"3") + packed(b"x.txt", b"", b"4"), {"device": 2}),
    "a fifo": (packed(b"x.jpg", b"", b"6"), {"fifo": 1}),
    "a sparse file": (packed(b"x.jpg", b"123", b"S"), {"sparse": 1}),
    "another type": (packed(b"x.jpg", b"123", b"Z"), {"special": 1}),
    "no UTF-8": (packed(b"caf\xe9.jpg", png()) + packed(b"caf\xe9.txt", b"c"), {"name_not_utf8": 2}),
    "a way out": (packed(b"../../x.jpg", png()), {"unsafe_name": 1}),
    "a root": (packed(b"/etc/x.jpg", png()), {"unsafe_name": 1}),
    "a drive": (packed(b"C:\\x.jpg", png()), {"unsafe_name": 1}),
    "a second image": (packed(b"x.jpg", png()) + packed(b"x.png", png()), {}),
    "nonzero padding": (packed(b"x.jpg", png())[:-1] + b"!", {"padding": 1}),
    "a pax size that is none": (packed(b"x", b"13 size=-123\n", b"x") + packed(b"x.jpg", b""), {"bad_header": 1}),
    "a pax header that is none": (packed(b"x", b"999 pa", b"x") + packed(b"x.jpg", png()), {"bad_header": 1}),
    "two names": (
        packed(b"L", b"y.jpg\0", b"L") + packed(b"x", b"14 path=x.jpg\n", b"x") + packed(b"z", png()),
        {"two_names": 1},
    ),
    "a long header": (packed(b"L", b"y" * 70_000, b"L") + packed(b"x.jpg", png()), {"long_header": 1}),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_member_costs_its_sample_and_no_other(tmp_path, name):
    block, reasons = ODD[name]
    got = Ingested(tmp_path, with_tail([*map(flat, range(5)), block, *map(flat, range(5, 10))]))
    assert captions(got) == cats(*range(10)) and got.counts["images"] == 10
    reason = next(iter(reasons), "dup_member")
    assert got.counts[f"bad_records:{reason}"] == 1 and got.counts["records"] == 11
    assert {key: n for key, n in got.counts.items() if key.startswith("bad_members")} == {
        f"bad_members:{key}": count for key, count in reasons.items()
    }


def test_folders_and_members_that_are_never_read_cost_nothing(tmp_path):
    extra = packed(b"d/", b"", b"5") + packed(b"000000004.pkl", b"cos") + packed(b"a.tar.pth", b"cos")
    got = Ingested(tmp_path, with_tail([*map(flat, range(5)), extra, packed(b"000000004.npy", b"1"), flat(5)]))
    assert captions(got) == cats(*range(6))
    assert got.counts == {
        "records": 6, "images": 6, "ignored_folders": 1, "ignored_members": 1, "bad_members:code": 2,
    }  # fmt: skip


def test_an_odd_member_inside_a_sample_drops_it_whole(tmp_path):
    """The image of 1 is a link; its caption and fields must join no other image."""
    lame = [(special("000000001.jpg", tarfile.SYMTYPE, "000000000.jpg"), b""), *sample(1)[1:]]
    got = Ingested(tmp_path, tar_bytes([*sample(0), *lame, *sample(2)]))
    assert captions(got) == cats(0, 2) and got.counts["bad_records:link"] == 1


def test_a_second_sample_of_a_key_is_of_no_use(tmp_path):
    other = [(name, data) for name, data in sample(1, caption="other")]
    got = Ingested(tmp_path, tar_bytes([*sample(1), *sample(2), *other, *sample(3)]))
    assert captions(got) == cats(1, 2, 3) and got.counts["bad_records:dup_key"] == 1


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names_of_tar_writers_are_honoured(tmp_path, style):
    folder = "photos/" + "long-" * 25 + "é"
    members = [(f"{folder}/{name}", data) for number in range(3) for name, data in sample(number)]
    got = Ingested(tmp_path, tar_bytes([*members, *sample(3)], style))
    assert captions(got) == cats(0, 1, 2, 3) and got.counts == {"records": 4, "images": 4}


def test_counts_that_promise_more_images_than_links_are_an_error(tmp_path):
    (tmp_path / "00000_stats.json").write_text('{"successes": 3}')
    lame = [(special("000000001.jpg", tarfile.SYMTYPE, "000000000.jpg"), b""), *sample(1)[1:]]
    with pytest.raises(DataError, match=r"2 images; 3 as 00000_stats\.json says"):
        Ingested(tmp_path, tar_bytes([*sample(0), *lame, *sample(2)]))


def broken_header(data: bytearray, at: int) -> None:
    data[at + 3] ^= 1


def lying_size(data: bytearray, at: int) -> None:
    data[at + 124 : at + 136] = b"00007777777\0"  # 2 MiB: beyond the end
    data[at : at + 512] = summed(data[at : at + 512])


def near_lie(data: bytearray, at: int) -> None:
    data[at + 124 : at + 136] = b"00000002000\0"  # 1 KiB: it swallows a header and ends before a payload
    data[at : at + 512] = summed(data[at : at + 512])


def hole(data: bytearray, at: int) -> None:
    data[at : at + 1536] = bytes(1536)


def noise(data: bytearray, at: int) -> None:
    data[at : at + 5000] = random.Random(at).randbytes(5000)


@pytest.mark.parametrize("harm", [broken_header, lying_size, near_lie, hole, noise])
def test_damage_costs_the_samples_it_touches_and_is_told(tmp_path, caplog, harm: Callable[[bytearray, int], None]):
    """At every member in turn. Three members of 1 KiB a sample: noise of 5000 bytes touches three of them."""
    whole = with_tail(list(map(flat, range(10))))
    for member in range(29):  # a hole over the last member would be an end mark
        data = bytearray(whole)
        harm(data, 1024 * member)
        folder = tmp_path / str(member)
        folder.mkdir()
        caplog.clear()
        got = Ingested(folder, bytes(data))
        reach = {noise: 5000, hole: 1536, near_lie: 1536}.get(harm, 512)
        touched = set(range(member // 3, (1024 * member + reach - 1) // 3072 + 1))
        assert captions(got) >= cats(*(set(range(10)) - touched))
        assert got.counts["bad_records:damaged_shard"] >= 1 and got.counts["bytes_skipped"] > 0
        assert "00000.tar at byte" in caplog.text
        for uid, row in got.images.items():  # whatever is kept is a pair of one key
            number = int(row["url"].split("/")[-1][0])
            assert got.captions[uid] == {("caption", f"cat {number}")}
            assert got.body(uid).startswith(png(number))


def test_without_json_a_sample_beside_damage_is_dropped(tmp_path):
    """Image and caption are there, but whether a .json was lost nobody knows."""
    blocks = [packed(b"%d.jpg" % n, png(n)) + packed(b"%d.txt" % n, b"cat %d" % n) for n in range(6)]
    data = bytearray(with_tail(blocks))
    broken_header(data, 2 * 2048 + 1024)  # the caption of 2
    assert captions(Ingested(tmp_path, bytes(data))) == cats(0, 1, 4, 5)


def test_two_tars_in_one_file_are_both_read_and_told(tmp_path, caplog):
    got = Ingested(tmp_path, with_tail([flat(0), flat(1)]) + with_tail([flat(2), flat(3)]))
    assert captions(got) == cats(0, 1, 2, 3) and got.counts["bad_records:damaged_shard"] == 1
    assert "after the end of the archive" in caplog.text


@pytest.mark.parametrize("keep", [512 + 40, 1024 + 100])
def test_a_tar_cut_within_its_first_sample_is_counted_and_told(tmp_path, caplog, keep):
    """One of a thousand files ends no run; where all are so, `check_total` says it."""
    got = Ingested(tmp_path, with_tail([flat(0), flat(1)])[:keep])
    assert got.counts["records"] == 0 and got.counts["bad_records:damaged_shard"] == 1
    assert got.counts["bytes_skipped"] == keep and "00000.tar at byte" in caplog.text
    with pytest.raises(DataError, match="no sample in any tar"):
        SOURCES["shards"](paths=["a"]).check_total([got.counts])


def test_many_lying_headers_end_the_reading_soon(tmp_path):
    """Each says that it reaches far: following every one of them would be quadratic."""
    lies = b"".join(bytes(header(b"%d.jpg" % number, (40_000 - number - 1) * 512)) for number in range(40_000))
    got = Ingested(tmp_path, flat(0) + lies + b"junk" * 128 + flat(1) + bytes(1024))
    assert captions(got) >= cats(0) and got.counts["bad_records:damaged_shard"] >= 1
    assert got.counts["records"] < 5000 and got.counts["bytes_skipped"] > 10 << 20


@pytest.mark.exhaustive
def test_a_member_of_gigabytes_takes_no_memory(tmp_path):
    """A hole of 2 GiB in a file, as image, as caption and as metadata, under half of that in address space."""
    for suffix in ("jpg", "txt", "json"):
        size = 2 << 30
        path = tmp_path / f"{suffix}.tar"
        with open(path, "wb") as file:
            file.write(flat(0))
            block = header(b"big." + suffix.encode(), 0)
            block[124:136] = b"%012o" % size
            file.write(summed(block))
            file.seek(size, os.SEEK_CUR)
            file.write(packed(b"big.url", b"") + flat(1) + bytes(1024))
        code = (
            "import sys, json\n"
            "from curation.pool.store import PoolSink\n"
            "from curation.sources import SOURCES\n"
            "from curation.sources.source import Part\n"
            "from tests.curation.sources.shards import test_shards_odd as odd\n"
            "odd.limited(1 << 30)\n"
            "source = SOURCES['shards'](paths=[sys.argv[1]])\n"
            "with PoolSink(sys.argv[2], 'ab') as sink:\n"
            "    counts = source.ingest(Part('ab', *source.inputs()), sink)\n"
            "    sink.finish(counts)\n"
            "print(json.dumps(counts))\n"
        )
        command = [sys.executable, "-c", code, str(path), str(tmp_path / suffix)]
        alone = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=alone)
        assert done.returncode == 0, done.stderr[-2000:]
        assert '"records": 3' in done.stdout and '"images": 2' in done.stdout
        path.unlink()


def limited(spare: int) -> None:
    """Lets this process take `spare` bytes of address space more than it has."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare, taken + spare))


KINDS = ["whole", "whole", "whole", "link", "fifo", "device", "latin", "out", "folder", "long", "twice", "npy"]


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12),
    which=st.randoms(use_true_random=False),
    style=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_exactly_the_well_formed_samples_come_out(tmp_path_factory, kinds, which, style):
    """The oracle reads the same tar with Python's tarfile and takes the keys whose three members are safe files."""
    members: Members = []
    for number, kind in enumerate(kinds):
        own: Members = [(name, data) for name, data in sample(number)]
        at = which.randrange(3)
        name = str(own[at][0])
        if kind in ("link", "fifo", "device"):
            types = {"link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
            own[at] = (special(name, types[kind], "target" if kind == "link" else ""), b"")
        elif kind == "out":
            own = [("../" + str(name), data) for name, data in own]
        elif kind == "latin":
            own[at] = ("\udce9" + name, own[at][1])
        elif kind == "folder":
            own.insert(at, (special(f"folder{number}", tarfile.DIRTYPE), b""))
        elif kind == "long" and style != tarfile.USTAR_FORMAT:
            own = [("a-long-folder-name/" * 8 + str(name), data) for name, data in own]
        elif kind == "twice":
            own.insert(at, own[at])
        elif kind == "npy":
            own.insert(at, (name.split(".")[0] + ".npy", b"vector"))
        members += own
    data = tar_bytes(members, style)
    got = Ingested(tmp_path_factory.mktemp("odd"), data)
    assert captions(got) == well_formed(data)
    assert "bad_records:damaged_shard" not in got.counts
    bad = sum(count for name, count in got.counts.items() if name.startswith("bad_records:"))
    assert got.counts["records"] == got.counts["images"] + bad


def well_formed(data: bytes) -> set[str]:
    found: dict[str, list[tarfile.TarInfo]] = {}
    texts = set()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.name.endswith((".jpg", ".txt", ".json")):
                found.setdefault(member.name.rsplit(".", 1)[0], []).append(member)
        for key, own in found.items():
            suffixes = sorted(member.name.rsplit(".", 1)[1] for member in own)
            safe = ".." not in key and "\udce9" not in key and all(member.isfile() for member in own)
            # A file under another key (its name is no UTF-8) leaves a pair without it, unless it is the image.
            if safe and suffixes in (["jpg", "json", "txt"], ["jpg", "json"], ["jpg", "txt"]):
                texts.add(f"cat {int(key.rpartition('/')[2])}")
    return texts
