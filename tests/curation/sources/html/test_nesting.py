"""What is open where a tag stands: svg, math, templates, scripts and misnested tags hide, show and caption images as in
browsers. The answers are the HTML standard's, written by hand; for soups of tags lexbor's tree is the oracle."""

import random

import pytest
from selectolax.lexbor import LexborHTMLParser

from curation.sources.html.page import read_page

PAGE = "http://e.org/"
A = "<img src=a>"

SEEN = [
    # a <template> of svg hides nothing, one of HTML does, whatever svg stands in or around it
    (f"<svg><template>{A}", "a"),
    (f"<svg><template></template></svg>{A}", "a"),
    (f"<template><svg></template>{A}", "a"),
    (f"<template>{A}<svg></template>", ""),
    (f"<svg/><template>{A}</template>", ""),
    (f"<svg><desc><template>{A}</template>", ""),
    (f"<template><template></template>{A}</template><img src=b>", "b"),
    (f"<template></template></template>{A}", "a"),
    # escaped scripts: between <!-- and -->, a <script> takes the next end tag for itself
    (f"<script><!--<script></script>{A}", ""),
    (f"<script><!--<script></script>{A}</script><img src=b>", "b"),
    (f"<script><!--<script>--></script>{A}", "a"),
    (f"<script><!--<script ></SCRIPT/><SCRIPT></script></script>{A}", "a"),
    (f"<script><!--<scripts></script>{A}", "a"),
    (f"<script><!--><script></script>{A}", "a"),
    (f"<script><!---><script></script>{A}", "a"),
    (f"<script><!--<script><!--></script>{A}", "a"),
    (f"<script><!-- --><script></script>{A}", "a"),
    (f"<script>--><script></script>{A}", "a"),
    (f"<style><!--<style></style>{A}", "a"),
    # comments
    (f"<!-->{A}-->", "a"),
    (f"<!--->{A}-->", "a"),
    (f"<!--x--!>{A}", "a"),
    (f"<!--x--!->{A}", ""),
    (f"<!--!>{A}-->", ""),
    (f"<!--<!-->{A}", "a"),
    # raw text, in HTML and in svg
    (f"<title>{A}</TITLE ><img src=b>", "b"),
    (f"<svg><title>{A}</title>", "a"),
    (f"<svg><title><title>{A}</title><image src=b>", "b"),
    (f"<svg><style>{A}", "a"),
    (f"<svg><script>{A}", "a"),
    (f"<svg><desc><style>{A}</style>", ""),
    (f"<math><mi><xmp>{A}</xmp>", ""),
    (f"<svg><textarea>{A}", "a"),
    (f"<svg><p><textarea>{A}", ""),
    (f"<svg><font><textarea>{A}", "a"),
    (f"<svg><font size=1><textarea>{A}", ""),
    (f"<noscript>{A}</noscript>", "a"),
    *((f"<{name}>{A}</{name}><img src=b>", "b") for name in ("iframe", "noembed", "noframes", "xmp", "textarea")),
    (f"<plaintext>{A}</plaintext>{A}", ""),
    (f"<svg><plaintext>{A}", "a"),
    # CDATA is text in svg and math only
    (f"<svg><![CDATA[{A}]]><p><img src=b>", "b"),
    (f"<![CDATA[{A}]]>", ""),
    (f"<svg></svg><![CDATA[x>{A}]]>", "a"),
    (f"<svg><![cdata[x>{A}", "a"),
    # <image> is an image of HTML alone
    ("<image src=a>", "a"),
    ("<svg><image src=a>", ""),
    ("<svg><image src=a></svg><image src=b>", "b"),
    ("<svg><desc><image src=a>", "a"),
    ("<svg><title><b></svg><image src=a>", "a"),  # the </svg> is stray there: <title> of svg is not to be left
    ("<svg><title></title></svg><image src=a>", "a"),
    ("<span><svg></span><image src=a>", "a"),
    ("<svg><g></span><image src=a>", ""),
    ("<p><b></p><svg></b><image src=a>", "a"),  # <b> is opened again before the svg
    ("<math><annotation-xml><image src=a>", ""),
    ("<math><annotation-xml encoding=Text/HTML><image src=a>", "a"),
    ("<math><annotation-xml><svg><desc><image src=a>", "a"),
    ("<svg><g></br><image src=a>", "a"),
    ("<div><svg></div><image src=a>", "a"),
    ("<noscript><svg></noscript><image src=a>", ""),  # <svg> has ended the head, and the <noscript> there
    ("<p><noscript><svg></noscript><image src=a>", "a"),
]


def urls(text: str) -> str:
    return " ".join(one.url.removeprefix(PAGE) for one in read_page(text, PAGE).mentions)


@pytest.mark.parametrize(("text", "expected"), SEEN)
def test_an_image_is_seen_where_browsers_see_one(text, expected):
    assert urls(text) == expected


POINTS = ("desc", "title", "foreignobject", "mi", "annotation-xml")  # in these, svg and math hold HTML


