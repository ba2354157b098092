"""A crawl that says of images only that they are those of another capture: in any files, order and packing."""

import json
import random
import tarfile

import pyarrow.parquet as pq
import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.errors import DataError
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import dictionary, dictionary_frame, framed, http, record, sha1, zipped

HEAD = http(b"", "image/png", "Content-Length: 99999")


def revisit(name, of, body, **more):
    fields = {"WARC_Refers_To_Target_URI": f"http://e.org/{of}"} if of else {}
    fields |= {"WARC_Payload_Digest": sha1(body), "WARC_Date": "2026-03-03T03:04:05Z"}
    return record(f"http://e.org/{name}", more.pop("block", HEAD), "revisit", **{**fields, **more})


def crawl():
    """Captions of a.png to k.png. The file comes again: what refers to it has it, at most by way of others."""
    one, two, three = (picture(n) for n in range(3))
    names = "abcdefghijk"
    html = "".join(f"<img src=/{name}.png alt='a picture named {name}'>" for name in names)
    moved = http(b"", "text/html", "Location: /orig.png", "Content-Length: 7", status="301 Moved")
    gone = http(b"", "text/html", "Content-Length: 9", status="404 Not Found")
    return [
        record("http://e.org/", http(html.encode(), "text/html")),
        record("http://e.org/orig.png", http(one), WARC_Payload_Digest=sha1(one)),
        # The address has had another picture since.
        record("http://e.org/orig.png", http(two), WARC_Payload_Digest=sha1(two), WARC_Date="2026-02-02T03:04:05Z"),
        revisit("a.png", "orig.png", one),
        revisit("b.png", "orig.png", two),
        revisit("c.png", "orig.png", three),  # that address never had it, but another one has
        revisit("d.png", "nowhere.png", one),
        revisit("i.png", "", two),  # refers to nothing, as crawlers write that tell by the digest alone
        revisit("j.png", "", b"what nobody has"),  # lost
        revisit("k.png", "nowhere.png", b"nor this"),  # lost
        record("http://e.org/e.png", http(three)),  # a crawler that writes no digest of payloads
        revisit("e.png", "", three),  # of its own address, as Heritrix and wget write
        revisit("f.png", "orig.png", b"moved!!", block=moved),  # what is equal is the answer of a redirect
        revisit("g.png", "orig.png", b"not found", block=gone),
        # Something else between them, so that files are cut into ranges.
        *(record(f"http://e.org/{n}.bin", http(random.Random(n).randbytes(9000), "text/x")) for n in range(60)),
        revisit("h.png", "a.png", one, WARC_Payload_Digest="SHA-1:" + sha1(one)[5:].lower()),  # of a revisit
    ]


EXPECTED = {name: picture(number) for number, names in enumerate(("adh", "bfi", "ce")) for name in names}


def words(*records):
    known = dictionary(1)
    return dictionary_frame(known, packed=True) + b"".join(framed(one, 3, known) for one in records)


PACKS = {"warc.gz": zipped, "warc": lambda *records: b"".join(records), "warc.zst": words}


def settings(folder, records, cut, kind, range_bytes=None, **more):
    (folder / "in").mkdir(parents=True)
    for number in range(cut):
        (folder / "in" / f"{number}.{kind}").write_bytes(PACKS[kind](*records[number::cut]))
    source = {"kind": "warc", "paths": [str(folder / "in")], "range_bytes": range_bytes}
    plain = {"sources": [source], "output": str(folder / "out"), "ray": {"address": "inline"}, **more}
    return CurateSettings.model_validate(plain)


def outcome(folder, manifest):
    images, found = {}, {}
    for shard in manifest.shards:
        with tarfile.open(folder / "out" / shard.name) as tar:
            members = {name: tar.extractfile(name).read() for name in tar.getnames()}
        images |= {
            json.loads(body)["url"][-5]: members[name.replace(".json", ".png")]
            for name, body in members.items()
            if name.endswith(".json")
        }
    for row in pq.read_table(folder / "out/verdicts").to_pylist():
        found[row["url"][-5:]] = (row["reason"], row["detail"])
    return images, found


def test_each_gets_the_capture_with_the_same_payload_in_any_cut_order_and_packing(tmp_path):
    digests = set()
    cuts = [(1, "warc.gz", 1, None), (3, "warc.zst", 4, None), (7, "warc", 16, None), (12, "warc.gz", 4, None)]
    cuts += [(1, "warc.zst", 2, 64 << 10), (1, "warc", 4, 128 << 10), (2, "warc.gz", 1, 64 << 10)]
    for number, (cut, kind, buckets, ranges) in enumerate(cuts):
        folder, records = tmp_path / str(number), crawl()
        random.Random(number).shuffle(records)
        recipe = settings(folder, records, cut, kind, ranges, buckets=buckets)
        manifest = curate(recipe, name="t", seed=0, quiet=True)
        images, dropped = outcome(folder, manifest)
        assert images == EXPECTED
        assert dropped == {
            "j.png": ("revisit_lost", "http://e.org/j.png"),
            "k.png": ("revisit_lost", "http://e.org/nowhere.png"),
            "g.png": ("http_error", "404"),
        }
        pieces = len(list((folder / "out/_pool/parts").iterdir()))
        assert pieces == cut if ranges is None else pieces > cut + 2
        digests.add(tuple(shard.sha256 for shard in manifest.shards))
    assert len(digests) == 1


@pytest.mark.parametrize("tag", ["a.png", "orig.png"])
def test_who_asks_to_stay_out_in_either_capture_stays_out(tmp_path, tag):
    one, asks = picture(0), {tag: ["X-Robots-Tag: noai"]}
    there = http(one, "image/png", *asks.get("orig.png", []))
    records = [
        record("http://e.org/", http(b"<img src=/a.png alt='a cat'>", "text/html")),
        record("http://e.org/orig.png", there, WARC_Payload_Digest=sha1(one)),
        revisit("a.png", "orig.png", one, block=http(b"", "image/png", *asks.get("a.png", []))),
    ]
    with pytest.raises(DataError, match=r"no pair is left of 1; most went by opt_out\.noai 1"):
        curate(settings(tmp_path, records, 1, "warc.gz", stages=[{"kind": "opt_out"}]), name="t", seed=0, quiet=True)
