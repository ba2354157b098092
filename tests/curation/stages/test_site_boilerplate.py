"""A site that writes boilerplate too often is not believed at all; others lose nothing."""

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


BOUNDS = [({"max_share": 0.3}, 0), ({"max_share": 0.29}, 100), ({"min_pairs": 101}, 0)]


@pytest.mark.parametrize(("settings", "gone"), BOUNDS)
def test_share_and_size_are_bounds(settings, gone):
    verdicts = run_global(SiteBoilerplate(**settings), crawl())
    assert verdicts.reason.null_count == 200 - gone


def test_a_pair_is_counted_once_however_many_captions_it_has():
    rows = [row(f"a{i}", *[("logo", "http://a.test/")] * 9) for i in range(10)]
    rows += [row(f"b{i}", ("a real caption", "http://a.test/")) for i in range(90)]
    assert run_global(SiteBoilerplate(max_share=0.11), pairs_of(*rows)).reason.null_count == 100


def test_a_pair_keeps_its_captions_from_other_sites():
    rows = [row(f"s{i}", ("banner", "http://spam.test/")) for i in range(100)]
    rows.append(row("x", ("something", "http://spam.test/"), ("a cat", "http://good.test/")))
    pairs = pairs_of(*rows)
    assert texts_of(pairs, run_global(SiteBoilerplate(), pairs))["x"] == ["a cat"]


def test_without_a_page_the_host_of_the_image_is_the_site():
    rows = [row(f"i{i}", ("IMG_001", ""), url=f"http://img.test/i{i}") for i in range(100)]
    pairs = pairs_of(*rows)
    assert set(by_url(pairs, run_global(SiteBoilerplate(), pairs).detail).values()) == {"img.test"}


def test_the_cut_into_buckets_and_slots_changes_nothing():
    pairs = crawl()
    whole = run_global(SiteBoilerplate(), pairs)
    for buckets, slots in ((2, 1), (3, 4), (7, 2)):
        assert same_verdicts(whole, run_global(SiteBoilerplate(), pairs, buckets=buckets, slots=slots))


def test_no_pairs_are_no_trouble():
    assert run_global(SiteBoilerplate(), pairs_of(row("a", ("x", ""))).slice(0, 0)).reason.null_count == 0
