import json
from pathlib import Path

import pytest

from pipeline.errors import DataError, UsageError
from tests.helpers.datasets import make_dataset
from training.reader.digest import digest_part, step_digest
from training.reader.pairs import open_pairs
from training.reader.reader import Reader
from training.replay import show, verify
from training.settings import TrainSettings
from training.towers.tokenizer import Tokenizer

MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 8, "patch_size": 4},
    "text_cfg": {"context_length": 9, "vocab_size": 49408},
}
SEED = 3


@pytest.fixture()
def settings(tmp_path: Path) -> TrainSettings:
    make_dataset(str(tmp_path / "data"), shards=3, pairs=10)
    given = {
        "data": [str(tmp_path / "data")], "output": str(tmp_path / "run"), "steps": 9, "model": {"config": MODEL},
        "batch": {"global": 8}, "reader": {"workers": 0},
    }  # fmt: skip
    return TrainSettings.model_validate(given)


def _reader(settings: TrainSettings) -> Reader:
    return Reader(
        open_pairs(settings.data), settings.reader, seed=SEED, global_batch=settings.batch.global_pairs,
        image=settings.image, image_size=8, captions=settings.captions, tokenize=Tokenizer(settings.model),
        steps=settings.steps,
    )  # fmt: skip


def _log(settings: TrainSettings, steps: int) -> Path:
    path = Path(settings.output) / "metrics.jsonl"
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"step": step, "digest": step_digest(digest_part(batch.uids), batch.size)}
        for step, batch in _reader(settings).batches(0, steps)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SCHEDULED = {"kind": "weighted", "weights": {"alt": [[0, 1], [1, 0]], "title": [[0, 0], [1, 1]]}}


@pytest.mark.parametrize("captions", [{"kind": "uniform"}, SCHEDULED])
def test_show_lists_what_the_reader_feeds(settings: TrainSettings, captions: dict) -> None:
    settings = TrainSettings.model_validate({**settings.model_dump(mode="json", by_alias=True), "captions": captions})
    for step, batch in _reader(settings).batches(0, 9):
        rows = show(settings, SEED, step)
        assert [(row.uid, row.epoch, row.caption) for row in rows] == list(
            zip(batch.uids, batch.epochs, batch.captions, strict=True)
        )
        assert [row.lane for row in rows] == list(range(8))
        assert all(row.shard[6:12] == row.key[:6] for row in rows)


def test_show_refuses_a_step_beyond_the_run(settings: TrainSettings) -> None:
    with pytest.raises(UsageError, match="step 9: the run has no such step; expected 0 to 8"):
        show(settings, SEED, 9)


def test_a_true_log_verifies_and_a_cut_last_line_is_no_line(settings: TrainSettings) -> None:
    path = _log(settings, 9)
    path.write_text(path.read_text() + '{"step": 9, "dig')
    found = verify(settings, SEED)
    assert (found.steps, found.wrong) == (9, [])


def test_a_step_that_used_other_pairs_is_found(settings: TrainSettings) -> None:
    path = _log(settings, 9)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[4]["digest"], rows[5]["digest"] = rows[5]["digest"], rows[4]["digest"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert verify(settings, SEED).wrong == [4, 5]
    assert verify(settings, SEED + 1).wrong == list(range(9))


def test_a_log_with_holes_proves_nothing(settings: TrainSettings) -> None:
    with pytest.raises(DataError, match="metrics.jsonl: does not exist"):
        verify(settings, SEED)
    path = _log(settings, 9)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[5:]))
    with pytest.raises(DataError, match="2 steps are missing, the first is 3"):
        verify(settings, SEED)
    path.write_text("nonsense\n")
    with pytest.raises(DataError, match="line 1: no step and digest"):
        verify(settings, SEED)
