"""The WARC source into a real pool: what is kept, what is counted, and how it lives through damage."""

import gzip
import io
import random
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from curation.pool.store import PoolSink
from curation.sources import SOURCES
from curation.sources.warc.records import Gap, Record, read_records
from pipeline.errors import DataError, RecipeError
from tests.helpers.ends import ends
from tests.helpers.ingested import Ingested, images, parts_of
from tests.helpers.warcs import http, png, record, sha1, zipped

HTML = b"<html lang=en><img src=/0.png alt='a cat'></html>"


@pytest.mark.parametrize("pack", [zipped, lambda *all: b"".join(all), lambda *all: gzip.compress(b"".join(all))])
def test_pages_and_images_meet_in_the_pool(tmp_path, pack):
    page = record("http://e.org/", http(HTML, "text/html", "X-Robots-Tag: noai", "X-Robots-Tag: bot: none"))
    answer = http(png(), "text/plain", "X-Robots-Tag: NoImageAI", "X-Robots-Tag: googlebot: x")
    image = record("<http://e.org/0.png>", answer)
    got = Ingested(tmp_path, pack(page, record("http://e.org/0.png", b"GET /", "request"), image))
    assert got.body("http://e.org/0.png") == png()
    row = got.images["http://e.org/0.png"]
    assert (row["status"], row["ext"], row["content_type"]) == (200, "png", "text/plain")
    assert row["x_robots_tag"] == "NoImageAI, googlebot: x" and row["fetched_at"] == "2026-01-02T03:04:05Z"
    (mention,) = got.occurrences
    assert mention == {
        "url": "http://e.org/0.png", "uid": row["uid"], "text": "a cat", "source": "alt", "page_url": "http://e.org/",
        "page_robots": "noai, bot: none", "language": "en", "extra": "",
    }  # fmt: skip
    assert got.counts == {"records": 3, "responses": 2, "pages": 1, "images": 1, "mentions": 1, "other_records": 1}


def test_files_of_another_writer_read_the_same(tmp_path):
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=True)
    fields = StatusAndHeaders("200 OK", [("Content-Type", "image/png")], protocol="HTTP/1.1")
    writer.write_record(writer.create_warcinfo_record("x.warc.gz", {"software": "warcio"}))
    make, first, body = writer.create_warc_record, "http://e.org/0.png", io.BytesIO(png())
    writer.write_record(make(first, "response", body, http_headers=fields))
    writer.write_record(writer.create_revisit_record("http://e.org/1.png", sha1(png()), first, "2026-01-02T03:04:05Z"))
    writer.write_record(make("http://e.org/2.png", "resource", io.BytesIO(png(2)), warc_content_type="image/png"))
    got = Ingested(tmp_path, file.getvalue())
    assert got.body("http://e.org/0.png") == png() and got.body("http://e.org/2.png") == png(2)
    row, known = got.images["http://e.org/1.png"], got.images[first]
    assert (row["problem"], row["location"], row["size"]) == ("revisit", first, None)
    assert row["payload"] == known["payload"] != "" and got.bad() == {} and got.counts["revisits"] == 1


BAD_RECORDS = {
    "no http": (record("http://e.org/0.png", b"nonsense"), "bad_http"),
    "endless head": (record("http://e.org/0.png", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000), "bad_http"),
    "block digest": (record("http://e.org/0.png", http(png()), WARC_Block_Digest=sha1(b"other")), "damaged_record"),
    "payload digest": (record("http://e.org/0.png", http(png()), WARC_Payload_Digest=sha1(b"other")), "damaged_record"),
    "revisit of no url": (
        record("http://e.org/0.png", http(b""), "revisit", WARC_Refers_To_Target_URI="http://["),
        "bad_url",
    ),
    "segment": (record("http://e.org/0.png", http(png()), WARC_Segment_Number="2"), "segmented"),
    "bad url": (record("http://[/0.png", http(png())), "bad_url"),
    "negative length": (record("http://e.org/0.png", http(png()), Content_Length="-1"), "bad_warc"),
    "no number": (record("http://e.org/0.png", http(png()), Content_Length="12abc"), "bad_warc"),
    "2**63": (record("http://e.org/0.png", http(png()), Content_Length=str(2**63)), "bad_warc"),
    "too long": (record("http://e.org/0.png", http(png()), Content_Length="99999"), "damaged_record"),
    "too short": (record("http://e.org/0.png", http(png()), Content_Length="50"), "damaged_record"),
    "endless line": (b"WARC/1.0\r\nX: " + b"a" * 200_000, "bad_warc"),
    "not a record": (b"something else\r\n\r\n", "bad_warc"),
}


