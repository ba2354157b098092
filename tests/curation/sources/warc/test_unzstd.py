"""WARC files of zstd frames: with and without dictionary, joined, cut, flipped, and unpacking to more than they may.

The oracle is how the file was made.
"""

import random
import resource

import pytest
import zstandard

from curation.sources.warc import records
from curation.sources.warc.records import Gap, Record, State, guessed_state, read_range, read_records
from pipeline.errors import DataError
from tests.helpers.ingested import Ingested
from tests.helpers.ingested import images as some_images
from tests.helpers.warcs import dictionary, dictionary_frame, framed, http, png, record

CAP = 1 << 20
WARCINFO = record("", b"software: x\r\n", "warcinfo")


def names(items) -> list[str]:
    return [one.headers["warc-target-uri"] for one in items if isinstance(one, Record)]


def in_ranges(path, step: int) -> tuple[list, int]:
    """All items, and how many ranges began where they seemed to."""
    state, found, right = State(), [], 0
    size = path.stat().st_size
    for start in range(0, size, step):
        if state.offset >= start + step:
            continue
        right += start > 0 and guessed_state(str(path), start, start + step) == state
        reading = read_range(str(path), CAP, state, start + step)
        while True:
            try:
                found.append(next(reading))
            except StopIteration as end:
                state = end.value
                break
    return found, right


def pieces(count: int) -> list[bytes]:
    return [WARCINFO, *(record(f"http://e.org/{at}", http(random.Random(at).randbytes(900))) for at in range(count))]


FRONT = {
    "bare": lambda: (b"", None),
    "dictionary": lambda: (dictionary_frame(dictionary(1)), dictionary(1)),
    "packed dictionary": lambda: (dictionary_frame(dictionary(1), packed=True), dictionary(1)),
    "other skippable frames": lambda: ((0x184D2A50).to_bytes(4, "little") + b"\3\0\0\0abc", None),
}


@pytest.mark.parametrize("front", FRONT)
@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_frame_a_record_is_read_whole_and_in_ranges(tmp_path, monkeypatch, front, has_checksum):
    monkeypatch.setattr(records, "STEP_BYTES", 500)
    head, words = FRONT[front]()
    path = tmp_path / "a.warc.zst"
    path.write_bytes(head + b"".join(framed(one, 3, words, has_checksum) for one in pieces(60)) + bytes(40))
    whole = list(read_records(str(path), CAP))
    assert names(whole) == ["", *(f"http://e.org/{at}" for at in range(60))]
    assert not any(isinstance(one, Gap) for one in whole)
    cut, right = in_ranges(path, 5000)
    assert cut == whole or [(one.headers, one.block) for one in cut] == [(one.headers, one.block) for one in whole]
    assert right >= 9


def test_the_whole_stream_in_one_frame_and_records_over_several_frames(tmp_path):
    data, path = b"".join(pieces(200)), tmp_path / "a.warc.zst"
    unsized = zstandard.ZstdCompressor(
        3
    ).compressobj()  # as `zstd` writes what comes from a pipe: no size in the header
    path.write_bytes(unsized.compress(data) + unsized.flush())
    assert len(names(read_records(str(path), CAP))) == 201
    for size in (7, 5000):
        path.write_bytes(b"".join(framed(data[at : at + size], 1) for at in range(0, len(data), size)))
        found = list(read_records(str(path), CAP))
        assert len(names(found)) == len(found) == 201


@pytest.mark.parametrize("second", [1, 2])
def test_files_joined_with_the_same_or_another_dictionary_are_read_as_each_of_them(tmp_path, monkeypatch, second):
    monkeypatch.setattr(records, "STEP_BYTES", 500)
    path = tmp_path / "a.warc.zst"
    path.write_bytes(
        b"".join(dictionary_frame(dictionary(n)) + b"".join(framed(one, 3, dictionary(n)) for one in pieces(40))
                 for n in (1, second, 1))
    )  # fmt: skip
    whole = list(read_records(str(path), CAP))
    assert len(names(whole)) == len(whole) == 3 * 41
    cut, right = in_ranges(path, 4000)
    assert names(cut) == names(whole) and len(cut) == len(whole)
    assert right > (20 if second == 1 else 5)


