"""What a WAT holds of a page is what the WARC source reads of the page itself; nothing it holds is an exception."""

import json
import random
import tracemalloc
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.pool.store import PoolSink, part_folder
from curation.sources import SOURCES
from curation.sources.source import Part
from pipeline.errors import DataError
from tests.helpers.ingested import Ingested, parts_of
from tests.helpers.lanes import examples, sampled
from tests.helpers.warcs import http, record, zipped
from tests.helpers.wats import envelope, wat

PAGE = "http://e.org/dir/page.html"


def read(tmp_path, data: bytes, kind: str = "wat", **more) -> Ingested:
    return Ingested(tmp_path, data, f"a.{kind}.gz", kind=kind, **more)


def mentions(found: Ingested) -> set[tuple]:
    return {(row["url"], row["text"], row["source"], row["page_url"], row["page_robots"], row["language"])
            for row in found.occurrences}  # fmt: skip


words = st.text("ab &\"'<é", max_size=6)
hrefs = st.sampled_from(
    ["a.png", "/b.png", "http://f.org/c.jpg", "data:image/png;base64,AA", "", "../d.gif", "e f.png"]
)
sets = st.lists(st.tuples(hrefs.filter(lambda url: " " not in url and url), st.integers(1, 900)), max_size=3)


def quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def srcset(candidates) -> str:
    return ", ".join(f"{url} {width}w" for url, width in candidates)


@st.composite
def elements(draw) -> str:
    attributes = {}
    for name, values in (("src", hrefs), ("data-src", hrefs), ("srcset", sets), ("alt", words), ("title", words)):
        if name == "src" or draw(st.booleans()):  # writers put the texts beside it, and begin an element with it
            value = draw(values)
            attributes[name] = srcset(value) if name == "srcset" else value
    image = "<img " + " ".join(f'{name}="{quoted(value)}"' for name, value in attributes.items()) + ">"
    if draw(st.booleans()):
        sources = [f'<source srcset="{quoted(srcset(each))}">' for each in draw(st.lists(sets, max_size=2))]
        return f"<picture>{''.join(sources)}{image}</picture><a href=x>y</a>"
    return image + draw(st.sampled_from(["", "<p>text", '<a href="/x.html">z</a>']))


@examples(150)
@given(st.lists(elements(), max_size=6), st.booleans(), st.sampled_from(["", "noai", "none, noimageai"]),
       st.sampled_from(["", "lang=de", "xml:lang=fr", "xml:lang=fr lang=pt-BR", "lang=''"]))  # fmt: skip
def test_a_page_and_its_wat_mention_the_same(tmp_path_factory, pieces, based, robots, language):
    head = ("<base href='http://g.org/sub/'>" if based else "") + (
        f"<meta name=robots content='{robots}'>" * bool(robots)
    )
    page = f"<html {language}><head>{head}</head><body>{''.join(pieces)}</body></html>"
    folder = tmp_path_factory.mktemp("wat")
    plain = record(PAGE, http(page.encode(), "text/html; charset=utf-8", "X-Robots-Tag: noindex"))
    whole = read(folder / "page", zipped(plain), "warc")
    held = read(folder / "wat", zipped(wat(PAGE, envelope(PAGE, page, X_Robots_Tag="noindex"))))
    assert mentions(held) == mentions(whole)


