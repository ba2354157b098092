"""The bytes of the format are promised: a change of any of these is a new format version."""

import re
from pathlib import Path

import pipeline.contract
from pipeline import storage
from pipeline.contract import pairs
from pipeline.contract.index import INDEX_SCHEMA
from pipeline.contract.manifest import Manifest
from pipeline.contract.pairs import EXTS
from pipeline.contract.shards import write_shard
from tests.helpers.datasets import make_pair

GOLDEN_TAR = "1966544fbb2ad5dc25016df4e95011e54b82583518464c445861950ee42c46fe"
GOLDEN_DIGEST = "702a40de47f7b3f519c228d391cd0e02"


def golden_pairs() -> list[pairs.Pair]:
    # Fixed bytes, not encoder output: an image library may change, the format may not.
    return [make_pair(n, ext, image=bytes(range(100)) * (n + 1), score=0.25) for n, ext in enumerate(EXTS)]


def test_the_same_pairs_give_the_promised_tar_bytes(tmp_path):
    entry = write_shard(str(tmp_path), 7, golden_pairs())
    assert entry.sha256 == GOLDEN_TAR == storage.sha256_of(str(tmp_path / "shard-000007.tar"))
    assert entry.bytes == (tmp_path / "shard-000007.tar").stat().st_size


def test_the_manifest_digest_is_fixed_and_ignores_history_and_index_bytes(tmp_path):
    entry = write_shard(str(tmp_path), 7, golden_pairs())
    manifest = Manifest(name="a", num_pairs=3, shards=[entry])
    other = Manifest(
        name="b", num_pairs=3, shards=[entry.model_copy(update={"index_sha256": "0" * 64})], recipe_digest="x"
    )
    assert manifest.digest() == other.digest() == GOLDEN_DIGEST
    changed = entry.model_copy(update={"sha256": "0" * 64})
    assert Manifest(name="a", num_pairs=3, shards=[changed]).digest() != GOLDEN_DIGEST


def test_the_row_checksum_is_fixed_and_bytes_cannot_move_between_members():
    assert pairs.row_checksum(b"image", b"text", b"{}") == 11236480910983242618
    assert pairs.row_checksum(b"imaget", b"ext", b"{}") != pairs.row_checksum(b"image", b"text", b"{}")


def test_a_generator_and_a_list_and_a_second_run_give_the_same_files(tmp_path):
    first = write_shard(str(tmp_path / "a"), 0, golden_pairs())
    second = write_shard(str(tmp_path / "b"), 0, (pair for pair in golden_pairs()))
    again = write_shard(str(tmp_path / "b"), 0, golden_pairs())
    assert first == second == again  # the index's sha256 included


def _table(title: str) -> list[tuple[str, ...]]:
    text = (Path(pipeline.contract.__file__).parent / "README.md").read_text()
    section = text.split(f"### {title}\n")[1].split("\n#")[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.splitlines() if line[:1] == "|"
    ]
    return [tuple(re.sub("`", "", cell) for cell in row) for row in rows[2:]]


def test_the_readme_lists_exactly_the_fields_of_the_metadata():
    for title, columns in (("KEY.json", pairs.META_COLUMNS), ("A caption", pairs.CAPTION_COLUMNS)):
        written = [(name, kind, need) for name, kind, need, *_ in _table(title)]
        assert written == [(c.name, c.type, "required" if c.required else "optional") for c in columns]


def test_the_readme_lists_exactly_the_columns_of_the_index():
    written = [(name, kind) for name, kind, *_ in _table("index/shard-xxxxxx.parquet")]
    assert written == [(field.name, str(field.type) + ("?" if field.nullable else "")) for field in INDEX_SCHEMA]


def test_the_readme_lists_exactly_the_fields_of_the_manifest():
    written = [name for name, *_ in _table("manifest.json")]
    assert sorted(written) == sorted([*Manifest.model_fields, "self_digest"])
