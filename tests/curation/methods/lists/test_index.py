"""An index holds what its list holds, however it is written, and what is no whole index is refused."""

import json
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.lists.forms import form_of, forms_of
from curation.methods.lists.index import index_list, opened
from curation.stage_order import check_stages
from curation.stages.block_list import BlockList
from pipeline.errors import RecipeError
from tests.helpers.lanes import examples
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, same_verdicts

URLS = [f"https://host{i % 50}.test/images/{i}.jpg" for i in range(3000)]
ODD = [
    "HTTP://X.test:80/a/../b.jpg",
    "x.test/plain",
    "http://x.test/%7Euser",
    "http://x.test/q?a=1#frag",
    "http://xn--e1aybc.test/",
]


def test_every_entry_is_found_and_nothing_else(tmp_path):
    path, to = tmp_path / "list.txt", str(tmp_path / "list.keys")
    lines = [*URLS, *ODD, *URLS[:7]]
    random.Random(0).shuffle(lines)
    path.write_text("\ufeff# a list\n\n" + "\n".join(lines) + "  # with a remark\r\n")
    made = index_list(str(path), to, "url", None, False)
    assert made.entries == 3005 and made.read == 3012 and not made.skipped
    found = opened(to, "url", "x")
    forms = [form_of("url", each) for each in (*URLS, *ODD)]
    assert found.has(forms).all() and not found.has([each + "x" for each in URLS]).any() and not found.has([]).any()


def test_a_stage_judges_by_an_index_as_by_the_list(tmp_path):
    path, to = tmp_path / "list.txt", str(tmp_path / "list.keys")
    path.write_text("http://crawl.test/p3\nbad.test\n")
    pairs = pairs_of(*[pair(f"p{i}", "x") for i in range(6)])
    urls = pairs.column("url").to_pylist()
    path.write_text("\n".join(urls[:2]) + "\n")
    index_list(str(path), to, "url", None, False)
    one, other = (BlockList(lists=[{"of": "url", "path": each}]) for each in (str(path), to))
    check_stages([one])
    check_stages([other])
    found = run_rule(other, pairs)
    assert (
        same_verdicts(run_rule(one, pairs), found)
        and sum(w is not None for w in by_url(pairs, found.reason).values()) == 2
    )


@pytest.mark.parametrize(
    ("of", "good", "bad"), [("url", "http://x.test/a", "ftp://x.test/a"), ("sha256", "a" * 64, "abc")]
)
def test_what_is_no_entry_is_named_by_its_line_or_counted(tmp_path, of, good, bad):
    path, to = tmp_path / "list.txt", str(tmp_path / "list.keys")
    path.write_bytes(b"\n".join([good.encode(), b"", bad.encode(), b"\xff\xfe", b"y" * 100_000, good.encode()]))
    with pytest.raises(RecipeError, match="line 3"):
        index_list(str(path), to, of, None, False)
    assert not (tmp_path / "list.keys").exists() and [each.name for each in tmp_path.iterdir()] == ["list.txt"]
    made = index_list(str(path), to, of, None, True)
    assert made == (1, 2, 3, 3)


def test_what_is_no_whole_index_of_the_kind_is_refused(tmp_path):
    path, to = tmp_path / "list.txt", tmp_path / "list.keys"
    path.write_text("http://x.test/a\nhttp://x.test/b\n")
    index_list(str(path), str(to), "url", None, False)
    for change, said in (
        (lambda data: data[:-1], "no whole index"),
        (lambda data: b"x" + data, "no whole index"),
        (lambda _: b"", "no whole"),
    ):
        torn = tmp_path / "torn.keys"
        torn.write_bytes(change(to.read_bytes()))
        with pytest.raises(RecipeError, match=said):
            check_stages([BlockList(lists=[{"of": "url", "path": str(torn)}])])
    with pytest.raises(RecipeError, match="index of url"):
        check_stages([BlockList(lists=[{"of": "domain", "path": str(to)}])])
    with pytest.raises(RecipeError, match="ends in .keys"):
        index_list(str(path), str(tmp_path / "x.bin"), "url", None, False)
    path.write_text("# nothing\n")
    assert (
        index_list(str(path), str(to), "url", None, False).entries == 0
        and not opened(str(to), "url", "x").has(["a"]).any()
    )


@examples(300)
@given(
    st.from_regex(r"https?://[a-z0-9.\-_]{1,12}\.[a-z]{2,4}/[A-Za-z0-9\-._~!$&()*+,;=:/%?#@'|^ ]{0,20}", fullmatch=True)
)
def test_the_fast_form_of_a_url_is_the_form(url):
    assert forms_of("url", [url]) == [form_of("url", url)] or not url.strip()


def test_the_command(tmp_path):
    path, to = tmp_path / "list.jsonl", tmp_path / "list.keys"
    path.write_text("".join(json.dumps({"u": url}) + "\n" for url in URLS[:20]) + '{"u": 3}\n')
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "index-list", str(path), str(to)]
    failed = subprocess.run([*command, "--column", "u"], capture_output=True, text=True)
    assert failed.returncode == 2 and "line 21" in failed.stderr and "--skip-malformed" in failed.stderr
    done = subprocess.run([*command, "--column", "u", "--skip-malformed"], capture_output=True, text=True)
    assert done.returncode == 0 and "20 entries of 20 lines; left out 1" in done.stdout, done.stderr