@pytest.mark.parametrize("pack", [zipped, lambda *all: b"".join(all)])
@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_is_counted_and_reading_goes_on_behind_it(tmp_path, name, pack):
    bad, reason = BAD_RECORDS[name]
    if name in ("endless line", "not a record") and pack is not zipped:
        bad += b"\r\n\r\n"
    before, *after = images(4)
    got = Ingested(tmp_path, pack(before, bad, *after))
    assert {url for url, row in got.images.items() if row["size"]} == {f"http://e.org/{i}.png" for i in range(4)}
    assert got.bad() == {f"bad_records:{reason}": 1}
    known = {"no http": "bad_http", "endless head": "bad_http"} | dict.fromkeys(
        ["block digest", "payload digest"], reason
    )
    twin = Ingested(tmp_path / "twin", pack(bad, images(2)[1])) if name in known else None
    if twin:
        row = twin.images["http://e.org/0.png"]
        assert (row["problem"], row["status"], row["size"]) == (known[name], 0, None), "an answer, if of no use"
        assert row["fetched_at"] == "2026-01-02T03:04:05Z"


def test_a_cut_image_is_not_used_and_a_cut_page_is_read(tmp_path):
    cut = {"WARC_Truncated": "length"}
    got = Ingested(tmp_path, zipped(
        record("http://e.org/", http(HTML, "text/html"), **cut), record("http://e.org/0.png", http(png()), **cut),
        record("http://e.org/1.png", http(b""), **cut),
    ))  # fmt: skip
    assert got.counts["bad_bodies:truncated"] == 3 and got.counts["pages"] == 1 and got.counts["images"] == 0
    assert [row["text"] for row in got.occurrences] == ["a cat"]
    problems = {url[13:]: row["problem"] for url, row in got.images.items()}
    assert problems == {"": "not_image", "0.png": "truncated", "1.png": "truncated"}


def test_a_text_too_long_leaves_the_mention_without_it(tmp_path):
    html = b"<img src=/0.png alt='" + b"x" * 1_000_000 + b"'><img src=/1.png alt='a\0b'>"
    got = Ingested(tmp_path, zipped(record("http://e.org/", http(html, "text/html"))))
    assert got.bad() == {"bad_texts:text_too_long": 1}
    assert {(row["url"][-5:], row["text"]) for row in got.occurrences} == {("0.png", ""), ("1.png", "ab")}


def test_members_far_larger_or_smaller_than_a_read_follow_each_other(tmp_path):
    # A small compressed member may hold more than one read gives out, so that zlib holds output back.
    pages = [record(f"http://e.org/{i}", http(b"<p>" * 10 ** (i % 6), "text/html")) for i in range(18)]
    got = Ingested(tmp_path, zipped(*pages, *images(2)))
    assert got.bad() == {} and got.counts["pages"] == 18 and got.counts["images"] == 2


# -- damage


def scan(path: Path) -> tuple[list[Record], list[Gap]]:
    found = list(read_records(str(path), 20 << 20))
    return [one for one in found if isinstance(one, Record)], [one for one in found if isinstance(one, Gap)]


def test_a_cut_anywhere_keeps_every_complete_record_and_says_what_is_gone(tmp_path):
    members = [gzip.compress(one) for one in images(6)]
    ends = [sum(map(len, members[: i + 1])) for i in range(6)]
    whole, path = b"".join(members), tmp_path / "cut.warc.gz"
    near_edges = {end + near for end in ends[1:5] for near in range(-9, 4)}
    for cut in sorted({*range(ends[0], ends[5], 5), *near_edges}):
        path.write_bytes(whole[:cut])
        records, gaps = scan(path)
        complete = sum(end <= cut for end in ends)
        assert complete <= len(records) <= complete + 1, cut  # one more when only the checksum is cut off
        gone = [] if cut in ends else [("truncated_file", cut - ends[complete - 1])]
        assert [(gap.reason, gap.skipped) for gap in gaps] == gone, cut