LINKS = [
    ([{"path": "IMG@/src", "url": "a.png", "alt": "cat"}], {("http://e.org/dir/a.png", "cat", "alt")}),
    ([{"path": "IMG@/src", "url": "a.png", "alt": "cat"}, {"path": "IMG@/src", "url": "b.png"}],
     {("http://e.org/dir/a.png", "cat", "alt"), ("http://e.org/dir/b.png", "", "alt")}),
    ([{"path": "IMG@/src", "url": "p.gif", "title": "t"}, {"path": "IMG@/data-src", "url": "b.png"}],
     {("http://e.org/dir/b.png", "t", "title")}),
    ([{"path": "IMG@/src", "url": "a.png", "alt": "x"}, {"path": "IMG@/srcset", "url": "b.png 2x, c.png 3x"}],
     {("http://e.org/dir/a.png", "x", "alt"), ("http://e.org/dir/c.png", "x", "alt")}),
    ([{"path": "IMG@/src", "url": "a.png", "alt": "x"}, {"path": "IMG@/longdesc", "url": "d.html"}],
     {("http://e.org/dir/a.png", "x", "alt")}),
    ([{"path": "A@/href", "url": "a.png"}, {"path": "LINK@/href", "url": "b.png"}, {"path": "SCRIPT@/src", "url": "c"}],
     set()),
    ([{"path": "img@/src", "href": "a.png", "aria-label": "l"}], {("http://e.org/dir/a.png", "l", "aria-label")}),
    ([{"path": "SOURCE@/srcset", "url": "big.webp 900w"}, {"path": "A@/href", "url": "x"}, {"path": "IMG@/src",
     "url": "a.png"}], {("http://e.org/dir/a.png", "", "alt")}),
    ([{"path": "IMG@/src", "url": "a.png", "alt": "&eacute;"}], {("http://e.org/dir/a.png", "é", "alt")}),
]  # fmt: skip


@pytest.mark.parametrize(("links", "expected"), LINKS)
def test_links_of_images_become_mentions(tmp_path, links, expected):
    content = envelope(PAGE, "")
    content["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]["Links"] = links
    found = read(tmp_path, zipped(wat(PAGE, content)))
    assert {(row["url"], row["text"], row["source"]) for row in found.occurrences} == expected
    assert not found.images


@pytest.mark.parametrize(("content", "count"), [
    (b"{", "bad_records:bad_json"), (b"", "bad_records:bad_json"), (b"[1]", "bad_records:bad_json"),
    (b'{"Envelope": 3}', "bad_records:bad_json"), (b"[" * 200_000, "bad_records:bad_json"),
    (b'{"Envelope": {"a": 1}}', "other_records"), (envelope(PAGE, "<img src=a>", status="404"), "other_records"),
    (envelope("ftp://e.org/", "<img src=a>"), "bad_records:bad_scheme"),
    (b'{"Envelope": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "bad_records:bad_json"),
])  # fmt: skip
def test_what_is_no_page_is_counted_by_reason(tmp_path, content, count):
    found = read(tmp_path, zipped(wat(PAGE, content), wat(PAGE, envelope(PAGE, "<img src=b.png alt=b>"))))
    assert found.counts[count] == 1 and [row["text"] for row in found.occurrences] == ["b"]


def test_halves_of_surrogates_and_huge_numbers_lose_a_text_and_not_a_page(tmp_path):
    text = json.dumps(envelope(PAGE, "<img src=a.png alt=XX><img src=b.png alt=fine>"))
    text = text.replace("XX", "\\ud800").replace('"Container"', f'"n": 1e999, "m": {"9" * 9000}, "Container"')
    found = read(tmp_path, zipped(wat(PAGE, text.encode().replace(b'"Format"', b'"\xff": 1, "Format"'))))
    assert {row["text"] for row in found.occurrences} == {"", "fine"} and found.counts["bad_texts:bad_unicode"] == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["IMG@/src", "a.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata", "Head", "Base",
                         "Metas", "Links", "path", "url", "alt", "Headers", "Response-Message", "Status", "name"]),
        inner, max_size=6), max_leaves=25)  # fmt: skip


