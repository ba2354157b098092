"""`clipmill metadata`: words, pairs of words and titles of a corpus, as plain counting has them, in one order."""

import gzip
import json
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curation.metadata import MetadataSettings, build_metadata
from curation.methods.concepts.matcher import ConceptMatcher
from pipeline.errors import DataError, RecipeError

WORDS = [f"w{i}" for i in range(400)]


def corpus(num: int = 3000, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    pairs = [("ice", "cream"), ("new", "york"), ("big", "dog")]
    texts = []
    for _ in range(num):
        words = [WORDS[min(int(rng.expovariate(0.02)), 399)] for _ in range(rng.randint(0, 9))]
        if rng.random() < 0.3:
            words[1:1] = rng.choice(pairs)
        texts.append(" ".join(words))
    return texts


def oracle(texts: list[str], min_count: int, min_bigram: int, min_pmi: float) -> tuple[list[str], list[str]]:
    single, double = Counter(), Counter()
    for text in texts:
        words = text.lower().split()
        single.update(words)
        double.update(zip(words, words[1:], strict=False))
    total, pairs = single.total(), double.total()
    pmi = {
        " ".join(both): math.log2((n / pairs) / (single[both[0]] / total) / (single[both[1]] / total))
        for both, n in double.items() if n >= min_bigram
    }  # fmt: skip
    unigrams = sorted((word for word, n in single.items() if n >= min_count), key=lambda word: (-single[word], word))
    bigrams = sorted((both for both in pmi if pmi[both] >= min_pmi), key=lambda both: (-round(pmi[both], 9), both))
    return unigrams, bigrams


def settings(folder: Path, *texts: Path, **more) -> MetadataSettings:
    plain = {"entries": None, "numbers": False, "min_count": 30, "min_bigram_count": 5, "min_pmi": 2.0}
    return MetadataSettings(texts=[str(each) for each in texts], output=str(folder / "out.json"), **plain | more)


def built(folder: Path, *texts: Path, **more) -> list[str]:
    build_metadata(settings(folder, *texts, **more))
    return json.loads((folder / "out.json").read_text())


def test_words_and_pairs_are_those_of_plain_counting_however_little_is_held(tmp_path):
    texts = corpus()
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n")
    unigrams, bigrams = oracle(texts, 30, 5, 2.0)
    assert "ice cream" in bigrams and len(unigrams) > 50 and len(bigrams) > 5
    for held in (1000, 5_000_000):
        assert built(tmp_path, tmp_path / "a.txt", held=held) == unigrams + bigrams
    assert built(tmp_path, tmp_path / "a.txt", max_unigrams=7, max_bigrams=3) == unigrams[:7] + bigrams[:3]


def test_no_cut_order_or_form_of_the_corpus_changes_a_byte(tmp_path):
    texts = corpus(800)
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n")
    whole = built(tmp_path, tmp_path / "a.txt")
    random.Random(1).shuffle(texts)
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write("\r\n".join(texts[:300]))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"t": text}) + "\n\n" for text in texts[300:500]))
    pq.write_table(pa.table({"t": [*texts[500:700], None], "n": [0] * 201}), tmp_path / "d.parquet")
    (tmp_path / "e.json").write_text(json.dumps([{"t": text} for text in texts[700:]]))
    files = [tmp_path / name for name in ("e.json", "c.jsonl", "b.txt.gz", "d.parquet")]
    assert built(tmp_path, *files, column="t", held=1000) == whole


