"""What is written is read back, by our reader and by Python's, whatever the pairs hold."""

import hashlib
import json
import tarfile
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contract.dataset import open_dataset, verify
from pipeline.contract.manifest import Manifest
from pipeline.contract.pairs import EXTS, Pair
from pipeline.contract.shards import write_shard
from pipeline.errors import DataError
from tests.helpers.datasets import make_pair

texts = st.text(st.characters(codec="utf-8"), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    image = draw(st.binary(min_size=1, max_size=1500))
    captions = [{"text": draw(texts.filter(bool)), "source": "alt"}]
    captions += [{"text": text, "source": "title", "score": 0.5} for text in draw(st.lists(texts, max_size=2))]
    uid = draw(st.text("0123456789abcdef", min_size=32, max_size=32))
    extra = draw(st.dictionaries(st.text(min_size=1, max_size=8).filter(str.isidentifier), values, max_size=3))
    known = {"uid": uid, "sha256": hashlib.sha256(image).hexdigest(), "captions": captions, "url": None}
    sides = {"width": draw(st.integers(1, 10**5)), "height": draw(st.integers(1, 10**5))}
    return Pair(uid, image, draw(st.sampled_from(EXTS)), {**extra, **known, **sides})


@settings(max_examples=30, deadline=None)
@given(shards=st.lists(st.lists(pairs(), min_size=1, max_size=4), min_size=1, max_size=3), order=st.randoms())
def test_every_pair_comes_back_as_it_was(shards, order):
    with tempfile.TemporaryDirectory() as folder:
        entries = [write_shard(folder, number, shard) for number, shard in enumerate(shards)]
        Manifest(name="x", num_pairs=sum(map(len, shards)), shards=entries).save(folder)
        dataset = open_dataset(folder)
        for number, shard in enumerate(shards):
            rows = [order.randrange(len(shard)) for _ in range(5)]
            read = dataset.read_many(number, rows)
            for row, pair in zip(rows, read, strict=True):
                wrote = shard[row]
                assert (pair.uid, pair.image, pair.ext, pair.text) == (wrote.uid, wrote.image, wrote.ext, wrote.text)
                assert json.dumps(pair.meta, sort_keys=True) == json.dumps(wrote.meta, sort_keys=True)
                assert pair.key == f"{number:06d}-{row:06d}"
        assert verify(folder).problems == []
        plain = open_dataset(f"{folder}/*.tar")  # the scan finds the same table as the writer made
        assert all(plain.table(n).equals(dataset.table(n)) for n in range(len(shards)))


def test_pythons_tarfile_reads_a_shard(tmp_path):
    write_shard(str(tmp_path), 0, [make_pair(0), make_pair(1, "webp")])
    with tarfile.open(tmp_path / "shard-000000.tar") as file:
        names = file.getnames()
        assert names == sorted(names) and len(names) == 6
        assert file.extractfile("000000-000001.txt").read().decode() == make_pair(1).text
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in file} == {(0, 0, 0, 0o644, "")}


BAD = {
    "uid": lambda: make_pair(0, uid="0" * 32),
    "sha256": lambda: make_pair(0, sha256="0" * 64),
    "width": lambda: make_pair(0, width=0),
    "captions": lambda: make_pair(0, captions=[]),
    "empty default caption": lambda: make_pair(0, captions=[{"text": "", "source": "alt"}]),
    "negatives": lambda: make_pair(0, negatives={}),
    "negative {'text': ''": lambda: make_pair(0, negatives=[{"text": "", "source": "negative:x"}]),
    "negative 'a dog'": lambda: make_pair(0, negatives=["a dog"]),
    "language": lambda: make_pair(0, language=3),
    "gif": lambda: Pair(make_pair(0).uid, b"GIF89a", "gif", make_pair(0).meta),
    "JSON compliant": lambda: make_pair(0, score=float("nan")),
    "surrogates": lambda: make_pair(0, note="\ud800"),
}


@pytest.mark.parametrize("word", BAD)
def test_a_pair_that_breaks_the_contract_is_refused_by_name_and_nothing_is_published(tmp_path, word):
    with pytest.raises(DataError, match=word) as caught:
        write_shard(str(tmp_path), 0, [make_pair(1), BAD[word]()])
    assert "shard-000000.tar row 1" in caught.value.where
    assert list(tmp_path.rglob("*.*")) == []


def test_an_empty_shard_is_refused(tmp_path):
    with pytest.raises(DataError, match="no pairs"):
        write_shard(str(tmp_path), 0, [])
