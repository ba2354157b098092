"""What names a download: all that was answered, and nothing of how."""

import pytest

from curation.fetch.settings import FetchSettings
from curation.job import make_job
from curation.pool.store import PoolSink
from curation.runner import redirects
from curation.runner.fetching import asking, counting
from curation.runner.fetching.asking import Plan
from curation.settings import CurateSettings
from curation.table.uids import uid_of_url
from tests.helpers.small_crawl import picture

A, B = "http://a.test/1", "http://b.test/2"
IMAGE = {"url": A, "body": picture(1), "content_type": "image/png"}
GONE = {"url": B, "body": None, "status": 404}


def named(folder, answers, mentions=((A, ""), (B, ""))):
    """The count of what these parts (lists of answers) tell of these mentions."""
    plain = {"sources": [{"kind": "warc", "paths": ["none"]}], "output": str(folder), "fetch": True}
    job = make_job(CurateSettings.model_validate(plain), 0, [])
    with PoolSink(job.pool, "0" * 16) as sink:
        for url, uid in mentions:
            sink.occurrence(url=url, text="a text", source="alt", uid=uid)
        sink.finish({})
    parts = []
    for number, rows in enumerate(answers):
        parts.append(f"fetched-{'0' * 16}-{number:016x}")
        with PoolSink(job.pool, parts[-1]) as sink:
            for row in rows:
                sink.image(**row)
            sink.finish({})
    plan = Plan(str(folder / "plan"), FetchSettings(), 1, 1, 1 + len(parts))
    for run, part in enumerate(["0" * 16, *parts]):
        asking.merge(job, plan, run, [part])
    redirects.follow(job, plan.revisits, [], {}, lambda *_: pytest.fail("there are no revisits"))
    asking.asked(job, plan, 0, 0, [])
    return counting.count(job, plan, 0, 1 + len(parts), 1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return named(tmp_path_factory.mktemp("reference"), [[IMAGE, GONE]])


def test_it_counts_by_reason(reference):
    assert reference["counts"] == {"urls": 2, "images_stored": 1, "failed:http_error_404": 1}
    assert reference["bytes"] == len(picture(1)) and reference["passing"] == 0


@pytest.mark.parametrize(
    "same",
    [
        [[GONE, IMAGE]],
        [[GONE], [IMAGE]],
        [[IMAGE, GONE], [IMAGE]],
        [[{**IMAGE, "fetched_at": "2026-01-01T00:00:00Z"}, GONE]],
        [[{"url": A, "body": None, "status": 503}], [{**IMAGE, "fetched_at": "2026-01-01T00:00:00Z"}, GONE]],
        [[IMAGE, GONE, {"url": "http://c.test/of-another-job", "body": picture(3)}]],
    ],
)
def test_order_parts_time_attempts_and_others_leave_no_trace(tmp_path, reference, same):
    assert named(tmp_path, same) == reference


@pytest.mark.parametrize(
    "other",
    [
        [[{**IMAGE, "body": picture(2)}, GONE]],
        [[{**IMAGE, "content_type": "image/gif"}, GONE]],
        [[{**IMAGE, "x_robots_tag": "noindex"}, GONE]],
        [[IMAGE, {**GONE, "status": 410}]],
        [[IMAGE, {**GONE, "status": 0, "problem": "dns"}]],
        [[IMAGE, {**GONE, "status": 0, "problem": "timeout"}]],
        [[IMAGE, {**GONE, "status": 302, "location": A}]],
        [[IMAGE]],
    ],
)
def test_every_other_answer_is_another_input(tmp_path, reference, other):
    assert named(tmp_path, other)["sum"] != reference["sum"]


def test_two_failures_in_passing_are_not_one(tmp_path, reference):
    one = named(tmp_path / "one", [[IMAGE, {**GONE, "status": 0, "problem": "dns"}]])
    other = named(tmp_path / "other", [[IMAGE, {**GONE, "status": 0, "problem": "timeout"}]])
    assert one["passing"] == other["passing"] == 1 and one["sum"] != other["sum"]


def test_a_uid_that_the_input_names_is_that_of_its_answer(tmp_path):
    uid = "f" * 32
    found = named(tmp_path, [[{**IMAGE, "uid": uid}]], [(A, uid)])
    assert found["counts"] == {"urls": 1, "images_stored": 1} and uid != uid_of_url(A)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://www.example.COM/a.png", ".com"), ("https://a.b.de:8443/", ".de"),
        ("http://10.0.0.1/x", "addresses without a name"),
        ("http://[2001:db8::1]/x", "addresses without a name"), ("http://localhost/x", "names of one word"),
        ("http://a.thisisnodomain/x", "others"), ("http://a.xn--p1ai/x", "others"), ("http://example.org./x", ".org"),
        ("http://[broken/x", "others"), ("http://a.b.c1/x", "others"), ("http://\u00fc.\u00fc\u00fc/x", "others"),
    ],
)  # fmt: skip
def test_hosts_are_told_in_few_classes(url, kind):
    assert counting.host_class(url) == kind


def test_counts_by_class_of_host_add_up(tmp_path):
    found = named(tmp_path, [[IMAGE, GONE]])
    assert found["hosts"] == {".test": {"urls": 2, "images_stored": 1, "failed:http_error_404": 1}}
    assert {name: n for name, n in found["counts"].items() if n} == found["hosts"][".test"]
