"""robots.txt as RFC 9309 says, against servers that answer it in every way."""

import pytest

from curation.fetch.session import Session
from curation.fetch.settings import FetchSettings
from tests.helpers.small_crawl import picture
from tests.helpers.web import LOOPBACK, Says, web

IMAGE = Says(200, picture(1))


def asked(server, paths, known=None, **more):
    """Path -> reason, and what the session knows in the end."""
    plain = {"allow_networks": (LOOPBACK,), "user_agent": "tests-bot/1.0", "backoff_s": 0.01, "retries": 1}
    with Session(FetchSettings(**{**plain, **more}), known) as session:
        found = {each.url: each.reason for each in session.outcomes([server.url(path) for path in paths])}
        return [found[server.url(path)] for path in paths], session.plain()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("User-agent: *\nDisallow: /", "robots_txt"),
        ("user-agent: TESTS-BOT\ndisallow: /a", "robots_txt"),
        ("User-agent: other\nDisallow: /", ""),
        ("User-agent: tests-bot\nAllow: /a.png\nDisallow: /\n\nUser-agent: *\nDisallow: /", ""),
        ("User-agent: *\nDisallow: /*.png$", "robots_txt"),
        ("User-agent: *\nDisallow: /%61.png", "robots_txt"),
        ("User-agent: *\nDisallow:", ""),
        ("\ufeffUser-agent: *\r\nDisallow: /a", "robots_txt"),
        ("<html>a page for everything</html>", ""),
        ("\x00\xff\x00 nothing that is text", ""),
        ("", ""),
        ("# " + "x" * (450 << 10) + "\nUser-agent: *\nDisallow: /", "robots_txt"),
        ("# " + "x" * (600 << 10) + "\nUser-agent: *\nDisallow: /", ""),
    ],
)
def test_what_it_forbids_is_not_asked(text, reason):
    with web({"/robots.txt": Says(200, text.encode()), "/a.png": IMAGE}) as server:
        assert asked(server, ["/a.png"])[0] == [reason]
        assert server.paths()["/a.png"] == (not reason)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, ""), (401, ""), (403, ""), (410, ""), (204, ""), (429, "robots_unreachable"), (500, "robots_unreachable"),
     (503, "robots_unreachable")],
)  # fmt: skip
def test_what_cannot_be_had_forbids_all_and_what_is_not_there_allows_all(status, reason):
    with web({"/robots.txt": Says(status), "/a.png": IMAGE}) as server:
        assert asked(server, ["/a.png"])[0] == [reason]
        assert server.paths()["/a.png"] == (not reason)


def test_it_is_asked_again_once_it_has_failed_and_then_not_any_more():
    answers = iter([Says(503), Says(200, b"User-agent: *\nDisallow: /no")])
    with web({"/robots.txt": lambda path: next(answers), "/a": IMAGE, "/b": IMAGE, "/no/c": IMAGE}) as server:
        assert asked(server, ["/a", "/b", "/no/c"])[0] == ["", "", "robots_txt"]
        assert server.paths() == {"/robots.txt": 2, "/a": 1, "/b": 1}


def test_its_redirects_are_followed_to_where_one_may_ask():
    rules = Says(200, b"User-agent: *\nDisallow: /a")
    for target, reason in (
        ("/rules", "robots_txt"),
        ("http://10.0.0.1/rules", "robots_unreachable"),
        ("file:///x", ""),
    ):
        hops = {"/robots.txt": Says(301, headers={"Location": target}), "/rules": rules, "/a": IMAGE}
        with web(hops) as server:
            assert asked(server, ["/a"])[0] == [reason]
    with web({"/robots.txt": Says(302, headers={"Location": "/robots.txt"}), "/a": IMAGE}) as server:
        assert asked(server, ["/a"])[0] == [""]  # RFC 9309: after five hops it may be taken as not there
        assert server.paths()["/robots.txt"] == 6


def test_it_is_asked_once_and_remembered_for_the_next_session():
    with web({"/robots.txt": Says(200, b"User-agent: *\nDisallow: /no"), "/a": IMAGE, "/no": IMAGE}) as server:
        paths = ["/a", *(f"/{n}" for n in range(30)), "/no"]
        _, known = asked(server, paths)
        assert server.paths()["/robots.txt"] == 1
        assert asked(server, ["/a", "/no"], known)[0] == ["", "robots_txt"]
        assert server.paths()["/robots.txt"] == 1
        old = {**known, "rules": {name: (0.0, text) for name, (_, text) in known["rules"].items()}}
        asked(server, ["/a"], old)
        assert server.paths()["/robots.txt"] == 2  # a day has passed


def test_a_server_that_is_not_there_is_that_and_no_rule():
    with web() as server:
        url = server.url("/a")
    with Session(FetchSettings(allow_networks=(LOOPBACK,), backoff_s=0.01)) as session:
        assert [each.reason for each in session.outcomes([url, url + "b"])] == ["connect"] * 2


def test_who_says_so_is_not_asked_for_it():
    with web({"/robots.txt": Says(200, b"User-agent: *\nDisallow: /"), "/a": IMAGE}) as server:
        assert asked(server, ["/a"], robots_txt=False)[0] == [""]
        assert server.paths() == {"/a": 1}


def test_a_crawl_delay_is_kept():
    with web(
        {"/robots.txt": Says(200, b"User-agent: *\nCrawl-delay: 0.2"), "/a": IMAGE, "/b": IMAGE, "/c": IMAGE}
    ) as server:
        assert asked(server, ["/a", "/b", "/c"])[0] == [""] * 3
        times = [at for at, path in server.asked if path != "/robots.txt"]
        assert times[2] - times[1] > 0.15
        with_delay = len(server.asked)
        asked(server, ["/a", "/b", "/c"], crawl_delay=False)
        assert len(server.asked) == with_delay + 4