@pytest.mark.parametrize("name", ["a.warc", "single.warc.gz"])
def test_a_cut_in_one_long_stream_keeps_the_records_before_it(tmp_path, name):
    rng = random.Random(1)
    records = [record(f"http://e.org/{i}.png", http(png(i) + rng.randbytes(3000))) for i in range(20)]
    data = b"".join(records)
    data = gzip.compress(data) if name.endswith("gz") else data
    got = Ingested(tmp_path, data[: len(data) // 2], name)
    assert 9 <= got.counts["images"] <= 10
    assert got.bad() == {"bad_records:truncated_file": 1} and got.counts["bytes_skipped"] > 0


def test_a_flipped_bit_costs_its_own_record_and_nothing_else(tmp_path):
    rng = random.Random(7)
    blocks = [http(png(i) + rng.randbytes(2000)) for i in range(30)]
    # Without digests, so that gzip's own checksum is all there is.
    records = [record(f"http://e.org/{i}.png", block, WARC_Block_Digest="") for i, block in enumerate(blocks)]
    members = [gzip.compress(one) for one in records]
    whole, path = b"".join(members), tmp_path / "flip.warc.gz"
    originals = {f"http://e.org/{i}.png": block for i, block in enumerate(blocks)}
    for _ in range(150):
        at, bit = rng.randrange(len(members[0]), len(whole)), rng.randrange(8)
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        records, gaps = scan(path)
        assert len(records) >= 28, "at worst a flip in a member's first bytes takes its neighbour's end with it"
        assert all(one.block == originals[one.headers["warc-target-uri"]] for one in records), "never a changed byte"
        if len(records) < 30:
            assert sum(gap.records for gap in gaps) >= 1 and sum(gap.skipped for gap in gaps) > 0


def test_a_changed_byte_never_passes_where_many_records_share_a_member(tmp_path):
    rng = random.Random(5)
    blocks = {f"http://e.org/{i}.png": http(png(i) + rng.randbytes(40_000)) for i in range(8)}
    records = [record(url, block, WARC_Block_Digest="") for url, block in blocks.items()]
    first, second, third = (gzip.compress(b"".join(records[at : at + 3]), 0) for at in (0, 3, 6))
    path = tmp_path / "shared.warc.gz"
    for _ in range(20):
        damaged = bytearray(second)
        damaged[rng.randrange(1000, len(second))] ^= 4  # noise is stored as it is: only the checksum sees this
        path.write_bytes(first + damaged + third)
        found, gaps = scan(path)
        names = [one.headers["warc-target-uri"] for one in found]
        assert names == [url for i, url in enumerate(blocks) if i not in (3, 4, 5)]
        assert all(one.block == blocks[one.headers["warc-target-uri"]] for one in found)
        assert [(gap.reason, gap.skipped) for gap in gaps] == [("damaged_record", len(second))]


def test_a_flipped_bit_in_a_plain_file_is_found_by_the_digest_or_the_framing(tmp_path):
    rng = random.Random(11)
    parts = [record(f"http://e.org/{i}.png", http(png(i) + rng.randbytes(500))) for i in range(10)]
    whole = b"".join(parts)
    for number in range(25):
        damaged = bytearray(whole)
        block = rng.randrange(1, 9)
        at = sum(map(len, parts[:block])) + len(parts[block]) - 5 - rng.randrange(400)
        damaged[at] ^= 1 << rng.randrange(8)
        folder = tmp_path / str(number)
        folder.mkdir()
        got = Ingested(folder, bytes(damaged), "a.warc")
        assert got.counts["images"] == 9 and got.bad() == {"bad_records:damaged_record": 1}


def test_junk_between_two_warcs_is_stepped_over(tmp_path):
    first, second, junk = zipped(*images(3)), zipped(*images(6)[3:]), b"junk \x1f\x8b\x08\x00 more junk" * 50
    got = Ingested(tmp_path, first + junk + second)
    assert got.counts["images"] == 6
    assert got.bad() == {"bad_records:damaged_record": 1} and got.counts["bytes_skipped"] == len(junk)


def test_zeros_behind_the_last_member_are_no_damage(tmp_path):
    assert Ingested(tmp_path, zipped(*images(2)) + bytes(5000)).bad() == {}


@pytest.mark.parametrize(
    "data",
    [b"", b"hello world, no WARC", b"BZh9" + bytes(90), b"\x28\xb5\x2f\xfd" + bytes(90),
     gzip.compress(b"hello", mtime=0), b"\x1f\x8b\x08\x00garbage", zipped(*images(1))[:20],
     b"WARC/1.0\r\nno end", gzip.compress(b"", mtime=0)],
)  # fmt: skip
def test_a_file_that_is_no_warc_is_an_error_naming_it(tmp_path, data):
    with pytest.raises(DataError, match=r"a\.warc\.gz: .*a WARC file"):
        Ingested(tmp_path, data)


def test_a_crawl_without_any_answer_is_an_error_of_the_whole_not_of_a_part(tmp_path):
    got = Ingested(tmp_path, zipped(record("http://e.org/", b"GET /", "request")))
    source = SOURCES["warc"](paths=["crawl/*.warc.gz"])
    source.check_total([got.counts, {"responses": 1}])
    with pytest.raises(DataError, match="empty crawl"):
        source.check_total([got.counts, got.counts])


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_never_raises_and_never_hangs(tmp_path, seed):
    rng = random.Random(seed)
    whole = zipped(record("http://e.org/", http(HTML * 20, "text/html")), *images(8))
    for number in range(15):
        data = bytearray(whole if rng.random() < 0.6 else gzip.decompress(whole))
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(20, len(data))
            choice = rng.random()
            if choice < 0.5:
                data[at] = rng.randrange(256)
            elif choice < 0.75:
                del data[at : at + rng.randrange(200)]
            else:
                data[at:at] = rng.randbytes(rng.randrange(200))
        folder = tmp_path / f"{number}"
        folder.mkdir()
        try:
            with ends():
                Ingested(folder, bytes(data))
        except DataError as error:
            assert "a.warc.gz" in str(error)


# -- parts


def test_parts_are_named_by_content_and_settings_not_by_place(tmp_path):
    (tmp_path / "b").mkdir()
    for name, count in (("a.warc.gz", 1), ("b/copy.warc.gz", 1), ("b/other.warc.gz", 2), ("b/notes.txt", 3)):
        (tmp_path / name).write_bytes(zipped(*images(count)))
    source = SOURCES["warc"]
    everything = parts_of(source(paths=[f"{tmp_path}/a.warc.gz", f"{tmp_path}/b", f"{tmp_path}/b/*.warc.gz"]))
    assert len(everything) == 2 and [part.id for part in everything] == sorted(part.id for part in everything)
    assert sorted(part.copies for part in everything) == [0, 1]
    (alone,) = parts_of(source(paths=[f"{tmp_path}/b/copy.warc.gz"]))
    assert alone.id in {part.id for part in everything}
    (other,) = parts_of(source(paths=[f"{tmp_path}/b/copy.warc.gz"], max_text_chars=5))
    assert other.id not in {part.id for part in everything}


@pytest.mark.parametrize("path", ["nothing.warc.gz", "no/folder", "*.warc.gz", "pipe:ls", "|ls"])
def test_a_path_that_names_nothing_is_a_recipe_error_before_any_work(tmp_path, path):
    full = path if path[0] in "p|" else f"{tmp_path}/{path}"
    with pytest.raises(RecipeError, match=r"curate\.sources\.2\.paths\.0"):
        parts_of(SOURCES["warc"](paths=[full]), "curate.sources.2")


def test_a_remote_crawl_reads_as_a_local_one(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://crawl/a.warc.gz", "wb") as file:
        file.write(zipped(*images(3)))
    local = Ingested(tmp_path, zipped(*images(3)))
    for paths in (["memory://crawl/a.warc.gz"], ["memory://crawl"], ["memory://crawl/*.gz"]):
        (part,) = parts_of(SOURCES["warc"](paths=paths))
        assert part.id == local.part
    with PoolSink(str(tmp_path / "remote"), part.id) as sink:
        counts = SOURCES["warc"](paths=paths).ingest(part, sink)
        sink.finish(counts)
    assert counts == local.counts
