"""The last to come has the turn; the one before sees it, and takes nothing away from it."""

import pytest

from pipeline import storage
from pipeline.storage import turn


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}/turns"


def test_the_last_to_come_has_the_turn(folder, caplog):
    first = turn.take(folder)
    assert turn.over(folder, first) == "" and caplog.text == ""
    second = turn.take(folder)
    assert "has not ended here; this run takes over" in caplog.text
    assert turn.over(folder, first).startswith("another run (host ") and turn.over(folder, second) == ""
    turn.end(folder, first)  # not its to end
    assert turn.over(folder, second) == ""
    turn.end(folder, second)
    assert storage.list_sizes(folder) == {} and "which has ended" in turn.over(folder, first)


@pytest.mark.parametrize("junk", [b"", b"{", b"null", b"[1]", b"\xff"])
def test_a_damaged_mark_is_nobodys_turn(folder, junk):
    token = turn.take(folder)
    storage.publish_bytes(storage.join(folder, turn.TURN), junk)
    assert turn.over(folder, token)
    assert turn.over(folder, turn.take(folder)) == ""
