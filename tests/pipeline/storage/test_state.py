"""State files: what is damaged reads as not there, whatever the damage is."""

import json

import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.storage.lock import locked


def test_a_state_comes_back_and_every_flipped_bit_makes_it_undone(tmp_path):
    url = str(tmp_path / "a.json")
    (tmp_path / "x").write_bytes(b"abc")
    storage.publish_state(url, {"rows": 3, "name": "ü"}, {"x": storage.note_of(tmp_path / "x")})
    data = (tmp_path / "a.json").read_bytes()
    whole = storage.read_state(url)
    assert (whole["rows"], whole["name"], set(whole["files"])) == (3, "ü", {"x"})
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        (tmp_path / "a.json").write_bytes(flipped)
        try:
            same = json.loads(flipped) == json.loads(data)  # a flip in white space
        except ValueError:
            same = False
        assert storage.read_state(url, quiet=True) == (whole if same else None)


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"null", b"3", b"[]", b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b"9" * 5000]
)
def test_junk_is_no_state_no_holder_and_no_object(tmp_path, junk):
    (tmp_path / "a.json").write_bytes(junk)
    assert storage.read_state(str(tmp_path / "a.json")) is None and storage.json_object(junk) is None
    with locked(tmp_path):
        (tmp_path / ".lock").write_bytes(junk)
        with pytest.raises(StorageError, match="another run is at work here: it has not yet said who it is"):
            with locked(tmp_path):
                pass


def test_faults_are_told_in_words(tmp_path):
    for name in ("same", "other", "longer", "gone", "freed", "freed but there"):
        (tmp_path / name).write_bytes(b"abc")
    notes = {path.name: storage.note_of(path) for path in tmp_path.iterdir()}
    (tmp_path / "other").write_bytes(b"abd")
    (tmp_path / "longer").write_bytes(b"abcd")
    (tmp_path / "freed but there").write_bytes(b"abd")
    (tmp_path / "gone").unlink()
    (tmp_path / "freed").unlink()
    assert sorted(storage.faults_of(str(tmp_path), notes, ("freed", "freed but there"))) == [
        "freed but there: other bytes than were written", "gone: missing", "longer: 4 bytes instead of 3",
        "other: other bytes than were written",
    ]  # fmt: skip
