"""Parts of a site that write boilerplate too often are not believed at all; others lose nothing."""

import pytest

from curation.stages.site_boilerplate import SiteBoilerplate
from tests.helpers.pairs import by_url, pair, pairs_of, run_global, same_verdicts, texts_of


def row(name: str, *captions: tuple[str, str], url: str | None = None) -> dict[str, object]:
    """A pair whose captions are (text, page)."""
    made = pair(name, **({"url": url} if url else {}))
    made["captions"] = [
        {"text": text, "source": "alt", "page_url": page, "page_robots": "", "language": ""} for text, page in captions
    ]
    return made


def crawl(bad: int = 30, good: int = 70):
    rows = [row(f"s{i}", ("click to enlarge", "http://spam.test/a.html")) for i in range(bad)]
    rows += [row(f"s{bad + i}", (f"a red car {i}", "http://SPAM.test:80/b.html")) for i in range(good)]
    rows += [row(f"g{i}", ("logo" if i < 5 else f"a dog {i}", "http://good.test/")) for i in range(100)]
    return pairs_of(*rows)


def test_every_caption_of_a_boilerplate_site_goes_and_no_other():
    pairs = crawl()
    verdicts = run_global(SiteBoilerplate(), pairs)
    reasons = by_url(pairs, verdicts.reason)
    assert {name[0] for name, reason in reasons.items() if reason == "site"} == {"s"}
    assert sum(reason is None for reason in reasons.values()) == 100
    assert verdicts.caption_drops == {"site": 100}
    assert by_url(pairs, verdicts.detail)["s0"] == "spam.test"


# Without a prior the share is 30 of 100; with 50 pairs of the crawl's mean (35 of 200, at most half of max_share) less.
BOUNDS = [
    ({"max_share": 0.3, "prior_pairs": 0}, 0),
    ({"max_share": 0.29, "prior_pairs": 0}, 100),
    ({"min_pairs": 101}, 0),
    ({"max_share": 0.23}, 100),  # (30 + 50 * 0.115) / 150 = 0.238
    ({"max_share": 0.24}, 0),  # (30 + 50 * 0.12) / 150 = 0.24
]


@pytest.mark.parametrize(("settings", "gone"), BOUNDS)
def test_share_and_size_are_bounds(settings, gone):
    verdicts = run_global(SiteBoilerplate(**settings), crawl())
    assert verdicts.reason.null_count == 200 - gone


def test_a_pair_is_counted_once_however_many_captions_it_has():
    rows = [row(f"a{i}", *[("logo", "http://a.test/")] * 9) for i in range(10)]
    rows += [row(f"b{i}", ("a real caption", "http://a.test/")) for i in range(90)]
    assert run_global(SiteBoilerplate(max_share=0.11, max_caption_share=1), pairs_of(*rows)).reason.null_count == 100


def test_a_pair_keeps_its_captions_from_other_sites():
    rows = [row(f"s{i}", ("banner", "http://spam.test/")) for i in range(100)]
    rows.append(row("x", ("something", "http://spam.test/"), ("a cat", "http://good.test/")))
    pairs = pairs_of(*rows)
    assert texts_of(pairs, run_global(SiteBoilerplate(), pairs))["x"] == ["a cat"]


def test_without_a_page_the_host_of_the_image_is_the_site():
    rows = [row(f"i{i}", ("IMG_001", ""), url=f"http://img.test/i{i}") for i in range(100)]
    pairs = pairs_of(*rows)
    assert set(by_url(pairs, run_global(SiteBoilerplate(), pairs).detail).values()) == {"img.test"}


def host(name: str, *captions: str, folder: str = "") -> list[dict[str, object]]:
    """A pair for each caption, each on a page of its own."""
    return [
        row(f"{name}-{folder[:-1]}-{i}", (text, f"http://{name}.test/{folder}{i}.html"))
        for i, text in enumerate(captions)
    ]


