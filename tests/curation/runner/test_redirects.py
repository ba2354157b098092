"""Redirects cross parts, buckets and slots: what comes out is what one plain loop over all records says."""

import hashlib
import json
import os
import random
import tarfile
from collections import Counter, namedtuple

import pyarrow.parquet as pq
import pytest

from curation.job import make_job
from curation.pool.store import PoolSink, part_counts
from curation.runner import joined, redirects, resume
from curation.runner.driver import curate
from curation.runner.redirects import Trail
from curation.settings import CurateSettings
from curation.table.uids import uid_of_url
from pipeline.errors import DataError
from tests.helpers.lanes import sampled
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import http, record, sha1, zipped

EQUAL = namedtuple("EQUAL", "url payload")
"""What a revisit says: the same bytes as a capture of `url`, where there is one with that payload, else of any url."""
URLS = [f"http://site.test/{n}" for n in range(8)]
BODIES = [picture(n, side=8) for n in range(3)]


def any_records(rng):
    """(captures, mentions): redirects among few urls, so that they meet, chain and loop."""
    captures, urls = [], URLS[: rng.randint(2, len(URLS))]
    for _ in range(rng.randint(1, 16)):
        body, revisit = (
            rng.choice(BODIES),
            EQUAL(rng.choice(urls), rng.choice([*map(payload_of, BODIES), ""])),
        )
        says = rng.choice([body, body, revisit, revisit, rng.choice(urls), rng.choice(urls), 404, 302])
        tag = rng.choice(["", "r", "s", "t"])
        captures.append({"url": rng.choice(urls), "says": says, "fetched_at": rng.choice("012"), "x_robots_tag": tag})
    return captures, [rng.choice(urls) for _ in range(rng.randint(0, 5))]


def payload_of(body):
    return hashlib.md5(body).hexdigest()[:16]


# -- the oracle


def worth(answer):
    says = answer["says"]
    kind = 0 if isinstance(says, bytes) else 1 if isinstance(says, str | EQUAL) else 2
    if isinstance(says, EQUAL):  # status 0 comes before that of a redirect
        return kind, -int(answer["fetched_at"]), says.url, 0, says.payload
    content = says if kind else hashlib.sha256(says).hexdigest()
    return kind, -int(answer["fetched_at"]), content, 302, ""


def expected(captures, mentioned):
    """url of every pair -> (reason, detail, sha256, tags), by looking through all records at every step."""
    of = {u: sorted((c for c in captures if c["url"] == u), key=worth) for u in URLS}
    stored = {u for u in URLS if of[u] and worth(of[u][0])[0] == 0}
    pairs, reached = {}, set()
    for u in mentioned:
        at, tags, hops, wanted = u, set(), 0, ""
        while True:
            tags |= {c["x_robots_tag"] for c in of[at]} - {""}
            there = [c for c in of[at] if not wanted or has(c, wanted) and c["says"] != EQUAL(at, wanted)]
            kind, _, content, _, payload = worth(there[0]) if there else (3, 0, "", 0, "")
            if kind != 1 or hops == 5:
                break
            at, hops, wanted = content, hops + 1, payload if isinstance(there[0]["says"], EQUAL) else ""
        is_lost = not there or kind == 1 and isinstance(there[0]["says"], EQUAL)
        any_url = [c for c in captures if isinstance(c["says"], bytes) and payload_of(c["says"]) == wanted]
        if is_lost and any_url:  # a revisit that leads nowhere gets any capture of its payload
            found = min(any_url, key=lambda c: uid_of_url(c["url"]))
            at, kind, there, content = found["url"], 0, [found], hashlib.sha256(found["says"]).hexdigest()
            tags |= {c["x_robots_tag"] for c in of[at]} - {""}
        reached |= {at} - {u} if kind == 0 else set()
        if not there:
            lost = "revisit_lost" if wanted else "redirect_lost"
            pairs[u] = (lost, at, "", tags) if hops else ("image_missing", None, "", tags)
        elif kind == 1:
            pairs[u] = ("revisit_lost" if isinstance(there[0]["says"], EQUAL) else "redirect_loop", at, "", tags)
        else:
            pairs[u] = (None, None, content, tags) if kind == 0 else ("http_error", str(content), "", tags)
    for u in stored - set(mentioned) - reached:
        tags = {c["x_robots_tag"] for c in of[u]} - {""}
        pairs[u] = ("no_caption", None, worth(of[u][0])[2], tags)
    return pairs


def has(capture, payload):
    says = capture["says"]
    return (
        says.payload == payload if isinstance(says, EQUAL) else isinstance(says, bytes) and payload_of(says) == payload
    )


# -- the real thing


