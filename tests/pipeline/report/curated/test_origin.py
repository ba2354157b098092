"""Download and sources: rates are of what was asked for, and nothing is counted twice."""

from pipeline.report.curated.origin import downloaded, sources
from pipeline.report.limits import Limits
from pipeline.report.schemas import Download, Source, Summary

FAILED = {"failed:http_error_404": 20, "failed:robots_txt": 10, "failed:noai": 5}
COUNTS = {"urls": 100, "images_stored": 60, "redirects": 5, **FAILED}


def test_the_rate_is_of_those_that_were_asked_for():
    hosts = {".com": COUNTS, "others": {"urls": 1, "images_stored": 1}}
    found = downloaded(Download(counts=COUNTS, hosts=hosts, not_asked=["robots_txt", "port"]), Limits())
    assert (found.urls, found.asked, found.had) == (100, 90, 65)
    assert sum(each.count for each in found.outcomes) == 100
    assert [each.label for each in found.outcomes if not each.was_asked] == ["robots txt"]
    assert [(row.label, row.urls, row.had) for row in found.hosts] == [(".com", 100, 65), ("others", 1, 1)]
    assert found.hosts[0].reasons[0] == ("http error 404", 20)


def test_who_was_not_asked_is_what_the_download_says():
    found = downloaded(Download(counts=COUNTS, hosts={}, not_asked=["noai"]), Limits())
    assert found.asked == 95 and [each.label for each in found.outcomes if not each.was_asked] == ["noai"]


def test_sources_are_told_by_kind_with_their_files():
    told = [
        Source(kind="warc", parts=3, bytes=10, counts={"pages": 4, "bad_bodies:not_image": 2}),
        Source(kind="table"),
    ]
    found = sources(Summary(pairs_in=1, pairs_kept=1, sources=told), Limits())
    assert [(row.part, row.path) for row in found.rows] == [("0", "warc"), ("1", "table")]
    assert dict(found.rows[0].counts) == {"files": 3, "pages": 4} and found.rows[0].bad == (("bodies: not image", 2),)
    assert sources(Summary(pairs_in=1, pairs_kept=1), Limits()) is None
