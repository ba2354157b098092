"""Every way to write one host, address or hash is one form; what is none is none."""

import pytest

from curation.methods.lists.forms import domains_of, form_of, forms_of, urls_of

DOMAINS = {
    "example.com": "example.com", " Example.COM. ": "example.com", "*.example.com": "example.com",
    ".example.com": "example.com", "example.com:8080": "example.com", "https://example.com/": "example.com",
    "0.0.0.0 ads.example.com": "ads.example.com", "127.0.0.1\tads.example.com": "ads.example.com",
    "bücher.de": "xn--bcher-kva.de", "BÜCHER.de": "xn--bcher-kva.de", "XN--BCHER-KVA.de": "xn--bcher-kva.de",
    "under_score.example.com": "under_score.example.com", "10.0.0.1": "10.0.0.1", "[::1]": "[::1]", "xxx": "xxx",
    "a b": None, "a..b": None, "": None, ".": None, "*": None, "a.*.b": None, "x.org/a": None, "a,b": None,
    "https://x.org/a": None, "ftp://x.org/": None, "http://": None,
}  # fmt: skip
URLS = {
    "http://Example.com:80/a b": None, "HTTP://Example.com:80/%7ea": "http://example.com/~a",
    "https://x.org": "https://x.org/", "x.org/a": "//x.org/a", "//x.org/a": "//x.org/a",
    "https://x.org/a#b": "https://x.org/a", "word": None, "ftp://x.org/a": None, "mailto:a@x.org": None,
}  # fmt: skip


@pytest.mark.parametrize(("entry", "form"), DOMAINS.items())
def test_domains(entry, form):
    assert form_of("domain", entry) == form


@pytest.mark.parametrize(("entry", "form"), URLS.items())
def test_urls(entry, form):
    assert form_of("url", entry) == form


def test_hashes():
    sha = "Ab" * 32
    assert [form_of("sha256", each) for each in (sha, f"{sha}  photo 1.jpg", sha[1:], sha + "0", 7, None)] == [
        sha.lower(), sha.lower(), None, None, None, None
    ]  # fmt: skip
    assert form_of("phash", "0xFFee000000000001") == "ffee000000000001"
    assert form_of("phash", 1) == "0000000000000001" and form_of("phash", -1) == "f" * 16
    assert [form_of("phash", each) for each in ("12", 2**64, True, None, 1.5, "g" * 16)] == [None] * 6


def test_a_host_has_the_domains_above_it_and_a_number_has_none():
    assert domains_of("https://A.b.Bücher.de.:81/x") == [
        "a.b.xn--bcher-kva.de", "b.xn--bcher-kva.de", "xn--bcher-kva.de", "de"
    ]  # fmt: skip
    assert domains_of("http://10.0.0.1/x") == ["10.0.0.1"] and domains_of("http://[::1]/") == ["[::1]"]
    assert domains_of("") == domains_of("nothing") == []


def test_a_url_may_be_listed_with_its_scheme_or_without():
    assert urls_of("HTTPS://x.org:443/%61") == ["https://x.org/a", "//x.org/a"] and urls_of("no") == []


def test_many_at_once_have_the_form_of_each():
    dots = [
        "http://x.org/a/../b.jpg",
        "http://x.org/./b.jpg",
        "http://x.org/.hidden",
        "http://x.org/b.jpg",
        "//x.org/a/..",
    ]
    for of, entries in (("url", [*URLS, *dots]), ("domain", [*DOMAINS])):
        wanted = [form_of(of, each) if each.strip() else "" for each in entries]
        assert forms_of(of, entries) == wanted