def inline(job):
    def do(calls, label, unit):
        for call in calls:
            yield call, call.function(job, *call.args)

    return do


def job_of(folder, parts, buckets):
    plain = {"sources": [{"kind": "warc", "paths": ["a.warc"]}], "output": folder, "buckets": buckets}
    return make_job(CurateSettings.model_validate(plain), 0, parts)


def made(folder, parts, buckets):
    """url of every pair -> (reason, detail, sha256, tags), from parts of (captures, mentions)."""
    job = job_of(folder, [f"{n}" for n in range(len(parts))], buckets)
    for name, (captures, mentions) in enumerate(parts):
        with PoolSink(job.pool, f"{name}") as sink:
            for said in mentions:
                sink.occurrence(url=said, text="a cat", source="alt")
            for answer in captures:
                more, says = {k: v for k, v in answer.items() if k != "says"}, answer["says"]
                body, location = (says if isinstance(says, bytes) else b""), (says if isinstance(says, str) else "")
                if isinstance(says, EQUAL):
                    sink.image(body=None, status=0, location=says.url, payload=says.payload, problem="revisit", **more)
                    continue
                status, payload = 200 if body else 302 if location else says, payload_of(body) if body else ""
                sink.image(body=body, status=status, location=location, payload=payload, **more)
            sink.finish({})
    joined.make(job, {part: part_counts(job.pool, part) for part in job.parts}, inline(job))
    found = {}
    for bucket in range(buckets):
        pairs, verdicts = joined.read(job, bucket)
        reasons = zip(verdicts.reason.to_pylist(), verdicts.detail.to_pylist(), strict=True)
        for row, why in zip(pairs.to_pylist(), reasons, strict=True):
            assert row["url"] not in found, "every uid ends in one outcome"
            found[row["url"]] = (*why, row["image_sha256"], set(filter(None, row["x_robots_tag"].split(", "))))
    return found


@pytest.mark.parametrize("slot_rows", sampled([1, 3, redirects.SLOT_ROWS], 1))
def test_pairs_are_those_of_a_plain_loop_whatever_parts_buckets_and_slots(slot_rows, tmp_path, monkeypatch):
    rng = random.Random(slot_rows)
    monkeypatch.setattr(redirects, "SLOT_ROWS", slot_rows)
    seen = Counter()
    for trial in range(25):
        captures, mentions = any_records(rng)
        parts = [([], []) for _ in range(rng.randint(1, 4))]
        for at, rows in enumerate((captures, mentions)):
            for row in rng.sample(rows, len(rows)):
                rng.choice(parts)[at].append(row)
        told = expected(captures, mentions)
        assert made(str(tmp_path / f"{trial}"), parts, 2 ** rng.randint(0, 3)) == told, (captures, mentions)
        seen.update(reason for reason, *_ in told.values())
    assert {None, "redirect_lost", "redirect_loop", "revisit_lost", "http_error", "no_caption"} <= set(seen)


@pytest.mark.parametrize(
    ("rows", "buckets", "slots"),
    [(0, 16, 1), (200_000, 16, 1), (200_001, 16, 2), (900_000, 16, 8), (9_000_000, 16, 16)],
)
def test_slots_are_as_many_as_hold_the_redirects(rows, buckets, slots):
    assert redirects._slots(rows, buckets) == slots


def test_an_input_without_redirects_is_not_looked_through(tmp_path):
    job = job_of(str(tmp_path), ["p"], 4)
    counts = {"p": {"images_stored": 3}}
    redirects.follow(job, Trail.of_join(job), [["p"]], counts, lambda calls, *_: pytest.fail("no work is due"))
    assert [redirects.followed(job, Trail.of_join(job), bucket).found.num_rows for bucket in range(4)] == [0] * 4


def test_a_join_before_redirects_are_followed_is_an_error_naming_the_file(tmp_path):
    with pytest.raises(DataError, match=r"followed\.json: is not there"):
        job = job_of(str(tmp_path), ["p"], 4)
        redirects.followed(job, Trail.of_join(job), 0)


# -- from a crawl to shards


def crawl():
    """Mentions of /a, /b, /c; /a leads by two relative redirects to the image, /b asks to stay out, /c is a loop."""
    html = b"<img src=/a.png alt='a cat'><img src=/b.png alt='a dog'><img src=/c.png alt='a bird'>"

    def moved(name, location, *more):
        fields = ["Location: " + location, *more]
        return record(f"http://e.org/{name}", http(b"moved", "text/html", *fields, status="301 Moved"))

    return [
        record("http://e.org/", http(html, "text/html")),
        moved("a.png", "new/a.png#x"),
        moved("new/a.png", "../%61/1.png"),
        record("http://e.org/a/1.png", http(picture(1))),
        moved("b.png", "/mid", "X-Robots-Tag: noai"),
        moved("mid", "//e.org/2.png"),
        record("http://e.org/2.png", http(picture(2))),
        moved("c.png", "c.png"),
    ]


