"""The last look before a checkpoint is committed: an attempt may have been overtaken while it wrote its tensors."""

import pytest

from pipeline.cluster.rundir import RunDir, lock
from pipeline.errors import Fenced
from training.checkpoint import save


def test_a_checkpoint_of_an_overtaken_attempt_is_not_committed(tmp_path, monkeypatch):
    run, temp = RunDir(tmp_path / "run"), tmp_path / ".tmp-step-00000003"
    run.path.mkdir()
    temp.mkdir()
    lock.take(run, 2, "b")
    monkeypatch.setenv("CLIPMILL_RUN_DIR", str(run.path))
    monkeypatch.setenv("CLIPMILL_RUN_ATTEMPT", "1")
    with pytest.raises(Fenced):
        save._finish(temp, 1, None, [(3, [])])
    assert list(tmp_path.glob("step-*")) == [] == list(temp.iterdir())