@examples(200)
@given(values, values, values, values)
def test_any_types_in_any_place_are_read_without_an_exception(tmp_path_factory, html, links, headers, head):
    content = envelope(PAGE, "")
    answer = content["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    answer["HTML-Metadata"] = {"Links": links, "Head": head}
    other = json.loads(json.dumps(content))
    other["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"] |= {"HTML-Metadata": html, "Headers": headers}
    data = zipped(wat(PAGE, content), wat(PAGE, other), wat(PAGE, envelope(PAGE, "<img src=z.png>")))
    found = read(tmp_path_factory.mktemp("wat"), data)
    assert found.counts["records"] == 3 and "http://e.org/dir/z.png" in {row["url"] for row in found.occurrences}


def test_a_page_of_a_million_links_makes_no_more_rows_than_the_caps(tmp_path):
    content = envelope(PAGE, "")
    links = [{"path": "IMG@/src", "url": f"{n}.png"} for n in range(100_000)]
    content["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]["Links"] = links
    tracemalloc.start()
    found = read(tmp_path, zipped(wat(PAGE, content)), max_images_per_page=50)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.occurrences) == 50 and found.counts["bad_mentions:page_cap"] == 99_950 and most < 300 << 20


@pytest.mark.parametrize(("kind", "data", "hint"), [
    ("wat", zipped(record(PAGE, http(b"<img src=a>", "text/html"))), "kind: warc"),
    ("warc", zipped(wat(PAGE, envelope(PAGE, "<img src=a>"))), "kind: wat"),
])  # fmt: skip
def test_one_kind_of_file_given_as_the_other_names_the_right_source(tmp_path, kind, data, hint):
    with pytest.raises(DataError, match=rf"(?s)a\.{kind}\.gz: .*{hint}"):
        read(tmp_path, data, kind)
    (tmp_path / "in.gz").write_bytes(data)
    source = SOURCES[kind](paths=[str(tmp_path / "in.gz")])
    (part,) = parts_of(source)
    with PoolSink(str(tmp_path / "pool"), "0" * 16) as sink:
        counts, _ = source.ingest_range(part, source.place_from(part, 0, len(data)), len(data), sink)
        sink.finish(counts)
    with pytest.raises(DataError, match=hint):
        source.check_whole(part, counts)


def test_no_changed_byte_of_a_plain_wat_becomes_a_row(tmp_path):
    data = bytearray(wat(PAGE, envelope(PAGE, "<img src=a.png alt=word>")) + wat(PAGE, envelope(PAGE, "<img src=b>")))
    data[data.index(b"word")] ^= 1
    found = Ingested(tmp_path, bytes(data), "a.wat", kind="wat")
    assert found.bad() == {"bad_records:damaged_record": 1} and [row["url"][-1] for row in found.occurrences] == ["b"]


@pytest.mark.parametrize("seed", sampled(range(4), 0, 3))
def test_ranges_of_any_size_and_damage_give_what_one_reading_gives(tmp_path, seed):
    rng = random.Random(seed)
    links = "".join(f"<a href=/{rng.random()}>" for _ in range(400))
    texts = [f"<img src={n}.png alt=t{n}>" * 5 + links for n in range(150)]
    pages = [wat(f"{PAGE}?{n}", envelope(f"{PAGE}?{n}", text)) for n, text in enumerate(texts)]
    data = bytearray(zipped(*pages))
    if seed:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    whole = read(tmp_path / "whole", bytes(data))
    cut = cut_rows(tmp_path / "cut", bytes(data), rng.randrange(1, 9))
    assert cut == (whole.counts, sorted(mentions(whole)))


def cut_rows(folder, data: bytes, ranges: int):
    """As the runner reads ranges: each from where it seems to begin, again from where the one before it ended."""
    folder.mkdir(parents=True)
    (folder / "a.wat.gz").write_bytes(data)
    source = SOURCES["wat"](paths=[str(folder / "a.wat.gz")])
    (part,) = parts_of(source)
    assert isinstance(part, Part)
    bounds = [0, *(len(data) * at // ranges for at in range(1, ranges)), len(data)]
    place, counts, rows = (
        source.place_from(part, 0, bounds[1]),
        Counter({"records": 0, "envelopes": 0, "pages": 0}),
        set(),
    )
    for number, stop in enumerate(bounds[1:]):
        if place[0] >= stop and stop < len(data):
            continue
        with PoolSink(str(folder / "pool"), f"{number:016x}") as sink:
            found, place = source.ingest_range(part, place, stop, sink)
            sink.finish(found)
        counts.update(found)
        table = pq.read_table(f"{part_folder(str(folder / 'pool'), f'{number:016x}')}/occurrences.parquet").to_pylist()
        rows |= {(r["url"], r["text"], r["source"], r["page_url"], r["page_robots"], r["language"]) for r in table}
    return dict(sorted(counts.items())), sorted(rows)
