"""What one page may cost: its rows are bounded by its own length, whatever it repeats for every image."""

import pytest

from tests.helpers.ingested import Ingested, images
from tests.helpers.warcs import http, png, record, zipped


def row_chars(got: Ingested) -> int:
    return sum(len(value) for row in got.occurrences for value in row.values())


def test_what_a_page_says_for_all_its_images_is_bounded_and_its_opt_out_stays(tmp_path):
    metas = "".join(f"<meta name=robots content='word{i}'>" for i in range(9000))
    html = f"{metas}<meta name=robots content=noai>" + "".join(f"<img src=/{i}.png alt=a>" for i in range(2000))
    header = "X-Robots-Tag: " + ", ".join(f"token{i}" for i in range(6000)) + ", noimageai"
    page = record("http://e.org/", http(html.encode(), "text/html", header))
    got = Ingested(tmp_path, zipped(page, record("http://e.org/0.png", http(png(), "image/png", header))))
    assert len(got.occurrences) == 2000 and row_chars(got) < 4 << 20
    assert all(row["page_robots"].startswith("noai, noimageai, ") for row in got.occurrences)
    assert got.images["http://e.org/0.png"]["x_robots_tag"].startswith("noimageai, ")
    assert got.counts["robots_cut"] > 14_000


AMPLIFIERS = {
    "long base": "<base href='http://e.org/" + "b" * 4000 + "/'>" + "<img src=1.png alt=a>" * 2000,
    "long caption": "<figure>"
    + "<img src=/%d.png>" * 2000
    + "<figcaption>"
    + "long " * 1600
    + "</figcaption></figure>",
    "long address of the page": "<img src=/%d.png alt=a>" * 2000,
}


@pytest.mark.parametrize("name", AMPLIFIERS)
def test_a_small_page_makes_no_large_table(tmp_path, name):
    pieces = AMPLIFIERS[name].split("1.png" if name == "long base" else "%d")
    html = pieces[0] + "".join(
        (f"{i}.png" if name == "long base" else str(i)) + piece for i, piece in enumerate(pieces[1:])
    )
    url = "http://e.org/" + "p" * (4000 if "address" in name else 1)
    got = Ingested(tmp_path, zipped(record(url, http(html.encode(), "text/html")), *images(1)))
    assert 0 < row_chars(got) < (64 << 10) + 40 * len(html)
    lost = got.bad()["bad_mentions:page_cap"]
    assert lost + len(got.occurrences) == 2000 and got.counts["images"] == 1
