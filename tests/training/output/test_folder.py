"""A run that has saved never starts from step 0 by itself, and `fresh` keeps what was there."""

import pytest

from pipeline.errors import DataError, StorageError
from tests.helpers.simulated import run_simulated
from training.output.folder import claimed, note_saved, require_checkpoints, set_aside
from training.ranks.peers import Peers


def test_a_run_that_never_saved_starts_and_one_that_did_does_not(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')  # it was killed before its first checkpoint
    require_checkpoints(tmp_path)
    note_saved(tmp_path)
    note_saved(tmp_path)
    with pytest.raises(DataError, match="hint: put the checkpoints back.*train.fresh=true") as caught:
        require_checkpoints(tmp_path)
    assert caught.value.exit_code == 78


def test_fresh_keeps_checkpoints_and_logs_under_names_of_their_own(tmp_path):
    set_aside(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for number in (1, 2):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "metrics.jsonl").write_text(str(number))
        note_saved(tmp_path)
        set_aside(tmp_path)
        assert (tmp_path / f"metrics.jsonl.old-{number}").read_text() == str(number)
        assert (tmp_path / f"checkpoints.old-{number}").is_dir()
        require_checkpoints(tmp_path)


def test_a_second_run_is_refused_on_every_rank(tmp_path):
    def second(peers):
        with pytest.raises(StorageError, match="another run is at work here: host .*, process "):
            with claimed(tmp_path, peers):
                pass
        return True

    with claimed(tmp_path, Peers.alone()):
        assert run_simulated(second, 2) == [True, True]
    with claimed(tmp_path, Peers.alone()):
        pass
