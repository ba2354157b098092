"""What answers come to."""

import time
from email.utils import formatdate

import pytest

from curation.fetch.engine import Answer
from curation.fetch.outcome import outcome_of, seconds
from curation.fetch.settings import FetchSettings
from tests.helpers.small_crawl import picture

URL = "http://a.test/a.png"


@pytest.mark.parametrize(
    ("answer", "reason", "passing"),
    [
        (Answer(200, body=picture(1)), "", False),
        (Answer(200, body=b"<html>"), "not_image", False),
        (Answer(200), "empty", False),
        (Answer(404), "http_error 404", False),
        (Answer(410), "http_error 410", False),
        (Answer(403, problem="too_big"), "http_error 403", False),
        (Answer(429), "http_error 429", True),
        (Answer(503), "http_error 503", True),
        (Answer(501), "http_error 501", False),
        (Answer(206, body=b"x"), "partial", False),
        (Answer(200, problem="too_big"), "too_big", False),
        (Answer(200, problem="short_body"), "short_body", True),
        (Answer(200, problem="timeout"), "timeout", True),
        (Answer(0, problem="dns"), "dns", True),
        (Answer(0, problem="private_address"), "private_address", False),
        (Answer(200, (("x-robots-tag", "noindex, NOAI"),)), "noai", False),
        (
            Answer(200, (("x-robots-tag", "a"), ("x-robots-tag", "unavailable_after: 2030, noimageai"))),
            "noimageai",
            False,
        ),
        (Answer(200, (("x-robots-tag", "none"),), picture(1)), "", False),
        (Answer(302, (("location", "data:image/png;base64,AAAA"),)), "not_http", False),
        (Answer(200, (("transfer-encoding", "chunked"),), b"ff\r\nno chunk: it came without"), "not_image", False),
    ],
)
def test_every_answer_has_one_reason_and_says_whether_to_ask_again(answer, reason, passing):
    found = outcome_of(URL, answer, FetchSettings())
    assert (found.reason, found.is_passing) == (reason, passing)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no time zones to set")
def test_when_it_was_is_told_in_utc(monkeypatch):
    """As of 1 July 2024, wherever the machine stands."""
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "XXX-09:30")
            time.tzset()
            patch.setattr(time, "time", lambda: 1719792000.9)
            told = {outcome_of(URL, Answer(status), FetchSettings()).fetched_at for status in (200, 404, 0)}
    finally:
        time.tzset()
    assert told == {"2024-07-01T00:00:00Z"}


def test_none_means_noindex_where_that_is_honoured():
    answer = Answer(200, (("x-robots-tag", "none"),))
    assert outcome_of(URL, answer, FetchSettings(opt_out=("noindex",))).problem == "noindex"


def test_a_redirect_that_opts_out_leads_nowhere():
    answer = Answer(302, (("location", "/b"), ("x-robots-tag", "noai")))
    found = outcome_of(URL, answer, FetchSettings())
    assert (found.problem, found.location, found.status) == ("noai", "", 0)


@pytest.mark.parametrize(("status", "wait"), [(503, 9), (429, 9), (404, -1), (200, -1)])
def test_only_what_may_pass_is_waited_for(status, wait):
    assert outcome_of(URL, Answer(status, (("retry-after", "9"),)), FetchSettings()).retry_after == wait


@pytest.mark.parametrize(
    ("text", "wait"), [("", -1), ("7", 7), (" 120 ", 120), ("-3", -1), ("soon", -1), ("9" * 500, 10**9)]
)
def test_retry_after_in_seconds(text, wait):
    assert seconds(text) == wait


def test_retry_after_as_a_date():
    assert 50 < seconds(formatdate(time.time() + 60, usegmt=True)) < 62
    assert seconds(formatdate(time.time() - 60, usegmt=True)) == 0