def images(node, is_foreign: bool = False) -> list[str]:
    """`src` of the <img>s below a node of lexbor's tree, outside of HTML templates, in order."""
    found, child = [], node.first_child
    inside = is_foreign and node.tag.lower() not in POINTS
    while child is not None:
        if child.tag == "img":
            found.append(child.attributes.get("src") or "")
        if child.tag and not child.tag.startswith("-") and (inside or child.tag != "template"):
            found += images(child, inside or child.tag in ("svg", "math"))
        child = child.next
    return found


SOUP = (
    "<svg>|</svg>|<svg><template>|<template>|</template>|<math>|</math>|<mi>|</mi>|<desc>|</desc>|<title>|</title>|<g>|"
    "<script>|</script>|<script><!--<script|<script><!--|-->|<!--|<!-->|--!>|<style>|</style>|<textarea>|</textarea>|"
    "<![CDATA[|]]>|<foreignObject>|</foreignObject>|<annotation-xml encoding=text/html>|<p>|</p>|<div>|</div>|<b>|</b>|"
    "<a>|</a>|<span>|</span>|<font>|<font color=x>|<noscript>|</noscript>|<iframe>|</iframe>|<TITLE/>|<SVG/>|<ul>|<li>|"
    "</li>|x| |</br>|<xmp>|</xmp>|<figure>|</figure>|<object>|</object>"
).split("|")


def test_soups_of_tags_are_read_as_a_tree_builder_reads_them():
    rng = random.Random(0)
    total = 0
    for _ in range(3000):
        pieces = [rng.choice(SOUP) if rng.random() < 0.7 else f"<img src={i}>" for i in range(rng.randrange(1, 30))]
        text = "".join(pieces)
        expected = images(LexborHTMLParser(text).root)
        assert urls(text).split() == expected, text
        total += len(expected)
    assert total > 4000


CAPTIONED = [
    ("<figure><img src=a><figcaption>x</figcaption></figure>", "x"),
    ("<figure><img src=a></figure><figcaption>x</figcaption>", ""),
    ("<figure><figcaption>x<figcaption>y</figcaption>z</figcaption><img src=a>", "x y z"),
    ("<figure><figcaption> </figcaption><figcaption>x</figcaption><figcaption>y</figcaption><img src=a>", "x"),
    ("<figure><figure><img src=a></figure><figcaption>outer</figcaption></figure>", ""),
    ("<figure><figcaption>x<figure><figcaption>y</figcaption></figure>z</figcaption><img src=a></figure>", "x z"),
    ("<figure><figcaption>x<figure><figcaption>y</figcaption><img src=a></figure>z</figcaption></figure>", "y"),
    ("<div><figure><figcaption>x</div><img src=a>", ""),  # the </div> ends the figure
    ("<figure><div><figcaption>x</figcaption></figure><img src=a>", ""),
    ("<span><figure><figcaption>x</span><img src=a>", "x"),  # a </span> does not
    ("<b><figure><figcaption>x</b><img src=a>", "x"),
    ("<figure><table><td></figure><img src=a></table><figcaption>x</figcaption>", "x"),  # nor what is in a cell
    ("<table><td><figure><figcaption>x<td><img src=a>", ""),
    ("<li><figure><figcaption>x<li><img src=a>", "x"),
    ("<figure><figcaption>x<template>y</template>z</figcaption><img src=a>", "x z"),
    ("<figure><template><figcaption>x</figcaption></template><img src=a>", ""),
    ("<figure><template></figure></template><figcaption>x</figcaption><img src=a>", "x"),
    ("<figure><figcaption>x<svg><style>y</style><text>z</text></svg></figcaption><img src=a>", "x z"),
    ("<svg><figure></svg><img src=a><figcaption>x", ""),
    ("<figure><figcaption>x<script><!--<script></script>y--></script>z</figcaption><img src=a>", "x z"),
]


@pytest.mark.parametrize(("text", "expected"), CAPTIONED)
def test_an_image_has_the_caption_of_the_figure_it_stands_in(text, expected):
    (image,) = read_page(text, PAGE).mentions
    assert " ".join(text for source, text in image.texts if source == "figcaption") == expected


OPT_OUTS = [
    ("<svg><meta name=robots content=noai>", ("noai",)),  # <meta> ends svg
    ("<svg><title><meta name=robots content=noai>", ("noai",)),
    ("<template><svg></template><meta name=robots content=noai>", ("noai",)),
    ("<svg><template><meta name=robots content=noai>", ("noai",)),
    ("<META NAME=Robots CONTENT=NoAI NAME=x>", ("noai",)),
    ("<script><!--<script></script><meta name=robots content=noai>", ()),
]


@pytest.mark.parametrize(("text", "expected"), OPT_OUTS)
def test_opt_outs_are_read_where_browsers_read_them(text, expected):
    assert read_page(text, PAGE).robots == expected


def test_a_base_or_a_language_of_svg_is_not_the_pages():
    found = read_page("<svg><base href=/b/><html lang=xx></svg><p><img src=a>", PAGE)
    assert [one.url for one in found.mentions] == ["http://e.org/a"] and found.language == ""
