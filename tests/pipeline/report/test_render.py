"""The report: every number is the file's, nothing loads from outside, and captions stay words."""

import base64
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import DataError
from pipeline.report import write_report
from pipeline.report.limits import MAX_BYTES
from pipeline.report.render import environment, ready
from tests.helpers import fake_run
from tests.helpers.fake_run import printed
from tests.helpers.lanes import sampled

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Tags with attributes, visible words, and whether every tag is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.values: list[float] = []
        self.open: list[str] = []
        self.text = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.values.append(float(dict(attrs)["value"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def prose(self) -> str:
        return " ".join("".join(self.words).split())

    def words_apart(self) -> list[str]:
        return [word for words in self.words for word in words.split()]

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if attrs.get("id")]


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    return fake_run.write_run(tmp_path)


def page_of(folders: dict[str, str | None], out: Path, name: str = "demo") -> Page:
    assert write_report(str(out), **folders, name=name) == str(out)
    return Page(out.read_text(encoding="utf-8"))


def edit(folder: str, name: str, change) -> None:
    path = Path(folder) / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_the_numbers_on_the_page_are_those_of_the_files(folders, tmp_path):
    page = page_of(folders, tmp_path / "report.html")
    summary, steps, results = fake_run.summary(), fake_run.metrics(), fake_run.results()
    wanted = [summary[key] for key in ("pairs_in", "pairs_kept", "occurrences", "images_stored")]
    for stage in summary["stages"]:
        wanted += [stage["pairs_out"], stage["captions_in"], stage["captions_out"], *stage["drops"].values()]
    wanted += [n for part in summary["inputs"] for n in part["counts"].values() if n]
    wanted += [item[when] for item in summary["concepts"]["head"] for when in ("before", "after")]
    wanted += [*summary["download"]["counts"].values(), *summary["sources"][0]["counts"].values()]
    wanted += [
        n for told in summary["evidence"] for words in told.get("words", []) for row in words["rows"] for n in row[1:]
    ]
    wanted += [*summary["languages"].values(), *summary["caption_sources"].values()]
    wanted += [item["pairs"] for item in summary["top_captions_before"] + summary["top_captions_after"]]
    wanted += [steps[0]["loss"], steps[-1]["loss"], steps[-1]["samples"], len(steps)]
    wanted += [*results["results"].values(), *results["before"].values()]
    missing = [value for value in wanted if not any(math.isclose(value, shown) for shown in page.values)]
    assert missing == []
    assert "12,000 pairs in, 4,123 kept in 5 shards" in page.prose
    assert f"Loss {steps[0]['loss']:.3f} → {steps[-1]['loss']:.3f}" in page.prose
    assert "Image-to-text R@10 on clipart-retrieval" in page.prose


def test_the_page_loads_nothing_and_runs_nothing(folders, tmp_path):
    page = page_of(folders, tmp_path / "report.html")
    for tag, attrs in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attrs), attrs
        assert (attrs.get("src") or "data:image/").startswith("data:image/")
        assert (attrs.get("href") or "#").startswith("#")
        assert not {"srcset", "action", "xlink:href", "poster"} & attrs.keys()
        assert "url(" not in (attrs.get("style") or "")
    style = page.text[page.text.index("<style>") : page.text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert len(page.text) < 3_000_000


HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</style><script>1</script>", "{{ 7 * 191 }}",
    "{% raw %}", "javascript:alert(1)", "' onmouseover='alert(1)", "\u202egnp.exe\u202d", "a\x00b\x1b[31m",
    "\ud800 half a pair", "]]>--><!--", "x" * 100_000,
]  # fmt: skip


def hostile(value, words: str):
    """Every string of some JSON, keys too, replaced, where a crawl could have written it."""
    if isinstance(value, dict):
        keep = {"kind", "stages", "histograms"}
        return {key: item if key in keep else hostile(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, words) for item in value]
    return words if isinstance(value, str) else value


@pytest.mark.parametrize("words", sampled(HOSTILE, *range(0, len(HOSTILE), 3)), ids=range(len(HOSTILE)))
def test_hostile_words_stay_words(folders, tmp_path, words):
    plain = page_of(folders, tmp_path / "plain.html")

    def poison(summary):
        places = "kept_examples drop_examples duplicate_groups concepts inputs top_captions_before name"
        places += " evidence sections sources download"
        for key in places.split():
            summary[key] = hostile(summary[key], words)
        summary["languages"] = {words: 3}
        summary["caption_sources"] = {words: 4}
        summary["stages"][0]["name"] = words
        summary["stages"][0]["drops"] = {words: 1179}
        summary["inputs"][0]["counts"] = {f"bad_{words}": 2, words: 5}

    edit(folders["curate_output"], "summary.json", poison)
    edit(folders["eval_output"], "eval.json", lambda found: found["results"].update({f"{words}/{words}": 0.5}))
    with open(Path(folders["train_output"]) / "evals.jsonl", "a") as file:
        file.write(json.dumps({"step": 170, "eval": {f"{words}/{words}": 0.5}}) + "\n")
    page = page_of(folders, tmp_path / "report.html", name=words)
    known = {tag for tag, _ in plain.tags} | {"em", "p"}
    assert {tag for tag, _ in page.tags} <= known
    assert sum(tag == "img" for tag, _ in page.tags) == 0  # no thumbnail survived the poisoning, and none was made up
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in page.tags)
    assert "1337" not in page.text
    assert not any(ord(c) < 32 and c not in "\n\t" for c in page.text)
    assert len(page.text) < 600_000
    if words == HOSTILE[0]:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


