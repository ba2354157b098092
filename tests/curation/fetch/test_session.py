"""Many urls of many hosts, asked by threads."""

import time
import urllib.request

import pytest

from curation.fetch.session import Session
from curation.fetch.settings import FetchSettings
from tests.helpers.small_crawl import picture
from tests.helpers.web import LOOPBACK, Says, web

IMAGE = Says(200, picture(1))


def settings(**more):
    plain = {"allow_networks": (LOOPBACK,), "robots_txt": False, "backoff_s": 0.01, "timeout_s": 2.0}
    return FetchSettings(**{**plain, **more})


def reasons(urls, **more):
    with Session(settings(**more)) as session:
        found = list(session.outcomes(urls))
    assert sorted(each.url for each in found) == sorted(urls)
    return {each.url: each.reason for each in found}


def test_no_host_has_more_requests_at_a_time_than_it_may_have():
    with web(default=Says(200, IMAGE.body, wait_s=0.02)) as server:
        urls = [server.url(f"/{n}") for n in range(40)]
        assert set(reasons(urls, host_connections=3, threads=16).values()) == {""}
        assert server.most <= 3


def test_a_slow_host_keeps_no_other_waiting():
    with web(default=Says(200, IMAGE.body, wait_s=1.0)) as slow, web(default=IMAGE) as quick:
        urls = [*(slow.url(f"/{n}") for n in range(8)), *(quick.url(f"/{n}", "localhost") for n in range(200))]
        with Session(settings(allow_networks=(LOOPBACK, "::1/128"), threads=4, host_connections=2)) as session:
            order = [each.url for each in session.outcomes(urls)]
        behind = sum("localhost" not in url for url in order[:150])
        assert behind <= 4  # of the four threads two are for others


def test_what_failed_is_asked_again_and_nothing_else():
    count = {}

    def every_third(path):
        count[path] = count.get(path, 0) + 1
        return Says(503, headers={"Retry-After": "0"}) if int(path[1:]) % 3 == 0 and count[path] == 1 else IMAGE

    with web(default=every_third) as server:
        assert set(reasons([server.url(f"/{n}") for n in range(60)], host_failures=1000).values()) == {""}
        assert count == {f"/{n}": 2 if n % 3 == 0 else 1 for n in range(60)}


def test_a_storm_of_429_is_not_answered_by_one():
    with web(default=Says(429)) as server:
        urls = [server.url(f"/{n}") for n in range(500)]
        assert set(reasons(urls, host_connections=4, max_backoff_s=0.05).values()) == {"http_error 429"}
        assert len(server.asked) < 60


def test_what_is_not_begun_when_time_is_up_is_left_for_the_next():
    with web(default=Says(200, IMAGE.body, wait_s=0.01)) as server:
        urls, until = [server.url(f"/{n}") for n in range(2000)], time.monotonic() + 0.5
        with Session(settings()) as session:
            first = [each.url for each in session.outcomes(urls, lambda: time.monotonic() < until)]
            assert 0 < len(first) < 2000
            rest = [each.url for each in session.outcomes(set(urls) - set(first))]
        assert sorted([*first, *rest]) == sorted(urls) and len(server.asked) == 2000


def test_other_threads_have_the_opener_that_they_had():
    with web({"/a": Says(200, b"plain")}) as server, Session(settings(allow_networks=())) as session:
        assert [each.reason for each in session.outcomes([server.url("/a")])] == ["private_address"]
        with urllib.request.urlopen(server.url("/a")) as reply:
            assert reply.read() == b"plain"


@pytest.mark.parametrize(
    "fault",
    [{"user_agent": ""}, {"user_agent": "a\r\nX: y"}, {"user_agent": "(no name)"}, {"allow_networks": ["10.0.0.1/8"]},
     {"allow_networks": ["here"]}, {"timeout_s": 0}, {"opt_out": ["noway"]}, {"threads": 0}, {"speed": 1}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(fault):
    with pytest.raises(ValueError):
        FetchSettings(**fault)


def test_speed_names_no_other_download_and_policy_does():
    same = [FetchSettings(), FetchSettings(threads=1, timeout_s=1, retries=0, host_rate=1.0, retry=True, min_success=0)]
    others = [
        FetchSettings(robots_txt=False),
        FetchSettings(user_agent="me"),
        FetchSettings(opt_out=()),
        FetchSettings(max_bytes=1),
        FetchSettings(allow_networks=("::1",)),
    ]
    assert len({each.policy() for each in same}) == 1
    assert len({each.policy() for each in [*same, *others]}) == 6


@pytest.mark.timeout(60)
def test_an_error_of_our_own_in_a_thread_is_the_callers_and_nobody_waits_for_ever(monkeypatch):
    def broken(self, wanted):
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Session, "_outcome", broken)
    with pytest.raises(RuntimeError, match="foresaw"), Session(settings()) as session:
        list(session.outcomes(["http://127.0.0.1:9/a"]))
