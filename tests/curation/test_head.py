"""`clipmill head`: from labels on a pool's vectors to a file that the stage `head` reads, on those vectors alone."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.head import HeadSettings, train_head
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stage_order import check_stages
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.clip_text_vector import ClipTextVector
from curation.stages.head import HeadScore
from pipeline.contract.dataset import RawPair, open_dataset
from pipeline.errors import DataError, RecipeError
from tests.helpers import small_crawl, tiny_clip

VECTORS = [
    {"kind": "image_decode"},
    {"kind": "clip_image_vector", **tiny_clip.kept()},
    {"kind": "clip_text_vector", **tiny_clip.kept()},
]


def settings(folder: Path, output: str, *more: dict) -> CurateSettings:
    return CurateSettings.model_validate({
        "sources": [{"kind": "warc", "paths": [str(folder / "crawl/*.gz")]}], "stages": [*VECTORS, *more],
        "output": str(folder / output), "pool": str(folder / "pool"), "ray": {"address": "inline"}, "buckets": 4,
        "emit": {"pairs_per_shard": 9},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    small_crawl.write(folder / "crawl", small_crawl.records(120), files=2)
    curate(settings(folder, "data"), name="x", seed=0, quiet=True)
    return folder


def pairs_of(folder: Path, output: str = "data") -> list[RawPair]:
    data = open_dataset(str(folder / output))
    return [pair for at, shard in enumerate(data.shards) for pair in data.read_many(at, range(shard.num_pairs))]


def sha_of(pair: RawPair) -> str:
    return pair.meta.get("source_sha256", pair.meta["sha256"])


def label_of(name: str) -> float:
    return sum(name.encode()) % 97 / 10


def write(path: Path, by: str, rows: list[tuple[str, object]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({by: [a for a, _ in rows], "label": [b for _, b in rows]}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({by: a, "label": b}) + "\n" for a, b in rows))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([(by, "label"), *rows])
    return str(path)


def trained(folder: Path, labels: str, out: Path, **more):
    more = {"output": str(out), "labels": labels, "l2": 1e-3} | more
    return train_head(HeadSettings(**more), settings(folder, "data"), seed=0)


def vectors_of(bodies: list[bytes]) -> np.ndarray:
    """By the tower itself."""
    from curation.methods.vectors.clip_model import ClipModel
    from pipeline.images.decoder import decode

    model = ClipModel.load(**tiny_clip.kept(), precision="fp32", where="x")
    return model.images([decode(body)[0] for body in bodies], 32).astype(float)


def test_pictures_named_by_uid_url_or_sha256_give_the_head_of_least_squares(folder: Path, tmp_path: Path):
    pairs = [pair for pair in pairs_of(folder) if "source_sha256" not in pair.meta]  # whose bytes are those measured
    x, y = vectors_of([pair.image for pair in pairs]), np.array([label_of(sha_of(pair)) for pair in pairs])
    free = np.hstack([x, np.ones((len(x), 1))])
    rows = np.vstack([free, np.sqrt(len(x) * 1e-3) * np.eye(17)[:16]])
    wanted = np.linalg.lstsq(rows, np.append(y, np.zeros(16)), rcond=None)[0]
    files = []
    for by, suffix in (("uid", "csv"), ("url", "tsv"), ("sha256", "jsonl"), ("uid", "parquet")):
        name = {"uid": lambda p: p.uid, "url": lambda p: p.meta["url"], "sha256": sha_of}[by]
        table = write(tmp_path / f"{by}.{suffix}", by, [(name(pair), label_of(sha_of(pair))) for pair in pairs])
        made = trained(folder, table, tmp_path / f"{by}-{suffix}.safetensors")
        assert (made.used, made.unmatched, made.bad) == (len(pairs), 0, 0) and made.figures
        files.append(Path(made.path).read_bytes())
    assert len(set(files)) == 1
    stage = HeadScore(name="nice", weights=made.path)
    check_stages([*settings(folder, "data").stages, stage])
    curate(settings(folder, "scored", stage.model_dump()), name="x", seed=0, quiet=True)
    said = {pair.uid: pair.meta["nice"] for pair in pairs_of(folder, "scored")}
    assert np.allclose([said[pair.uid] for pair in pairs], free @ wanted, atol=2e-2)


def test_order_and_cut_change_no_byte(folder: Path, tmp_path: Path):
    rows = [(sha_of(pair), label_of(pair.uid)) for pair in pairs_of(folder)]
    for hidden, kind in ((None, "ridge"), (4, "ridge"), (None, "logistic")):
        given = [(name, int(value > 5)) if kind == "logistic" else (name, value) for name, value in rows]
        found = {
            Path(trained(folder, write(tmp_path / "x.csv", "sha256", some), tmp_path / "x.safetensors",
                         hidden=hidden, kind=kind).path).read_bytes()
            for some in (given, given[::-1], sorted(given, key=lambda row: row[1]))
        }  # fmt: skip
        assert len(found) == 1


def test_captions_named_by_text_or_by_their_pair(folder: Path, tmp_path: Path):
    texts = sorted({each["text"] for pair in pairs_of(folder) for each in pair.meta["captions"]})
    table = write(tmp_path / "x.csv", "text", [(text, label_of(text)) for text in texts])
    column = {"column": "captions.text_vector"}
    made = trained(folder, table, tmp_path / "text.safetensors", **column)
    assert made.used == len(texts) and made.unmatched == 0
    check_stages([*settings(folder, "data").stages, HeadScore(name="x", weights=made.path, **column)])
    with pytest.raises(RecipeError, match="trained on captions.text_vector"):
        check_stages([*settings(folder, "data").stages, HeadScore(name="x", weights=made.path)])
    pairs = pairs_of(folder)
    table = write(tmp_path / "y.csv", "uid", [(pair.uid, 1.0 + at) for at, pair in enumerate(pairs)])
    assert trained(folder, table, tmp_path / "y.safetensors", **column).used == sum(
        len(pair.meta["captions"]) for pair in pairs
    )


def test_a_head_is_refused_on_vectors_of_another_model_and_with_other_words(folder: Path, tmp_path: Path):
    rows = [(sha_of(pair), int(label_of(pair.uid) > 5)) for pair in pairs_of(folder)]
    made = trained(folder, write(tmp_path / "x.csv", "sha256", rows), tmp_path / "x.safetensors", kind="logistic")
    other = tiny_clip.saved(tmp_path, seed=5)
    with pytest.raises(RecipeError, match="another model"):
        check_stages([ClipImageVector(**other), HeadScore(name="x", weights=made.path)])
    check_stages([ClipImageVector(**tiny_clip.kept(), chunk=7), HeadScore(name="x", weights=made.path)])
    with pytest.raises(RecipeError, match="trained with sigmoid"):
        check_stages([ClipImageVector(**tiny_clip.kept()), HeadScore(name="x", weights=made.path, output="plain")])
    with pytest.raises(RecipeError, match="no stage of the recipe"):
        trained(folder, made.path, tmp_path / "y.safetensors", column="captions.image_vector")
    assert ClipTextVector(**tiny_clip.kept()).model_digest() == ClipImageVector(**tiny_clip.kept()).model_digest()


def test_rows_without_use_are_counted_and_tables_without_any_refused(folder: Path, tmp_path: Path):
    rows: list[tuple[str, object]] = [(sha_of(pair).upper(), label_of(pair.uid)) for pair in pairs_of(folder)]
    odd = [("f" * 64, 3), ("", 4), ("a" * 64, "nan"), (sha_of(pairs_of(folder)[0]), "")]
    made = trained(folder, write(tmp_path / "x.csv", "sha256", rows + odd), tmp_path / "x.safetensors")
    assert (made.used, made.unmatched, made.bad) == (len(rows), 1, 3)
    for table, error, said in (
        (write(tmp_path / "few.csv", "sha256", rows[:5]), DataError, "at least 10"),
        (write(tmp_path / "same.csv", "sha256", [(name, 2) for name, _ in rows]), DataError, "all labels are 2"),
        (write(tmp_path / "named.csv", "picture", rows), RecipeError, "exactly one of uid, url, sha256"),
        (write(tmp_path / "words.csv", "sha256", [(name, "good") for name, _ in rows]), RecipeError, "numbers"),
        (str(tmp_path / "none.csv"), RecipeError, "no such file"),
        (str(tmp_path / "x.txt"), RecipeError, "ends in"),
    ):
        with pytest.raises(error, match=said):
            trained(folder, table, tmp_path / "y.safetensors")
    with pytest.raises(DataError, match="0 to 1"):
        trained(folder, write(tmp_path / "z.csv", "sha256", rows), tmp_path / "y.safetensors", kind="logistic")
    with pytest.raises(RecipeError, match="label"):
        trained(folder, write(tmp_path / "z.csv", "sha256", rows), tmp_path / "y.safetensors", label="beauty")
    assert not (tmp_path / "y.safetensors").exists()