@pytest.mark.parametrize(
    "thumb",
    [
        "https://tracker.test/x.png", "data:text/html;base64,PHNjcmlwdD4=", "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png;base64,PHNjcmlwdD4=", "data:image/jpeg;base64,iVBORw0KGgo=", "data:image/jpeg;base64,!!!!",
        "data:image/jpeg;base64,/9j/\" onerror=\"alert(1)", "data:image/jpeg;base64," + "A" * 300_000, "",
    ],
)  # fmt: skip
def test_a_thumbnail_that_is_no_small_picture_is_not_shown(folders, tmp_path, thumb):
    def change(summary):
        summary["kept_examples"][0] |= {"thumb": thumb, "caption": "the odd one"}

    edit(folders["curate_output"], "summary.json", change)
    page = page_of(folders, tmp_path / "report.html")
    assert "the odd one" in page.prose
    assert "the odd one" not in [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert not thumb or thumb not in page.text


def test_a_png_declared_as_jpeg_is_not_shown(folders, tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    body = base64.b64encode(out.getvalue()).decode()
    for kind, shown in (("png", True), ("jpeg", False)):
        thumb = f"data:image/{kind};base64,{body}"

        def change(summary, thumb=thumb):
            summary["kept_examples"][0] |= {"thumb": thumb, "caption": "a black square"}

        edit(folders["curate_output"], "summary.json", change)
        page = page_of(folders, tmp_path / "report.html")
        assert any(attrs["alt"] == "a black square" for tag, attrs in page.tags if tag == "img") is shown


def test_captions_that_went_with_their_pair_stand_apart_from_those_that_went_alone(folders, tmp_path):
    page = page_of(folders, tmp_path / "report.html")
    rows = {stage["kind"]: stage for stage in fake_run.summary()["stages"]}
    gone = rows["caption_rules"]["caption_drops"]["pair_dropped"]
    counts = "caption rules {captions_in:,} {captions_out:,} − {gone:,} few words − 310"
    assert counts.format(**rows["caption_rules"], gone=gone) in " ".join(page.words_apart())
    assert "pair dropped" not in page.prose and "added +95" in page.prose


def test_a_copy_names_its_survivor_by_the_front_of_its_uid(folders, tmp_path):
    page = page_of(folders, tmp_path / "report.html")
    assert "copy of 3f9a1c0b" in page.prose and "3f9a1c0b3f9a1c0b" not in page.prose


def test_two_stages_of_one_kind_keep_their_own_examples(folders, tmp_path):
    def change(summary):
        again = summary["stages"][9] | {"name": "image_size_2", "kind": "image_size", "drops": {"too_small": 275}}
        summary["stages"][9] = again
        one = summary["drop_examples"]["image_size.too_small"][0] | {"caption": "only in the second"}
        summary["drop_examples"]["image_size_2.too_small"] = [one]

    edit(folders["curate_output"], "summary.json", change)
    page = page_of(folders, tmp_path / "report.html")
    assert "image size 2 too small 275 pairs, 2.3% only in the second" in page.prose


def test_pictures_beyond_the_size_limit_are_left_out_and_their_captions_stay(folders, tmp_path):
    big = fake_run.noise(330)
    assert 60_000 < len(big) < 96_000

    def change(summary):
        for examples in summary["drop_examples"].values():
            for item in examples:
                item["thumb"] = big

    edit(folders["curate_output"], "summary.json", change)
    page = page_of(folders, tmp_path / "report.html")
    assert 9_000_000 < len(page.text) <= MAX_BYTES
    assert "picture left off" in page.prose and "pictures are left off" in page.prose


def break_stage(summary):
    summary["stages"][3]["drops"]["too_small"] -= 5


def break_kept(summary):
    summary["pairs_kept"] += 1


def break_chain(summary):
    summary["stages"][4]["pairs_in"] += 2
    summary["stages"][4]["pairs_out"] += 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (break_stage, "stage image size lost 1,292 pairs, but gives reasons for 1,287"),
        (break_stage, "12,000 pairs came in, but 4,123 kept + 7,872 dropped = 11,995"),
        (break_kept, "the last stage let 4,123 pairs through, but 4,124 are kept"),
        (break_kept, "manifest.json holds 4,123 pairs, summary.json 4,124"),
        (break_chain, "stage caption clean took in 9,417 pairs, but was handed 9,415"),
    ],
)
def test_a_miscount_raises_a_banner_that_says_what(folders, tmp_path, change, words):
    sound = page_of(folders, tmp_path / "report.html")
    assert "do not add up" not in sound.prose and "difference 0" in sound.prose
    edit(folders["curate_output"], "summary.json", change)
    page = page_of(folders, tmp_path / "report.html")
    assert ("div", {"class": "alarm", "role": "alert", "id": "miscount"}) in page.tags
    assert "The counts do not add up." in page.prose and words in page.prose
    assert any((attrs.get("class") or "") == "balance wrong" for _, attrs in page.tags)
    assert "MISCOUNT" in printed(folders)


