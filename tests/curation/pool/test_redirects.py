"""A mention whose answer is a redirect gets the image that it leads to, and says why where it gets none."""

import pytest

from curation.pool.redirects import HOPS, Followed, ask, step
from curation.pool.store import ImagePlace, ImageReader, PoolSink
from curation.table.uids import uid_of_url
from tests.helpers.joins import images_of, join_bucket, mentions_of
from tests.helpers.small_crawl import picture

A, B, C, D = (f"http://site.test/{name}.png" for name in "abcd")


def said(url, text="a cat", **more):
    return "o", {"url": url, "text": text, "source": "alt", **more}


def got(url, body=None, **more):
    return "i", {"url": url, "body": body, **more}


def led(url, location, status=302, **more):
    return got(url, b"moved", status=status, location=location, **more)


def joined(folder, rows):
    """url -> (row of PAIRS, reason, detail), from one part and one range of uids."""
    with PoolSink(str(folder), "p") as sink:
        for kind, row in rows:
            (sink.occurrence if kind == "o" else sink.image)(**row)
        sink.finish({})
    images = images_of(str(folder), ["p"])
    found, reached, asked = [], [], ask(mentions_of(str(folder), ["p"]), images)
    for hop in range(1, HOPS + 1):
        told = step(images, asked, hop)
        asked = told["asked"]
        found.append(told["found"])
        reached.append(told["reached"])
    assert asked.num_rows == 0
    pairs, verdicts = join_bucket(str(folder), ["p"], 0, 1, Followed.of(found, reached))
    reasons, details = verdicts.reason.to_pylist(), verdicts.detail.to_pylist()
    return {row["url"]: (row, *why) for row, *why in zip(pairs.to_pylist(), reasons, details, strict=True)}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_pair_is_that_of_the_mention_with_the_image_of_the_target(tmp_path, status):
    rows = [
        said(A, page_url="http://p/", extra='{"n": 1}'),
        led(A, B, status, fetched_at="2025"),
        got(B, picture(1), content_type="image/png", fetched_at="2024"),
    ]
    ((url, (pair, reason, _)),) = joined(tmp_path, rows).items()
    assert (url, pair["uid"], reason) == (A, uid_of_url(A), None), "and the image alone is no pair that nobody captions"
    assert ImageReader(str(tmp_path)).read(ImagePlace.of(pair)) == picture(1)
    told = ("status", "content_type", "fetched_at", "image_ext", "extra")
    assert [pair[name] for name in told] == [200, "image/png", "2024", "png", '{"n": 1}']
    assert [caption["text"] for caption in pair["captions"]] == ["a cat"]


def test_a_target_that_is_mentioned_too_stays_a_pair_of_its_own(tmp_path):
    pairs = joined(tmp_path, [said(A), led(A, B), said(B, "a dog"), got(B, picture(1))])
    assert {url: pair["captions"][0]["text"] for url, (pair, _, _) in pairs.items()} == {A: "a cat", B: "a dog"}
    assert {reason for _, reason, _ in pairs.values()} == {None}
    assert pairs[A][0]["image_sha256"] == pairs[B][0]["image_sha256"]
    silent = joined(tmp_path / "silent", [said(A), led(A, B), said(B, " "), got(B, picture(1))])
    assert [silent[url][1] for url in (A, B)] == [None, "no_caption"]


def test_what_nobody_mentions_leads_nowhere(tmp_path):
    pairs = joined(tmp_path, [led(A, B), got(B, picture(1)), said(C, " "), led(C, D), got(D, picture(2))])
    assert {url: reason for url, (_, reason, _) in pairs.items()} == {B: "no_caption", C: "no_caption"}


def test_an_image_that_was_stored_at_the_address_itself_counts_before_a_redirect_and_a_redirect_before_an_error(
    tmp_path,
):
    rows = [said(A), got(A, picture(1), fetched_at="1"), led(A, B, fetched_at="9"), got(B, picture(2))]
    pairs = joined(tmp_path, rows)
    assert pairs[A][0]["image_size"] == len(picture(1)) and pairs[B][1] == "no_caption"
    rows = [said(A), got(A, status=404, fetched_at="9"), led(A, B, fetched_at="2"), led(A, C, fetched_at="1"),
            got(A, b"<html>"), got(B, picture(2))]  # fmt: skip
    assert joined(tmp_path / "error", rows)[A][1] is None


def test_of_several_redirects_the_newest_counts_then_the_smallest_address(tmp_path):
    rows = [said(A), led(A, D, fetched_at="1"), led(A, C, fetched_at="2"), led(A, B, fetched_at="2")]
    images = [got(url, picture(n)) for n, url in enumerate((B, C, D))]
    pairs = joined(tmp_path, rows + images)
    assert pairs[A][0]["image_size"] == len(picture(0)) and set(pairs) == {A, C, D}


@pytest.mark.parametrize(
    ("rows", "reason", "detail"),
    [
        ([led(A, B)], "redirect_lost", B),
        ([led(A, B), led(B, C)], "redirect_lost", C),
        ([led(A, A)], "redirect_loop", A),
        ([led(A, B), led(B, A)], "redirect_loop", B),
        ([led(A, B), got(B, b"no", status=404)], "http_error", "404"),
        ([led(A, B), got(B, b"", status=302)], "http_error", "302"),
        ([led(A, B), got(B, b"<html>", content_type="text/html")], "not_image", "text/html"),
        ([led(A, B), got(B, picture(1), problem="truncated", content_type="x")], "truncated", "x"),
        ([got(A, b"", status=302)], "http_error", "302"),
    ],
)
def test_a_redirect_to_no_image_has_its_reason(tmp_path, rows, reason, detail):
    pair, *why = joined(tmp_path, [said(A), *rows])[A]
    assert why == [reason, detail] and pair["image_sha256"] == pair["image_part"] == "" and pair["image_size"] == 0


@pytest.mark.parametrize(("hops", "reason"), [(HOPS, None), (HOPS + 1, "redirect_loop")])
def test_so_many_redirects_are_followed_and_no_more(tmp_path, hops, reason):
    urls = [f"http://site.test/{n}" for n in range(hops + 1)]
    rows = [led(*each) for each in zip(urls, urls[1:], strict=False)]
    pairs = joined(tmp_path, [said(urls[0]), *rows, got(urls[-1], picture(1))])
    assert pairs[urls[0]][1] == reason
    assert pairs.keys() == ({urls[0]} if reason is None else {urls[0], urls[-1]}), "what was not reached is on its own"


def test_what_any_capture_on_the_way_asks_for_is_asked_of_the_pair(tmp_path):
    rows = [
        *(said(A), led(A, B, x_robots_tag="a"), got(A, status=500, x_robots_tag="bot: x")),
        *(led(B, C, fetched_at="2", x_robots_tag="noai"), led(B, D, fetched_at="1", x_robots_tag="b")),
        *(said(C), got(C, picture(1), x_robots_tag="c"), got(C, status=404, x_robots_tag="a")),
        got(D, picture(2), x_robots_tag="d"),
    ]
    pairs = joined(tmp_path, rows)
    heard = pairs[A][0]["x_robots_tag"]
    assert set(heard.split(", ")) == {"a", "b", "c", "noai", "bot: x"} and heard.endswith("bot: x"), "for one robot"
    assert pairs[C][0]["x_robots_tag"] == "a, c", "a target need not do as those before it ask"
