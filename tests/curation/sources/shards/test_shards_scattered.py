"""Tars that are not in the order of their samples: members of one key are joined wherever they lie, and no image gets
the words of another. The oracle is the list that a tar was made of."""

import gzip
import random
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import samples
from tests.curation.sources.shards.test_shards import Ingested, sample
from tests.helpers.lanes import examples
from tests.helpers.tars import packed, tar_bytes
from tests.helpers.warcs import png

Members = list[tuple[str, bytes]]


def pairs_of(got: Ingested) -> dict[bytes, set[str]]:
    """The bytes of each image -> its texts."""
    return {got.body(uid): {text for _, text in got.captions[uid]} for uid, row in got.images.items() if row["size"]}


def by_kind(count: int) -> Members:
    """As `tar c *.jpg *.txt *.json` makes it."""
    return [sample(number)[kind] for kind in range(3) for number in range(count)]


def test_a_tar_of_all_images_and_then_all_texts_gives_what_one_in_order_gives(tmp_path, caplog):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    in_order = Ingested(tmp_path / "a", tar_bytes([each for number in range(40) for each in sample(number)]))
    got = Ingested(tmp_path / "b", tar_bytes(by_kind(40)))
    assert pairs_of(got) == pairs_of(in_order) == {png(number): {f"cat {number}"} for number in range(40)}
    assert got.counts == {**in_order.counts, "joined_samples": 40}
    assert "00000.tar: the members of 40 keys do not lie side by side" in caplog.text


def test_a_packed_one_and_one_with_its_fields_in_a_table_are_joined_too(tmp_path):
    keys = [f"{number:09d}" for number in range(5)]
    table = {"key": keys, "url": [f"http://e.org/{key}" for key in keys]}
    pq.write_table(pa.table(table), tmp_path / "00000.parquet")
    members = [each for each in by_kind(5) if not each[0].endswith(".json")]
    got = Ingested(tmp_path, gzip.compress(tar_bytes(members)), "00000.tar.gz")
    assert sorted(row["url"] for row in got.images.values()) == table["url"]
    assert pairs_of(got) == {png(number): {f"cat {number}"} for number in range(5)}


def test_one_straggler_costs_nobody_anything(tmp_path):
    members = [each for number in range(20) for each in sample(number)]
    members.append(members.pop(3 * 4 + 1))  # the text of 4 comes last
    got = Ingested(tmp_path, tar_bytes(members))
    assert pairs_of(got) == {png(number): {f"cat {number}"} for number in range(20)}
    assert got.counts == {"records": 20, "images": 20, "joined_samples": 1}


def test_a_second_image_among_them_is_a_reason_and_joins_nothing(tmp_path):
    """Which of the two the text is of nobody knows."""
    members = [*by_kind(3), ("000000001.png", png(9))]
    got = Ingested(tmp_path, tar_bytes(members))
    assert pairs_of(got) == {png(0): {"cat 0"}, png(2): {"cat 2"}}
    assert got.counts["bad_records:dup_member"] == 1 and got.counts["records"] == 3


def test_where_there_is_damage_only_what_is_whole_is_joined(tmp_path):
    """A text of 1 and the name of a text of 2 are gone."""
    data = bytearray(b"".join(packed(name.encode(), content) for name, content in by_kind(4)) + bytes(1024))
    at = data.index(b"000000001.txt")
    data[at : at + 1024] = random.Random(0).randbytes(1024)
    got = Ingested(tmp_path, bytes(data))
    assert pairs_of(got) == {png(number): {f"cat {number}"} for number in (0, 2, 3)}
    assert got.counts["bad_records:damaged_shard"] == 1 and got.counts["bytes_skipped"] > 1024


def test_keys_beyond_what_memory_holds_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_MOST_JOINED", 3)
    got = Ingested(tmp_path, tar_bytes([*by_kind(5), *sample(7)]))
    assert pairs_of(got) == {png(number): {f"cat {number}"} for number in (0, 1, 2, 7)}
    assert got.counts["bad_records:scattered"] == 2 and got.counts["records"] == 6


@examples(150)
@given(st.data())
def test_any_order_of_members_gives_the_pairs_that_they_make(tmp_path_factory, data):
    """With keys that lack an image, a text or the fields, and keys that have one of them twice."""
    made: list[tuple[int, str, bytes]] = []
    for number in range(data.draw(st.integers(1, 6))):
        kinds = data.draw(st.lists(st.sampled_from(["jpg", "txt"]), min_size=1, max_size=3))
        made += [(number, kind, png(10 * number + at) if kind == "jpg" else b"cat %d %d" % (number, at))
                 for at, kind in enumerate(kinds)]  # fmt: skip
    made = data.draw(st.permutations(made))
    folder: Path = tmp_path_factory.mktemp("any")
    got = Ingested(folder, tar_bytes([(f"k{number}.{kind}", content) for number, kind, content in made] + sample(99)))
    runs: dict[int, list[list[tuple[str, bytes]]]] = defaultdict(list)
    before = None
    for number, kind, content in made:
        if number != before:
            runs[number].append([])
        runs[number][-1].append((kind, content))
        before = number
    found = pairs_of(got)
    assert found.pop(png(99)) == {"cat 99"}
    for parts in runs.values():
        kinds = [kind for part in parts for kind, _ in part]
        images = {content for part in parts for kind, content in part if kind == "jpg"}
        texts = {content.decode() for part in parts for kind, content in part if kind == "txt"}
        if len(kinds) == len(set(kinds)):
            expected = {image: texts or {""} for image in images}
            assert {image: found[image] for image in images} == expected
        for image in images & found.keys():  # and whatever is kept has words of its own key alone
            assert found[image] <= texts | {""}
    assert got.counts["records"] >= len(runs) + 1
