"""What attempts come to is counted once, whoever reads it between which two files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.pool import accounts, journal
from curation.pool.accounts import Lines, Tally
from curation.pool.journal import Journal

GOOD = {"text": "a cat", "failed": "", "tokens_in": 50, "tokens_out": 10}


def sent(number):
    return {"sent": f"{number:032x}", "sample": 0, "try": number, "most": [70, 40]}


def answered(number, answer=GOOD, **more):
    return {"key": f"{number:032x}", "sample": 0, "answer": answer, "try": number} | more


def failed(number, why="http_503", may_cost=False):
    return {"failed": number, "why": why, "may_cost": may_cost}


FATES = {
    "answered": (Tally(finished=1, answers=1, answered=1, tokens_in=50, tokens_out=10), lambda n: [answered(n)]),
    "refused": (Tally(failed={"http_503": 1}), lambda n: [failed(n)]),
    "lost": (Tally(unknown={"timeout": 1}, unknown_in=70, unknown_out=40), lambda n: [failed(n, "timeout", True)]),
    "given_up": (
        Tally(finished=1, failed={"http_503": 1}),
        lambda n: [failed(n), answered(n, {**GOOD, "failed": "x"})],
    ),
    "uncounted": (
        Tally(finished=1, answers=1, answered=1, estimated=1, estimated_in=7, estimated_out=3),
        lambda n: [answered(n, {**GOOD, "tokens_in": 0, "tokens_out": 0}, estimate=[7, 3])],
    ),
    "of no use": (
        Tally(finished=1, answers=1, tokens_in=50, tokens_out=10, failed={"wrong_model": 1}),
        lambda n: [answered(n, {**GOOD, "failed": "wrong_model"})],
    ),
    "under way": (Tally(unknown={accounts.CUT_OFF: 1}, unknown_in=70, unknown_out=40), lambda n: []),
}


@given(st.lists(st.sampled_from(sorted(FATES)), max_size=30), st.randoms(use_true_random=False))
def test_every_attempt_has_one_fate_in_whatever_order_and_however_often_it_is_read(fates, draws):
    todo = [[sent(n), *FATES[fate][1](n)] for n, fate in enumerate(fates)]
    expected, lines = Tally(), []
    for fate in fates:
        expected = expected.plus(FATES[fate][0])
    while any(todo):
        lines.append(draws.choice([each for each in todo if each]).pop(0))
    found = Lines().read(lines)
    assert found.whole() == expected and found.whole().attempts == len(fates)
    carried = Lines().read(lines).read([line for line in lines if "sent" in line and line in found.under_way()])
    assert carried.whole() == expected
    assert Tally(**json.loads(json.dumps(expected.plain()))) == expected
    assert expected.plus(expected).plus(expected, -1) == expected


def left(folder, *lines, by="", end=False):
    own = Journal(folder, by)
    own.add(lines)
    own.close(remove=end)
    return own


def test_processes_add_up_and_become_one_file_that_counts_the_same(tmp_path):
    folder = str(tmp_path)
    left(folder, sent(0), answered(0), by="a")
    left(folder, sent(0), by="b")  # the numbers of another process
    assert accounts.total(folder, "a") == FATES["answered"][0] and accounts.total(folder, "b").unknown_in == 70
    before = accounts.total(folder)
    for _ in range(3):
        accounts.settle(folder, journal.dead(folder))
        assert accounts.total(folder) == before
        assert len(list((tmp_path / accounts.FOLDER).iterdir())) == 1 and journal.names(folder) == []
        extra = left(folder, sent(0), answered(0))
        before = before.plus(FATES["answered"][0])
        accounts.publish(folder, extra.token, 1, "", FATES["answered"][0])


@pytest.mark.parametrize("cut", range(12))
def test_settling_that_is_cut_off_anywhere_counts_nothing_twice_and_loses_nothing(tmp_path, monkeypatch, cut):
    folder, writes = str(tmp_path), [0]
    left(folder, sent(0), answered(0))
    accounts.settle(folder, journal.dead(folder))
    for number in range(3):
        own = left(folder, sent(0), answered(0), sent(1), failed(1), sent(2))
        accounts.publish(folder, own.token, 0 if number else 1, "", Tally() if number else Lines().whole())
    expected = accounts.total(folder)
    assert expected.attempts == 1 + 2 * 3

    def cut_off(real):
        def write(*args, **more):
            writes[0] += 1
            if writes[0] > cut:
                raise KeyboardInterrupt
            return real(*args, **more)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(accounts.storage, "publish_state", cut_off(accounts.storage.publish_state))
        patch.setattr(accounts.storage, "remove", cut_off(accounts.storage.remove))
        patch.setattr(journal, "remove", cut_off(journal.remove))
        try:
            accounts.settle(folder, journal.dead(folder))
        except KeyboardInterrupt:
            pass
    assert accounts.total(folder) == expected
    accounts.settle(folder, journal.dead(folder))
    assert accounts.total(folder) == expected and journal.names(folder) == []
    assert len(list((tmp_path / accounts.FOLDER).iterdir())) == 1


def test_a_process_at_work_is_not_settled(tmp_path):
    folder = str(tmp_path)
    own = Journal(folder)
    own.add([sent(0)])
    assert journal.dead(folder) == [] and accounts.total(folder).attempts == 1
    own.close(remove=False)
    assert journal.dead(folder) == [own.token]


def test_a_damaged_file_is_said_and_the_others_count(tmp_path, caplog):
    folder = str(tmp_path)
    accounts.publish(folder, "a", 1, "", FATES["answered"][0])
    accounts.publish(folder, "b", 1, "", FATES["answered"][0])
    path = tmp_path / accounts.FOLDER / "a.json"
    path.write_text(path.read_text().replace("50", "51"))
    assert accounts.total(folder) == FATES["answered"][0] and "damaged" in caplog.text