def recipe(folder, records, cut, **more):
    os.makedirs(folder / "in", exist_ok=True)
    for number in range(cut):
        (folder / "in" / f"{number}.warc.gz").write_bytes(zipped(*records[number::cut]))
    source = {"kind": "warc", "paths": [str(folder / "in")]}
    plain = {"sources": [source], "stages": [{"kind": "opt_out"}], "output": str(folder / "out"), "buckets": 4}
    return CurateSettings.model_validate({**plain, "ray": {"address": "inline"}, **more})


@pytest.mark.parametrize(("cut", "buckets"), sampled([(1, 1), (3, 4), (8, 16)], 1))
def test_a_redirected_image_reaches_the_shards_under_the_mentioned_url(tmp_path, cut, buckets):
    manifest = curate(recipe(tmp_path, crawl(), cut, buckets=buckets), name="t", seed=0, quiet=True)
    drops = {stage.name: stage.drops for stage in manifest.stages}
    assert drops == {"pool": {"redirect_loop": 1}, "opt_out": {"noai": 1}, "emit": {}} and manifest.num_pairs == 1
    with tarfile.open(tmp_path / "out" / manifest.shards[0].name) as tar:
        files = {name.rpartition(".")[2]: tar.extractfile(name).read() for name in tar.getnames()}
    assert files["png"] == picture(1) and json.loads(files["json"])["url"] == "http://e.org/a.png"
    verdicts = pq.read_table(tmp_path / "out/verdicts").to_pylist()
    assert {row["url"][-5:]: row["detail"] for row in verdicts} == {"b.png": None, "c.png": "http://e.org/c.png"}


def test_what_was_followed_before_a_crash_is_checked_and_made_again_where_damaged(tmp_path, monkeypatch):
    page = record("http://e.org/more", http(b"<img src=/d.png alt='a fish'>", "text/html"))
    told = record("http://e.org/d.png", http(b""), "revisit", WARC_Payload_Digest=sha1(picture(2)))  # by that alone
    records = [*crawl(), page, told]
    whole = curate(recipe(tmp_path / "whole", records, 3), name="t", seed=0, quiet=True)
    settings = recipe(tmp_path, records, 3)

    def cut_off(*_):
        raise KeyboardInterrupt

    files = ["*.found.parquet", "*.asked.pack", "followed.json", "*.lost.pack", "originals-*.pack"]
    for name in files:
        with monkeypatch.context() as patch:
            patch.setattr(joined, "join_rows", cut_off)
            with pytest.raises(KeyboardInterrupt):
                curate(settings, name="t", seed=0, quiet=True)
        (folder,) = (tmp_path / "out/_work").glob("redirects-*")
        path = sorted(folder.glob(name))[0]
        path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    assert curate(settings, name="t", seed=0, quiet=True).digest() == whole.digest()
    assert not list((tmp_path / "out/_work").glob("redirects-*"))


def test_hops_that_are_done_are_not_done_again(tmp_path, monkeypatch):
    captures = [{"url": URLS[0], "says": URLS[1]}, {"url": URLS[1], "says": BODIES[0]}]
    captures.append({"url": URLS[2], "says": EQUAL(URLS[2], payload_of(BODIES[0]))})
    parts = [(captures, [URLS[0], URLS[2]])]
    job = job_of(str(tmp_path), ["0"], 2)
    with monkeypatch.context() as patch:
        patch.setattr(joined.storage, "remove", lambda *_, **__: None)  # as when a run is killed before that
        made(str(tmp_path), parts, 2)
    asked = []
    monkeypatch.setattr(redirects.redirects, "ask", lambda *_: asked.append(1))
    for name in ("step", "originals", "ask_originals"):
        monkeypatch.setattr(redirects.redirects, name, lambda *_: asked.append(1))
    (tmp_path / "_work" / os.path.basename(job.redirects_folder) / "followed.json").unlink()
    redirects.follow(job, Trail.of_join(job), [["0"]], {"0": part_counts(job.pool, "0")}, inline(job))
    done = [url for url in resume.recheck_segments(job, inline(job)) if job.redirects_folder in url]
    assert asked == [] and len(done) == len(list((tmp_path / "_work").glob("redirects-*/*.json")))
    assert redirects.one_slot(job, Trail.of_join(job), 0, 0, 1, [0], [0])["asked"] == 2
    assert sum(redirects.followed(job, Trail.of_join(job), bucket).found.num_rows for bucket in range(2)) == 2
