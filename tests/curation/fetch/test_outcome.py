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
    ],
)
def test_every_answer_has_one_reason_and_says_whether_to_ask_again(answer, reason, passing):
    found = outcome_of(URL, answer, FetchSettings())
    assert (found.reason, found.is_passing) == (reason, passing)


def test_none_means_noindex_where_that_is_honoured():
    answer = Answer(200, (("x-robots-tag", "none"),))
    assert outcome_of(URL, answer, FetchSettings(opt_out=("noindex",))).problem == "noindex"


def test_a_redirect_that_opts_out_leads_nowhere():
    answer = Answer(302, (("location", "/b"), ("x-robots-tag", "noai")))
    found = outcome_of(URL, answer, FetchSettings())
    assert (found.problem, found.location, found.status) == ("noai", "", 0)


@pytest.mark.parametrize(
    ("text", "wait"), [("", -1), ("7", 7), (" 120 ", 120), ("-3", -1), ("soon", -1), ("9" * 500, 10**9)]
)
def test_retry_after_in_seconds(text, wait):
    assert seconds(text) == wait


def test_retry_after_as_a_date():
    assert 50 < seconds(formatdate(time.time() + 60, usegmt=True)) < 62
    assert seconds(formatdate(time.time() - 60, usegmt=True)) == 0