def test_sources_come_in_order_and_each_entry_once(tmp_path):
    (tmp_path / "list.json").write_text(json.dumps(["dog", "St. Louis", "7"]))
    (tmp_path / "a.txt").write_text("Dog cat!\n# a cat\ncat ... 42\n猫犬 猫犬\n")
    rows = [
        ("Cat", 99),
        ("Ice_cream", 80),
        ("Ice cream", 5),
        ("Talk:Dog", 500),
        ("rare", 69),
        ("###", 999),
        ("x" * 300, 99),
    ]
    pq.write_table(pa.table({"t": [a for a, _ in rows], "v": [b for _, b in rows]}), tmp_path / "titles.parquet")
    more = {
        "min_count": 2,
        "min_bigram_count": 2,
        "min_pmi": 0.0,
        "numbers": True,
        "entries": str(tmp_path / "list.json"),
    }
    titles = {"titles": str(tmp_path / "titles.parquet"), "title": "t", "views": "v"}
    made = build_metadata(settings(tmp_path, tmp_path / "a.txt", **more, **titles))
    found = json.loads((tmp_path / "out.json").read_text())
    assert found[:102] == [*map(str, range(100)), "dog", "St. Louis"]
    assert found[102:] == ["cat", "犬", "猫", "猫犬", "Cat", "Ice cream"]
    assert (
        made.sources["entries"] == 2 and made.sources["titles"] == 2 and made.entries == len(found) == len(set(found))
    )
    assert ConceptMatcher(found, "word").match("an ICE-cream, 猫犬")


def test_case_is_kept_for_the_mode_that_minds_it(tmp_path):
    (tmp_path / "a.txt").write_text("New York\n" * 3 + "new\n")
    assert built(tmp_path, tmp_path / "a.txt", min_count=1, min_bigram_count=1, min_pmi=-9, fold_case=False) == [
        "New", "York", "new", "New York",
    ]  # fmt: skip


def test_wrong_input_is_one_error(tmp_path):
    good = tmp_path / "a.txt"
    good.write_text("one\n")
    pq.write_table(pa.table({"t": ["a"]}), tmp_path / "d.parquet")
    for wrong, said in (
        ({"texts": [str(tmp_path / "gone.txt")]}, r"metadata\.texts\.0"),
        ({"texts": [str(good), str(tmp_path / "d.parquet")]}, r"metadata\.texts\.1.*no column is named"),
        ({"texts": [str(tmp_path / "d.parquet")], "column": "x"}, r"metadata\.texts\.0.*no column"),
        ({"texts": [str(good)], "entries": str(good)}, r"metadata\.entries"),
        ({"texts": [str(good)], "titles": str(good), "title": "t", "views": "v"}, r"metadata\.titles.*no columns"),
    ):
        with pytest.raises(RecipeError, match=said):
            build_metadata(MetadataSettings(output=str(tmp_path / "o.json"), **wrong))
    with pytest.raises(DataError, match="give no entry"):
        build_metadata(MetadataSettings(output=str(tmp_path / "o.json"), texts=[str(good)]))
    for wrong in ({}, {"texts": ["a"], "output": "x.txt"}, {"texts": ["a"], "views": "v"}):
        with pytest.raises(ValidationError):
            MetadataSettings(**{"output": "o.json"} | wrong)


def test_lines_that_are_no_text_are_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"dog\n\xff\xfe\n" + b"y" * 70_000 + b"\ndog\n")
    made = build_metadata(settings(tmp_path, tmp_path / "a.txt", min_count=2))
    assert made.left_out == 2 and made.texts == 2 and made.sources["unigrams"] == 1


def test_the_command(tmp_path):
    (tmp_path / "a.txt").write_text("a dog\n" * 3)
    (tmp_path / "r.yaml").write_text(
        f"metadata: {{texts: [{tmp_path}/a.txt], output: {tmp_path}/o.json, min_count: 3}}\n"
    )
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "metadata", str(tmp_path / "r.yaml")]
    done = subprocess.run([*command, "metadata.entries=null"], capture_output=True, text=True)
    assert done.returncode == 0 and "102 entries (numbers 100, entries 0, unigrams 2" in done.stdout, done.stderr
    failed = subprocess.run([*command, "metadata.min_cont=3"], capture_output=True, text=True)
    assert failed.returncode == 2 and "min_count" in failed.stderr