def lost(*rows: list[dict[str, object]], **settings: object) -> dict[str, tuple[str, str]]:
    """Name of each lost pair -> (reason, detail)."""
    pairs = pairs_of(*[each for some in rows for each in some])
    verdicts = run_global(SiteBoilerplate(**settings), pairs, buckets=3, slots=2)
    both = zip(verdicts.reason.to_pylist(), verdicts.detail.to_pylist(), strict=True)
    return {name: told for name, told in by_url(pairs, list(both)).items() if told[0]}


def test_a_photo_host_of_camera_names_keeps_its_good_captions():
    names = [f"IMG_{i:04}" if i % 10 < 3 else f"a heron on the river, {i}" for i in range(1000)]
    assert lost(host("photos", *names)) == {}


def test_a_caption_that_stands_on_most_pages_goes_and_the_others_stay():
    texts = ["Brand new from Acme" if i % 10 else f"a blue vase {i}" for i in range(200)]  # on 90% of the pages
    gone = lost(host("shop", *texts), host("good", *[f"a dog {i}" for i in range(200)]))
    assert len(gone) == 180 and set(gone.values()) == {("template", "shop.test")}
    assert lost(host("shop", *texts), max_caption_share=0.73) == {}  # 180 of 200 and 50 more: 0.72


def test_a_caption_on_most_pages_is_seen_among_many_images_a_page():
    rows = []
    for page in range(150):
        url = f"http://shop.test/{page}"
        rows.append(row(f"t{page}", ("ACME  shop", url)))
        rows += [row(f"g{page}x{i}", (f"a vase {page} {i}", url)) for i in range(5)]
    assert sorted(lost(rows)) == sorted(f"t{page}" for page in range(150))


def test_a_caption_on_one_page_of_many_images_is_no_template():
    rows = [row(f"g{i}", ("a vase" if i < 40 else f"a vase {i}", "http://one.test/")) for i in range(150)]
    assert lost(rows) == {}


@pytest.mark.parametrize("num", [3, 99])
def test_a_small_host_is_not_judged(num):
    assert lost(host("small", *["untitled"] * num)) == {}
    assert len(lost(host("small", *["untitled"] * 100))) == 100


def test_one_section_of_a_host_goes_without_the_others():
    bad = host("mixed", *["untitled" if i % 2 else f"a thing {i}" for i in range(300)], folder="u/")
    good = host("mixed", *[f"a heron {i}" for i in range(300)], folder="birds/")
    few = host("mixed", *[f"a map {i}" for i in range(3)], folder="maps/")
    gone = lost(bad, good, few)
    assert len(gone) == 300 and set(gone.values()) == {("site", "mixed.test/u")}


def test_sections_that_differ_by_chance_are_judged_as_one():
    """20% and 22% of 200 each: the host has 21%, and the sections are no more apart than chance lets them be."""
    one = host("even", *["untitled" if i < 40 else f"a bird {i}" for i in range(200)], folder="a/")
    other = host("even", *["untitled" if i < 44 else f"a tree {i}" for i in range(200)], folder="b/")
    assert len(lost(one, other, prior_pairs=0)) == 400
    assert lost(one, other) == {}  # (84 + 50 * 0.1) / 450 = 0.198


def test_small_sections_go_with_the_rest_of_a_bad_host():
    rest = [host("bad", *["untitled" if i % 2 else f"a {i}" for i in range(50)], folder=f"f{n}/") for n in range(4)]
    good = host("bad", *[f"a heron {i}" for i in range(300)], folder="birds/")
    gone = lost(*rest, good)
    assert len(gone) == 200 and set(gone.values()) == {("site", "bad.test")}


def test_the_cut_into_buckets_and_slots_changes_nothing():
    pairs = crawl()
    whole = run_global(SiteBoilerplate(), pairs)
    for buckets, slots in ((2, 1), (3, 4), (7, 2)):
        assert same_verdicts(whole, run_global(SiteBoilerplate(), pairs, buckets=buckets, slots=slots))


def test_no_pairs_are_no_trouble():
    assert run_global(SiteBoilerplate(), pairs_of(row("a", ("x", ""))).slice(0, 0)).reason.null_count == 0
