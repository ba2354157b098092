"""Listed pairs go, by every kind of list and however entry and address are written; nothing else does."""

import gzip
import random
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.settings import CurateSettings
from curation.stage import Context
from curation.stage_order import check_stages
from curation.stages.block_list import BlockList
from pipeline.errors import RecipeError
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of


def listed(tmp_path, *lists, **settings):
    """A stage with a text list for each (of, entries, fields)."""
    made = []
    for number, (of, entries, fields) in enumerate(lists):
        path = tmp_path / f"list{number}.txt"
        path.write_text("".join(f"{entry}\n" for entry in entries))
        made.append({"of": of, "path": str(path), **fields})
    return BlockList(lists=made, **settings)


def on_pages(name, *pages, **fields):
    row = pair(name, *[f"text {at}" for at in range(len(pages))], **fields)
    for caption, page in zip(row["captions"], pages, strict=True):
        caption["page_url"] = page
    return row


def test_addresses_domains_and_hashes_with_the_entry_as_detail(tmp_path):
    rows = [
        pair("sha", "t", image_sha256="ab" * 32),
        pair("url", "t"),
        pair("any-scheme", "t", url="https://y.test/any-scheme"),
        pair("below", "t", url="http://img.Bad.test:81/below"),
        pair("beside", "t", url="http://notbad.test/beside", image_sha256="cd" * 32),
    ]
    stage = listed(
        tmp_path,
        ("sha256", ["AB" * 32], {}),
        ("url", ["HTTP://x.test:80/url", "y.test/any-scheme"], {"name": "spam"}),
        ("domain", ["# bad ones", "BAD.test."], {"name": "adult"}),
    )
    pairs = pairs_of(*rows)
    found = run_rule(stage, pairs)
    assert by_url(pairs, found.reason) == {
        "sha": "sha256", "url": "url_spam", "any-scheme": "url_spam", "below": "domain_adult", "beside": None
    }  # fmt: skip
    assert by_url(pairs, found.detail) == {
        "sha": "ab" * 32, "url": "http://x.test/url", "any-scheme": "//y.test/any-scheme", "below": "bad.test",
        "beside": None,
    }  # fmt: skip
    assert found.captions is None


PAGES = ["https://www.bad.test/1", "http://good.test/2"]


@pytest.mark.parametrize(
    ("pages", "reasons", "left"),
    [
        ("pair", {"a": "domain", "b": "domain", "c": None, "own": "domain"}, None),
        (
            "caption",
            {"a": None, "b": "domain", "c": None, "own": "domain"},
            {"a": ["text 1"], "b": [], "c": ["text 0"], "own": ["text 0"]},  # whose caption its page has not taken
        ),
        ("ignore", {"a": None, "b": None, "c": None, "own": "domain"}, None),
    ],
)
def test_what_a_listed_page_takes_is_a_setting(tmp_path, pages, reasons, left):
    own = on_pages("own", PAGES[0], url="http://bad.test/own")
    pairs = pairs_of(on_pages("a", *PAGES), own, on_pages("b", PAGES[0]), on_pages("c", PAGES[1]))
    found = run_rule(listed(tmp_path, ("domain", ["bad.test"], {}), pages=pages), pairs)
    assert by_url(pairs, found.reason) == reasons
    assert by_url(pairs, found.detail) == {url: reason and "bad.test" for url, reason in reasons.items()}
    assert (found.captions is None) == (left is None)
    if left is not None:
        assert texts_of(pairs, found) == left and found.caption_drops == {"domain": 2}


def test_the_first_list_of_the_recipe_speaks(tmp_path):
    pairs = pairs_of(on_pages("a", "http://page.test/"))
    both = [("domain", ["page.test"], {"name": "one"}), ("domain", ["x.test"], {"name": "two"})]
    assert run_rule(listed(tmp_path, *both), pairs).reason.to_pylist() == ["domain_one"]
    assert run_rule(listed(tmp_path, *reversed(both)), pairs).reason.to_pylist() == ["domain_two"]


def test_perceptual_hashes_within_the_radius_but_for_flat_pictures(tmp_path):
    near = [0, 0b111, 0b1111, 2**64 - 1]
    columns = {"phash": (pa.uint64(), near), "contrast": (pa.float32(), [50.0] * 4)}
    rows = [pair(f"p{i}", "t") for i in range(4)]
    pairs = pairs_of(*rows, **columns)
    entry = f"{0:016x}"
    stage = listed(tmp_path, ("phash", [entry], {"radius": 3}))
    assert by_url(pairs, run_rule(stage, pairs).detail) == {"p0": entry, "p1": entry, "p2": None, "p3": None}
    flat = pairs_of(*rows, **columns | {"contrast": (pa.float32(), [3.9, None, 4.0, 4.0])})
    assert run_rule(stage, flat).reason.null_count == 4


HOSTS = st.lists(st.sampled_from(["a", "b", "example", "com", "de"]), min_size=1, max_size=4).map(".".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(HOSTS, min_size=1, max_size=3), st.lists(HOSTS, min_size=1, max_size=6), st.randoms())
def test_a_domain_takes_itself_and_all_below_it_however_written(tmp_path_factory, entries, hosts, rng):
    folder = tmp_path_factory.mktemp("lists")
    ways = [str.upper, "*.{}".format, ".{}".format, "{}.".format, "{}:99".format, "http://{}/".format, str]
    pairs = pairs_of(*[pair(f"p{i}", "t", url=f"http://{host}/p{i}") for i, host in enumerate(hosts)])
    found = run_rule(listed(folder, ("domain", [rng.choice(ways)(e) for e in entries], {})), pairs)
    for url, reason in zip(pairs["url"].to_pylist(), found.reason.to_pylist(), strict=True):
        host = urlsplit(url).hostname
        assert (reason == "domain") == any(host == e or host.endswith("." + e) for e in entries)