@pytest.mark.parametrize("seed", range(60))
def test_every_record_left_alone_in_its_own_frame_is_read(tmp_path, seed):
    rng = random.Random(seed)
    words, has_checksum = dictionary(1) if seed % 2 else None, seed % 3 > 0
    data, whole = [dictionary_frame(words)] if words else [], []
    for at in range(rng.randrange(3, 80)):
        url, fate = f"http://e.org/{at}", rng.random() if at > 1 else 1.0
        body = rng.choice(
            [rng.randbytes(rng.randrange(400)), b"text " * rng.randrange(60_000), framed(b"WARC/1.0\r\n")]
        )
        frame = framed(record(url, http(body)), rng.randrange(1, 6), words, has_checksum)
        if fate < 0.08:
            data.append(frame[: rng.randrange(1, len(frame))])
        elif fate < 0.16 and has_checksum:
            flipped = bytearray(frame)
            flipped[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            data.append(bytes(flipped))
        elif fate < 0.22:
            data.append(rng.choice([rng.randbytes(60), b"\x28\xb5\x2f\xfd" * 9, framed(b"hello\r\n\r\n"), framed(b"")]))
        else:
            data.append(frame)
            whole.append(url)
    path = tmp_path / "a.warc.zst"
    path.write_bytes(b"".join(data))
    found = list(read_records(str(path), CAP))
    lost = [name for name in whole if name not in set(names(found))]
    assert not lost, lost
    gaps = [one for one in found if isinstance(one, Gap)]
    assert len(names(found)) == len(set(names(found))) and all(gap.records > 0 and gap.skipped > 0 for gap in gaps)


def test_flips_in_frames_without_a_checksum_are_found_by_the_digests_of_the_records(tmp_path):
    frames = [framed(one, 1, None, has_checksum=False) for one in some_images(30)]
    whole = bytearray(b"".join(frames))
    at = len(b"".join(frames[:11])) + len(frames[11]) - 12  # in the body of the twelfth
    whole[at] ^= 1
    found = Ingested(tmp_path, bytes(whole), "a.warc.zst")
    assert found.counts["images"] == 29 and found.bad() == {"bad_records:damaged_record": 1}


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_a_file_cut_short_says_so_and_keeps_what_is_whole(tmp_path, cut):
    data = b"".join(framed(one) for one in some_images(20))
    found = Ingested(tmp_path, data[:-cut], "a.warc.zst")
    assert found.counts["images"] == 19 and found.bad() == {"bad_records:truncated_file": 1}


def bomb(mib: int) -> bytes:
    """A frame of `mib` MiB of zeros, about 30,000 times smaller."""
    pack = zstandard.ZstdCompressor(19).compressobj()
    return b"".join([*(pack.compress(bytes(1 << 20)) for _ in range(mib)), pack.flush()])


def test_bombs_cost_neither_memory_nor_time_and_hide_nothing_behind_them(tmp_path):
    """Those that a header claims as one record, and those that are no record at all."""
    head = record("http://e.org/big", b"", Content_Length=str(3 << 30))[:-4]
    pack = zstandard.ZstdCompressor(3).compressobj()
    claimed = pack.compress(head) + b"".join(pack.compress(bytes(1 << 20)) for _ in range(400)) + pack.flush()
    first, last = some_images(2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = Ingested(tmp_path, framed(first) + claimed + bomb(600) * 3 + framed(last), "a.warc.zst")
    assert found.counts["images"] == 2 and found.bad() == {"bad_records:damaged_record": 1}
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 300  # MiB


def test_a_window_larger_than_128_mib_is_refused_and_counted(tmp_path):
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    frame = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    wide_frame = frame.compress(record("http://e.org/w", http(png(9)))) + frame.flush()
    good = [framed(one) for one in some_images(3)]
    found = Ingested(tmp_path, good[0] + wide_frame + b"".join(good[1:]), "a.warc.zst")
    assert found.counts["images"] == 3 and found.bad() == {"bad_records:damaged_record": 1}


@pytest.mark.parametrize("words", [b"no dictionary", bytes(300), framed(bytes(40 << 20)), b"\x28\xb5\x2f\xfdbroken"])
def test_a_frame_that_holds_no_dictionary_is_passed_over(tmp_path, words):
    data = dictionary_frame(words) + b"".join(framed(one) for one in some_images(3))
    assert Ingested(tmp_path, data, "a.warc.zst").counts["images"] == 3


def test_images_come_out_of_a_crawl_as_from_gzip(tmp_path):
    more = [record("http://e.org/p", http(b"<img src=/1.png alt=cat>", "text/html"))]
    data = dictionary_frame(dictionary(2)) + b"".join(framed(one, 3, dictionary(2)) for one in more + some_images(3))
    found = Ingested(tmp_path, data, "a.warc.zst")
    assert found.counts["images"] == 3 and found.body("http://e.org/1.png") == png(1)
    assert [(row["url"], row["text"]) for row in found.occurrences] == [("http://e.org/1.png", "cat")]


def test_a_file_whose_dictionary_is_gone_says_so(tmp_path):
    path = tmp_path / "a.warc.zst"
    path.write_bytes(b"".join(framed(one, 3, dictionary(1)) for one in pieces(5)))
    with pytest.raises(DataError, match=r"a\.warc\.zst: its frames need a zstd dictionary, and it does not begin"):
        list(read_records(str(path), CAP))