def test_shards_that_hold_other_pairs_than_the_manifest_are_a_miscount(folders, tmp_path):
    edit(folders["curate_output"], "manifest.json", lambda found: found["shards"][0].update(pairs=999))
    assert "the shards hold 4,122 pairs, manifest.json says 4,123" in page_of(folders, tmp_path / "report.html").prose


@pytest.mark.parametrize("present", [("curate",), ("train",), ("eval",), ("curate", "train"), ("train", "eval")])
def test_what_has_not_run_yet_is_said_so(folders, tmp_path, present):
    given = {key: folder if key.split("_")[0] in present else None for key, folder in folders.items()}
    given["eval_output"] = given["eval_output"] or str(tmp_path / "not there")
    page = page_of(given, tmp_path / "report.html")
    waiting = {"curate", "train", "eval"} - set(present)
    for command in ("curate", "train", "eval"):
        expected = command in waiting and not (command == "eval" and "train" in present)  # its curves stand there
        assert (f"Not run yet. clipmill {command}" in page.prose) is expected
    links = [attrs["href"][1:] for tag, attrs in page.tags if tag == "a"]
    assert set(links) <= set(page.ids())


def test_nothing_at_all_is_an_error_that_says_what_to_type(tmp_path):
    nothing = dict.fromkeys(("curate_output", "train_output", "eval_output"), str(tmp_path / "empty"))
    with pytest.raises(DataError, match="nothing has run yet") as caught:
        write_report(str(tmp_path / "report.html"), **nothing, name="demo")
    assert "clipmill run" in caught.value.hint and caught.value.exit_code == 78
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("folder", "name", "content", "found"),
    [
        ("curate_output", "summary.json", "{", "not JSON"),
        ("curate_output", "summary.json", '{"pairs_in": "many", "pairs_kept": 1}', "pairs_in"),
        ("curate_output", "manifest.json", '{"num_pairs": null}', "num_pairs"),
        ("eval_output", "eval.json", '{"results": {"a/b": "high"}}', "results.a/b"),
        ("eval_output", "eval.json", b"\xff\xfe".decode("latin-1"), "not JSON"),
    ],
)
def test_a_damaged_file_is_named_and_no_page_is_written(folders, tmp_path, folder, name, content, found):
    (Path(folders[folder]) / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        write_report(str(tmp_path / "report.html"), **folders, name="demo")
    assert name in str(caught.value) and found in str(caught.value)
    assert list(tmp_path.glob("*report*")) == []


def test_a_log_cut_and_resumed_counts_each_step_once(folders, tmp_path):
    path = Path(folders["train_output"]) / "metrics.jsonl"
    rows = fake_run.metrics()
    bad = rows[90] | {"loss": None, "skipped": True}
    again = [*rows[80:90], bad, *rows[91:]]
    lines = [*map(json.dumps, rows[:100]), '{"step": 100, "lo', *map(json.dumps, again)]
    path.write_text("\n".join(lines) + "\n")
    page = page_of(folders, tmp_path / "report.html")
    assert "160 steps logged" in page.prose and "20 of them were done twice" in page.prose
    assert "1 line was cut short" in page.prose and "In 1 step the loss or the gradient was not finite" in page.prose
    points = [attrs["points"] for _, attrs in page.tags if "points" in attrs]
    assert len(points) > 8 and not any(word in some for some in points for word in ("nan", "inf"))


def test_eval_curves_start_at_the_untrained_model(folders, tmp_path):
    lines = [row for row in fake_run.evals() if row["step"] >= 40]
    fake_run.write_lines(Path(folders["train_output"]) / "evals.jsonl", lines)
    page = page_of(folders, tmp_path / "report.html")
    label = next(attrs["aria-label"] for _, attrs in page.tags if "clipart-classes:" in (attrs.get("aria-label") or ""))
    before = fake_run.results()["before"]["clipart-classes/top1"]
    assert f"top-1 accuracy from {before:.3f} at 0 to 0.287 at 160" in label


def test_a_long_run_makes_a_small_page(folders, tmp_path):
    rows = [{"step": i, "loss": 5 - i / 50_000, "lr": 1e-4} for i in range(40_000)]
    fake_run.write_lines(Path(folders["train_output"]) / "metrics.jsonl", rows)
    given = folders | {"curate_output": None, "eval_output": None}
    page = page_of(given, tmp_path / "report.html")
    assert len(page.text) < 100_000 and "40,000 steps logged" in page.prose


def test_a_page_is_the_same_when_all_was_ready_for_it(folders, tmp_path):
    environment.cache_clear()
    before = page_of(folders, tmp_path / "before.html").text
    environment.cache_clear()
    ready()
    assert environment.cache_info().misses == 1 and page_of(folders, tmp_path / "after.html").text == before
    assert environment.cache_info().misses == 1


def test_equal_inputs_give_equal_bytes_and_leave_no_temporary_file(folders, tmp_path):
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    page_of(folders, first)
    page_of(folders, second)
    assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "b.html", "curate", "train", "eval"}


def test_the_page_is_readable_without_eyes(folders, tmp_path):
    page = page_of(folders, tmp_path / "report.html")
    assert page.tags[0] == ("html", {"lang": "en"})
    assert len(page.ids()) == len(set(page.ids()))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    for tag, attrs in page.tags:
        if tag == "img":
            assert attrs["alt"] and int(attrs["width"]) > 0 and int(attrs["height"]) > 0
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"
        if tag == "th":
            assert attrs.get("scope") in {"col", "row", "rowgroup"}
    assert page.text.count("<table") == page.text.count("<caption")
    loss = next(attrs["aria-label"] for _, attrs in page.tags if (attrs.get("aria-label") or "").startswith("Loss:"))
    assert "5.550" in loss and "3.067" in loss