def test_a_malformed_line_is_an_error_naming_file_and_line_before_any_work_or_left_out(tmp_path, caplog):
    stage = listed(tmp_path, ("domain", ["good.test", "", "# x", "not a domain"], {}))
    with pytest.raises(
        RecipeError, match=r"curate\.stages\.0\.lists\.0: .*list0\.txt, line 4: 'not a domain'; expected"
    ):
        check_stages([stage])
    lenient = stage.model_copy(update={"malformed": "skip"})
    with caplog.at_level("WARNING"):
        check_stages([lenient])
    assert "1 entries left out that are no domain, the first in line 4" in caplog.text
    pairs = pairs_of(pair("a", "t", url="http://good.test/a"), pair("b", "t"))
    assert by_url(pairs, run_rule(lenient, pairs).reason) == {"a": "domain", "b": None}


def test_a_list_that_was_read_to_its_end_is_read_again_for_another_column_kind_or_content(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"a": "x.org", "b": "x.org"}\n\n{"a": "y.org", "b": "not a domain"}\n{"a": "z.org", "c": 7}\n')

    def check(column, of="domain", malformed="error"):
        check_stages([BlockList(lists=[{"of": of, "path": str(path), "column": column}], malformed=malformed)])

    check("a")
    check("b", malformed="skip")
    for column, of, said in (("b", "domain", "line 3: 'not a"), ("a", "sha256", "line 1: 'x.org'"),
                             ("c", "domain", "line 1: no text; ")):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            check(column, of)
    path.write_text('{"a": "no domain at all"}\n')
    with pytest.raises(RecipeError, match="line 1: 'no domain"):
        check("a")


def test_what_is_left_out_is_told_once_with_its_first_line_and_so_is_a_list_of_nothing(tmp_path, caplog):
    stage = listed(tmp_path, ("domain", ["a.test", "b c", "d e"], {}), ("url", ["# none"], {}), malformed="skip")
    with caplog.at_level("WARNING"):
        check_stages([stage])
        check_stages([stage])
        run_rule(stage, pairs_of(pair("a", "t")))
    left_out, empty = caplog.messages
    assert left_out.endswith("list0.txt: 2 entries left out that are no domain, the first in line 2")
    assert empty.endswith("list1.txt has no entry")


def test_the_content_of_the_lists_is_in_the_digest_and_their_place_is_not(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    first = listed(one, ("domain", ["a.test"], {}))
    assert first.digest() == listed(two, ("domain", ["a.test"], {})).digest()
    assert first.digest() != listed(two, ("domain", ["b.test"], {})).digest()
    assert first.digest() != listed(two, ("domain", ["a.test"], {"name": "x"})).digest()


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two lists give the reason domain"):
        listed(tmp_path, ("domain", [], {}), ("domain", [], {}))
    with pytest.raises(RecipeError, match=r"stages\.0\.lists\.0\.path: cannot read /no/such"):
        check_stages([BlockList(lists=[{"of": "url", "path": "/no/such"}])])
    with pytest.raises(RecipeError, match="`phash`, which does not exist yet"):
        check_stages([listed(tmp_path, ("phash", ["0" * 16], {}))])
    with pytest.raises(ValueError, match=r"lists\.0\.of"):
        CurateSettings.model_validate(
            {"sources": [], "output": "o", "stages": [{"kind": "block_list", "lists": [{"of": "hash", "path": "x"}]}]}
        )


def test_a_packed_list_of_many_entries_is_a_set(tmp_path):
    rng = random.Random(0)
    hashes = [rng.randbytes(32).hex() for _ in range(20_000)]
    path = tmp_path / "many.txt.gz"
    path.write_bytes(gzip.compress("\n".join(hashes[:10_000]).encode()))
    asked = [hashes[i] for i in np.random.default_rng(1).integers(0, 20_000, 300)]
    pairs = pairs_of(*[pair(f"p{i}", "t", image_sha256=sha) for i, sha in enumerate(asked)])
    found = BlockList(lists=[{"of": "sha256", "path": str(path)}]).judge(pairs, 0)
    here = set(hashes[:10_000])
    assert found.reason.is_valid().to_pylist() == [sha in here for sha in pairs["image_sha256"].to_pylist()]


@pytest.mark.parametrize("pages", ["pair", "caption", "ignore"])
@pytest.mark.parametrize(("of", "entry"), [("sha256", "ab" * 32), ("phash", "ff" * 8)])
def test_a_list_of_hashes_alone_is_judged_by_what_it_reads(tmp_path, of, entry, pages):
    pairs = pairs_of(pair("listed", "t", image_sha256="ab" * 32), pair("other", "t", image_sha256="cd" * 32))
    near = [2**64 - 1 if url.endswith("listed") else 1 for url in pairs.column("url").to_pylist()]
    for name, column in (("phash", pa.array(near, pa.uint64())), ("contrast", pa.array([50.0] * 2, pa.float32()))):
        pairs = pairs.append_column(name, column)
    stage = listed(tmp_path, (of, [entry], {}), pages=pages)
    found = stage.judge(pairs.select(["uid", *stage.reads]), Context())
    assert by_url(pairs, found.reason) == {"listed": of, "other": None}
