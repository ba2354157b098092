"""Pages: which images they mention, with which texts. selectolax (lexbor) is the oracle where a tree is well formed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from curation.sources.html.attributes import attributes, unescape
from curation.sources.html.charset import codec_of, decode_page
from curation.sources.html.page import best_candidate, read_page
from curation.sources.html.tags import tags
from curation.table.urls import resolve
from tests.helpers.ends import ends
from tests.helpers.lanes import examples, sampled
from tests.helpers.places import shared_files

PAGE = "http://e.org/dir/page.html"


def mentions(text: str, **limits: int) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    page = read_page(text, PAGE, **limits)
    return [(one.url.removeprefix("http://e.org"), one.texts) for one in page.mentions]


ONE_IMAGE = [
    ("<img src=a.png alt=cat>", "/dir/a.png", [("alt", "cat")]),
    ("<IMG SRC='a.png' ALT='a &lt;b&gt; &eacute;'>", "/dir/a.png", [("alt", "a <b> é")]),
    ('<img alt="x > y" src="/a.png?b=1&amp;copy=2">', "/a.png?b=1&copy=2", [("alt", "x > y")]),
    ("<img src=/a.png?b=1&copy=2>", "/a.png?b=1&copy=2", []),
    ("<img src=a.png alt='' title=' ' aria-label=cat>", "/dir/a.png", [("aria-label", "cat")]),
    (
        "<img src=a.png alt=1 title=2 data-image-title=3 aria-label=4>",
        "/dir/a.png",
        [("alt", "1"), ("title", "2"), ("data-image-title", "3"), ("aria-label", "4")],
    ),
    ("<base href=/other/><img src=a.png alt=cat>", "/other/a.png", [("alt", "cat")]),
    ("<base href=/one/><base href=/two/><img src=a.png>", "/one/a.png", []),
    ("<base target=_blank><base href=/two/><img src=a.png>", "/two/a.png", []),
    ("<img src=spacer.gif data-src=real.png alt=cat>", "/dir/real.png", [("alt", "cat")]),
    ("<img src='data:image/gif;base64,R0' data-original=real.png>", "/dir/real.png", []),
    ("<img class=lazy data-lazy-src=real.png>", "/dir/real.png", []),
    ("<noscript><img src=a.png alt=cat></noscript>", "/dir/a.png", [("alt", "cat")]),
    ("<img data-src=a.png alt=cat><noscript><img src=a.png alt=cat></noscript>", "/dir/a.png", [("alt", "cat")]),
    ("<image src=a.png alt=cat>", "/dir/a.png", [("alt", "cat")]),
    ("<figure><img src=a.png alt=x><figcaption>A <b>c</b>at &amp; dog</figcaption></figure>", "/dir/a.png",
     [("alt", "x"), ("figcaption", "A cat & dog")]),
    ("<figure><figcaption>First<br>line</figcaption><img src=a.png></figure>", "/dir/a.png",
     [("figcaption", "First line")]),
    ("<figure><img src=a.png><figcaption>x<script>no()</script><!-- no -->y</figcaption></figure>", "/dir/a.png",
     [("figcaption", "x y")]),
    ("<figure><img src=a.png><figcaption>open", "/dir/a.png", [("figcaption", "open")]),
    ("<img src=a.png alt=cat alt=dog>", "/dir/a.png", [("alt", "cat")]),
    ("<!-- <img src=no.png> --><script>'<img src=no.png>'</script><title><img src=no.png></title><img src=a.png>",
     "/dir/a.png", []),
    ("<template><img src=no.png></template><textarea><img src=no.png></textarea><img src=a.png>", "/dir/a.png", []),
    ("<p title='<img src=no.png>'><img src=a.png>", "/dir/a.png", []),
    ("<img src=a.png><img src=cut.png alt='never closed", "/dir/a.png", []),
    ("<img src=a.png alt='a\x00b\u202ec'>", "/dir/a.png", [("alt", "abc")]),
    ("<img srcset='a.png 1x, a.png 2x' src=a.png alt=cat>", "/dir/a.png", [("alt", "cat")]),
    ("<img src=http://u:p@e.org/a.png>", "/a.png", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "url", "texts"), ONE_IMAGE)
def test_an_image_is_found_with_its_texts(text, url, texts):
    assert mentions(text) == [(url, tuple(texts))]


def test_the_best_candidate_is_mentioned_beside_the_src():
    found = mentions("<img src=s.png srcset='m.png 400w, l.png 800w' alt=x>")
    assert [url for url, _ in found] == ["/dir/s.png", "/dir/l.png"]
    picture = "<picture><source srcset='w.webp 2x'><img src=s.png alt=x></picture><img src=other.png alt=y>"
    assert mentions(picture) == [
        ("/dir/s.png", (("alt", "x"),)), ("/dir/w.webp", (("alt", "x"),)), ("/dir/other.png", (("alt", "y"),)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a.png", "a.png"),
        ("a.png 1x,b.png 1.5x", "b.png"),
        ("b.png 800w, a.png 400w", "b.png"),
        ("a,b.png 1x, c.png 3x", "c.png"),
        ("data:image/png;base64,AA,BB 3x, a.png 1x", "a.png"),
        ("", ""),
        (" , ,", ""),
        ("a.png 1x, b.png 1x", "a.png"),
        ("a.png nonsense, b.png 2x", "b.png"),
        ("a.png 9999999999999w", "a.png"),
    ],
)
def test_the_widest_or_densest_candidate_wins(srcset, expected):
    assert best_candidate(srcset)[0] == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<img src='data:image/png;base64,AA' alt=x>", "bad_mentions:data_url"),
        ("<img src='javascript:x' alt=x>", "bad_mentions:bad_scheme"),
        ("<base href='file:///'><img src=a.png>", "bad_mentions:bad_scheme"),
        ("<img alt=x>", "bad_mentions:no_url"),
        ("<img src='http://[' alt=x>", "bad_mentions:bad_url"),
        (f"<img src={'a' * 100_000}>", "bad_mentions:url_too_long"),
    ],
)
def test_an_image_without_a_usable_address_is_counted_by_reason(text, reason):
    page = read_page(text, PAGE)
    assert page.mentions == []
    assert page.counts == {"mentions": 1, reason: 1}


@pytest.mark.parametrize(
    ("alt", "reason"),
    [("x" * 1_000_000, "text_too_long"), ("bro\ufffdken", "bad_unicode"), ("&#xD800;", "bad_unicode")],
)
def test_a_text_that_is_no_caption_is_counted_and_the_image_stays(alt, reason):
    page = read_page(f"<img src=a.png alt='{alt}' title=cat>", PAGE)
    assert [one.texts for one in page.mentions] == [(("title", "cat"),)]
    assert page.counts == {"mentions": 1, f"bad_texts:{reason}": 1}


def test_a_page_of_too_many_images_keeps_the_first():
    page = read_page("".join(f"<img src={i}.png>" for i in range(50)), PAGE, max_images=20)
    assert len(page.mentions) == 20
    assert page.counts == {"mentions": 50, "bad_mentions:page_cap": 30}


def test_robots_and_language_of_the_page_are_read():
    page = read_page(
        "<html lang=' en-GB'><meta name=ROBOTS content='NoAI, noimageai'><meta name=googlebot content=none>"
        "<meta name=tdm-reservation content=1><meta name=viewport content=x><template><meta name=robots content=y>",
        PAGE,
    )
    assert page.robots == ("noai", "noimageai", "googlebot: none", "tdm-reservation: 1")
    assert page.language == "en-GB"
    assert read_page("<meta http-equiv=content-language content=de>", PAGE).language == "de"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("é".encode(), "text/html; charset=UTF-8", "é"),
        ("é".encode("latin-1"), "text/html; charset=iso-8859-1", "é"),
        ("é".encode("latin-1"), "text/html", "é"),
        ("é".encode(), "text/html", "é"),
        (b"<meta charset=windows-1251>" + "ж".encode("cp1251"), "text/html", "<meta charset=windows-1251>ж"),
        ("é".encode("latin-1"), "text/html; charset=utf-8", "\ufffd"),
        (b"\xef\xbb\xbf" + "é".encode(), "text/html; charset=latin-1", "é"),
        (b"\xff\xfe" + "é".encode("utf-16-le"), "", "é"),
        ("“x”".encode("cp1252"), 'text/html; charset="latin1"', "“x”"),
        ("漢".encode("gb18030"), "text/html; charset=gb2312", "漢"),
        ("é".encode(), "text/html; charset=no-such-thing", "é"),
        (b"a\0b", "text/html", "ab"),
    ],
)
def test_the_character_set_is_found_as_browsers_do(body, content_type, expected):
    assert decode_page(body, content_type) == expected


@pytest.mark.parametrize("label", ["rot13", "zip", "utf-7", "punycode", "unicode_escape", "idna", "\0", "é", "x" * 999])
def test_a_codec_that_is_no_character_set_of_the_web_is_not_used(label):
    assert codec_of(label) is None


HOSTILE = {
    "deep": lambda n: "<div>" * n,
    "formatting": lambda n: "".join(f"<b id={i}>" for i in range(n // 2)) + "<p>" * n,
    "figures": lambda n: "<figure>" * n,
    "captions": lambda n: "<figure><figcaption>a<img src=x>" * (n // 4),
    "unclosed tags": lambda n: "<a " * n,
    "angles": lambda n: "<" * 2 * n,
    "quotes": lambda n: "<a b='\"<a c=\"'" * (n // 4),
    "comments": lambda n: "<!--" * n,
    "scripts": lambda n: "<script>" * n,
    "equals": lambda n: "<a" + "=" * 2 * n,
    "attributes": lambda n: "<img " + "a=b " * n + ">",
    "srcset": lambda n: "<img srcset='" + "a 1x," * n + "'>",
    "ends": lambda n: "</ " * n,
    "sources": lambda n: "<picture>" + ("<source srcset='" + "a 1x," * 500 + "'>") * 300 + "<img src=b>" * n,
    "ampersands": lambda n: "<img alt='" + "&" * n + "&amp" * n + "'>",
    "titles": lambda n: "<title></title" * n,
    "spaces": lambda n: "<img" + " " * 3 * n + "=" + " " * 3 * n,
    "number": lambda n: "<img src=a alt='&#" + "9" * n + ";'>",
    "svg": lambda n: "<svg>" * (n // 2) + "</div>" * (n // 2),
    "svg titles": lambda n: "<svg><title>" * (n // 4) + "</svg>" * (n // 2),
    "templates": lambda n: "<template>" * (n // 2) + "</template>" * (n // 2),
    "cdata": lambda n: "<svg>" + "<![CDATA[" * n,
    "escaped scripts": lambda n: "<script><!--" + "<script>" * n + "-->" * n,
    "misnested": lambda n: "<figure>" + "<b><p>" * (n // 4) + "</b>" * (n // 4),
    "links": lambda n: "<figure>" + "<a><div>" * (n // 4),
    "items": lambda n: "<figure><li><ul>" + "<div>" * (n // 4) + "<li></li>" * (n // 4),
    "tables": lambda n: "<figure>" + "<table><td>" * (n // 4) + "</table>" * (n // 4),
    "forms": lambda n: "<figure><form>" + "<div>" * (n // 4) + "</form><form>" * (n // 4),
    "not to be closed": lambda n: "<figure><y><div>" + "<x>" * (n // 4) + "</y>" * (n // 4),
    "objects": lambda n: "<figure>" + "<object><b>" * (n // 4) + "</b></p>" * (n // 4),
}


@pytest.mark.parametrize(("n", "limit_s"), sampled([(100_000, 20), (300_000, 60)], 0))
@pytest.mark.parametrize("name", sampled(HOSTILE, *range(0, len(HOSTILE), 2)))
def test_no_page_takes_more_than_linear_time(name, n, limit_s):
    page = HOSTILE[name](n)
    with ends(limit_s):  # a tree builder needs minutes for the longer of the first of these
        read_page(page, PAGE)


fragments = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            (
                "<img <IMG src= src=' srcset=\" alt=\" alt=' > /> <!-- --> <script> </script <figure> </figure> "
                "<figcaption> </figcaption> <picture> <source <base href= <meta name=robots content= <template> "
                "</template> <svg> </svg> <title> &amp; &#x0; &#xd800; &copy , 2x 800w data: javascript: http:// "
                "// \\ \x00 \ud800 ' \" < ="
            ).split(" ")
        ),
        st.just(" "),
    ),
    max_size=40,
).map("".join)


@examples(800)
@given(fragments)
def test_any_text_is_read_without_an_exception(text):
    page = read_page(text, PAGE, max_images=5)
    bad = sum(count for name, count in page.counts.items() if name.startswith("bad_mentions:"))
    assert bad <= page.counts["mentions"] or not page.counts
    for one in page.mentions:
        assert one.url.startswith("http")
        assert all(source and text.strip() and "\0" not in text for source, text in one.texts)
    spans = [(start, end) for start, end, _, _ in tags(text)]
    assert all(start < end or start == end for start, end in spans) and spans == sorted(spans)


@examples(300)
@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_are_decoded_without_an_exception(body, content_type):
    assert "\0" not in decode_page(body, content_type)


names = st.sampled_from(["alt", "title", "src", "x-y", "ALT"])
values = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=12)


@examples(400)
@given(st.lists(st.tuples(names, values, st.sampled_from("\"'")), max_size=5))
def test_attributes_read_as_a_tree_builder_reads_them(items):
    written = " ".join(f"{name}={quote}{value.replace(quote, '')}{quote}" for name, value, quote in items)
    node = LexborHTMLParser(f"<img {written}>").css_first("img")
    (_, _, name, found), *_ = tags(f"<img {written}>")
    ours = {key: unescape(value, attribute=True) for key, value in attributes(found).items()}
    assert name == "img"
    assert ours == {key: value or "" for key, value in node.attributes.items()}


def test_every_image_of_the_real_crawl_is_found_as_a_tree_builder_finds_it():
    from curation.sources.warc.http_message import parse_response
    from curation.sources.warc.records import read_records

    (file,) = shared_files("crawl/crawl-00003.warc.gz")
    pages = images = 0
    for item in read_records(str(file), 20 << 20):
        response = parse_response(item.block) if item.headers["warc-type"] == "response" else None
        if response is None or response.status != 200 or response.first("content-type") != "text/html":
            continue
        url, text = item.headers["warc-target-uri"].strip("<>"), decode_page(response.raw, "text/html")
        page = read_page(text, url, max_images=10**6)
        expected = set()
        for node in LexborHTMLParser(text).css("img"):
            found, _ = resolve(url, node.attributes.get("src") or "")
            alt = node.attributes.get("alt") or ""
            expected |= {(found, alt)} if found and alt.strip() else set()
        ours = {(one.url, text) for one in page.mentions for source, text in one.texts if source == "alt"}
        assert expected <= ours, url
        assert {url for url, _ in ours} == {url for url, _ in expected}, url
        pages, images = pages + 1, images + len(expected)
    assert pages == 685 and images > 1000
