"""Lists of uids side by side: what a set says, whatever the pieces."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.report.compared import uids
from pipeline.report.compared.uids import Fates, Uids, absent, steps

UIDS = st.sets(st.one_of(st.integers(0, 300), st.integers(0, 2**128 - 1)).map(lambda n: n << 8 if n < 2**100 else n))


def write(folder, numbers) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    halves = [(n >> 64, n & (2**64 - 1)) for n in sorted(numbers)]
    np.save(folder / "subset.npy", np.array(halves, np.dtype("u8,u8")))
    return str(folder)


def hexes(found: np.ndarray) -> list[str]:
    return [each.tobytes().ljust(16, b"\0").hex() for each in found]


@given(UIDS, UIDS, st.integers(1, 7))
@example(set(range(1, 60)), {1, 50, 51, 58}, 3)
def test_the_differences_are_those_of_sets(tmp_path_factory, one, two, piece):
    root = tmp_path_factory.mktemp("uids")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uids, "PIECE", piece)
        a, b = Uids(write(root / "a", one)), Uids(write(root / "b", two))
        only_a, only_b, rows, both = [], [], [], 0
        for step in steps(a, b):
            lost, new = absent(step.mine, step.theirs), absent(step.theirs, step.mine)
            only_a += hexes(step.mine[lost])
            only_b += hexes(step.theirs[new])
            rows += step.rows[lost].tolist()
            both += int((~lost).sum())
    assert only_a == [f"{n:032x}" for n in sorted(one - two)] and only_b == [f"{n:032x}" for n in sorted(two - one)]
    assert both == len(one & two) and [sorted(one)[row] for row in rows] == sorted(one - two)


def test_fates_are_found_over_several_files_in_several_goes(tmp_path):
    (tmp_path / "verdicts").mkdir()
    for at, numbers in enumerate(([1, 5], [], [7, 9], [20])):
        rows = {
            "uid": [f"{n:032x}" for n in numbers],
            "stage": ["s"] * len(numbers),
            "reason": [f"r{n}" for n in numbers],
        }
        kinds = pa.schema([("uid", pa.string()), ("stage", pa.string()), ("reason", pa.string())])
        pq.write_table(pa.table(rows, schema=kinds), tmp_path / "verdicts" / f"bucket-{at:05d}.parquet")
    fates = Fates(str(tmp_path))
    asked = [[bytes.fromhex(f"{n:032x}") for n in some] for some in ([1, 2], [5, 8, 9], [19, 20, 21])]
    found = [fates.of(np.array(some, "S16")).tolist() for some in asked]
    assert fates.are_known and not Fates(str(tmp_path / "nowhere")).are_known
    assert found == [["s.r1", None], ["s.r5", None, "s.r9"], [None, "s.r20", None]]


def test_what_is_no_list_of_uids_is_named(tmp_path):
    np.save(tmp_path / "subset.npy", np.arange(3))
    with pytest.raises(DataError, match="no list of uids"):
        Uids(str(tmp_path))
    (tmp_path / "subset.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DataError):
        Uids(str(tmp_path))
