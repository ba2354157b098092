import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import urls
from curation.table.urls import MAX_URL_CHARS, canonical_url, resolve

PAGE = "http://example.com/dir/page.html"

GOLDEN = [
    ("a.png", "http://example.com/dir/a.png"),
    ("/a.png", "http://example.com/a.png"),
    ("../a b.png", "http://example.com/a%20b.png"),
    ("//Cdn.Example.COM/x.jpg", "http://cdn.example.com/x.jpg"),
    ("https://e.org:443/x.jpg", "https://e.org/x.jpg"),
    ("http://e.org:80/./b/../x.jpg#part", "http://e.org/x.jpg"),
    ("http://user:secret@e.org/x.jpg", "http://e.org/x.jpg"),
    ("  \n x.jpg\t", "http://example.com/dir/x.jpg"),
    ("images\\x.jpg", "http://example.com/dir/images/x.jpg"),
    ("/é.png", "http://example.com/%C3%A9.png"),
    ("/%c3%a9.png", "http://example.com/%C3%A9.png"),
    ("/%7Euser/%41.png", "http://example.com/~user/A.png"),
    ("/100%.png", "http://example.com/100%25.png"),
    ("/a.png?x=1&y=%20", "http://example.com/a.png?x=1&y=%20"),
    ("http://bücher.example/a.png", "http://xn--bcher-kva.example/a.png"),
    ("http://0x7f.1/a.png", "http://127.0.0.1/a.png"),
]

REFUSED = [
    ("data:image/png;base64,AAAA", "data_url"),
    (" DATA:image/png,x", "data_url"),
    ("javascript:alert(1)", "bad_scheme"),
    ("blob:http://e.org/1", "bad_scheme"),
    ("cid:part1", "bad_scheme"),
    ("ftp://e.org/a.png", "bad_scheme"),
    ("file:///etc/passwd", "bad_scheme"),
    ("http://e.org\\@169.254.169.254/", "bad_url"),
    ("//e.org\\@169.254.169.254/", "bad_url"),
    ("http://[::1%25eth0]/", "bad_url"),
    ("http://e.org:99999/", "bad_url"),
    ("http://a b/", "bad_url"),
    ("\ud800.png", "bad_url"),
    ("", "no_url"),
    ("http://e.org/" + "a" * MAX_URL_CHARS, "url_too_long"),
    ("http://e.org/" + "é" * (MAX_URL_CHARS // 3), "url_too_long"),
]


@pytest.mark.parametrize(("href", "expected"), GOLDEN)
def test_an_address_has_one_canonical_form(href, expected):
    assert resolve(PAGE, href) == (expected, "")
    assert resolve("", expected) == (expected, "")


@pytest.mark.parametrize(("href", "reason"), REFUSED)
def test_what_is_no_image_address_is_refused_by_reason(href, reason):
    assert resolve(PAGE, href) == ("", reason)
    assert canonical_url(PAGE, href) is None


def test_an_inlined_image_of_30_mb_costs_nothing():
    huge = "data:image/png;base64," + "A" * 30_000_000
    long = "x" * 30_000_000
    tracemalloc.start()  # a look at all of it would show as a copy
    assert resolve(PAGE, huge) == ("", "data_url")
    assert resolve(PAGE, long) == ("", "url_too_long")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


words = ["http:", "//", "%", "%41", "%2e", "..", "/", "\\", "@", "?", "#", ":80", "[", "é"]
pieces = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(words)), max_size=12).map("".join)


@settings(max_examples=600, deadline=None)
@given(pieces, st.sampled_from([PAGE, "", "file:///x", "nonsense"]))
def test_any_text_gives_a_canonical_url_or_a_reason_and_never_raises(href, base):
    url, reason = resolve(base, href)
    assert bool(url) != bool(reason)
    if url:
        assert url.startswith(("http://", "https://")) and url.isascii() and "#" not in url
        assert resolve("", url) == (url, ""), "the canonical form of a canonical url is itself"


plain_pieces = st.lists(
    st.sampled_from(
        ["http://", "https://", "HTTP://", "a.com", "b-c.org", "xn--a.com", "A.com", "1.2", "a.1", "-a.com", "a-.com"]
        + ["/", "//", "/x", "/.", "/..", "/.x", ".", "x-1_2.jpg", "~", ";a=b", ":80", ":", "?", "?q=1&r=/..", "!$()*+,"]
        + ["#", "%20", "\\", "@", "'", '"', " ", "|", "^", "é", "a..com", "a.com."]
    ),
    max_size=7,
).map("".join)
BASES = [PAGE, "", "https://h.org:8443/p?q", "http://U@h.org/", "http://h.org", "file:///x", "x", "http://EX.org/A"]


@settings(max_examples=3000, deadline=None)
@given(plain_pieces, st.sampled_from(BASES))
def test_the_short_way_for_plain_addresses_gives_what_the_parser_gives(href, base):
    assert resolve(base, href) == urls._parse(base, href)
